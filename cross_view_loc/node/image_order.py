"""Which images come too late to be localized."""

from __future__ import annotations

from cross_view_loc.inputs.stamps import NS_PER_S, to_ns


def wrong_stamp(
    topic: str, stamp_ns: int, last_ns: int, newest_input: tuple[str, int], max_age_s: float
) -> tuple[str, str] | None:
    """Why an image of this stamp is dropped: a name to count it by and a sentence; None when it is not.

    `last_ns` is the stamp last localized, `newest_input` topic and stamp of whichever input is newest.
    """
    if stamp_ns <= last_ns:
        late_s = (last_ns - stamp_ns) / NS_PER_S
        return "dropped: not newer than the last image", (
            f"{topic}: image has a stamp {late_s:.3f} s before the last one localized, not after it, and poses leave "
            "in order; make its driver give every image its own, growing stamp"
        )
    newest_topic, newest_ns = newest_input
    if newest_ns - stamp_ns > to_ns(max_age_s):
        behind_s = (newest_ns - stamp_ns) / NS_PER_S
        return "dropped: too old", (
            f"{topic}: image is {behind_s:.1f} s older than the newest stamp on {newest_topic}; "
            "set both drivers to one clock (chrony, PTP), or raise max_frame_age_s if images come that late"
        )
    return None
