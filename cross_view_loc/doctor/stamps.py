"""Rate, gaps, order and latency of one topic, counted as its messages come, in bounded memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from cross_view_loc.doctor.findings import Finding, Group
from cross_view_loc.doctor.headers import Header
from cross_view_loc.inputs.stamps import NS_PER_S
from cross_view_loc.settings import Settings

_KEPT = 4096
LARGEST_LATENCY_SPREAD_S = 1.0
FUTURE_S = 0.05
"""A stamp this much after its recording cannot be."""


class Thinned:
    """A sample of a long series: every n-th value, where n doubles as often as needed. Deterministic."""

    def __init__(self, kept: int = _KEPT) -> None:
        self.values: list[float] = []
        self._kept, self._every, self._seen = kept, 1, 0

    def add(self, value: float) -> None:
        """Another value of the series."""
        if self._seen % self._every == 0:
            self.values.append(value)
            if len(self.values) >= 2 * self._kept:
                self.values, self._every = self.values[::2], 2 * self._every
        self._seen += 1

    def quantile(self, share: float) -> float:
        """NaN without values."""
        return float(np.quantile(self.values, share)) if self.values else float("nan")


@dataclass
class StampRecord:
    """What the stamps of one topic are like; stamps of headers, times of recording, both in ns."""

    count: int = 0
    unreadable: int = 0
    first_ns: int | None = None
    last_ns: int | None = None
    duplicates: int = 0
    backwards: int = 0
    largest_back_s: float = 0.0
    zero_stamps: int = 0
    gaps: list[tuple[float, int]] = field(default_factory=list)
    """The largest intervals (s), each with the stamp it began at."""
    frames: Counter[str] = field(default_factory=Counter)
    intervals_s: Thinned = field(default_factory=Thinned)
    latencies_s: Thinned = field(default_factory=Thinned)
    newest_ns: int | None = None

    def add(self, header: Header | None, time_ns: int) -> None:
        """Another message, in the order of recording."""
        self.count += 1
        if header is None:
            self.unreadable += 1
            return
        stamp = header.stamp_ns
        if self.frames[header.frame_id] or len(self.frames) < 50:
            self.frames[header.frame_id] += 1
        if stamp == 0:
            self.zero_stamps += 1
            return
        self.first_ns = stamp if self.first_ns is None else self.first_ns
        self.latencies_s.add((time_ns - stamp) / NS_PER_S)
        if self.newest_ns is not None:
            step_s = (stamp - self.newest_ns) / NS_PER_S
            if step_s == 0.0:
                self.duplicates += 1
            elif step_s < 0.0:
                self.backwards += 1
                self.largest_back_s = max(self.largest_back_s, -step_s)
            else:
                self.intervals_s.add(step_s)
                if len(self.gaps) < 20 or step_s > self.gaps[-1][0]:
                    self.gaps = sorted([*self.gaps, (step_s, self.newest_ns)], reverse=True)[:20]
        self.newest_ns = stamp if self.newest_ns is None else max(self.newest_ns, stamp)
        self.last_ns = stamp

    @property
    def interval_s(self) -> float:
        """Median; NaN with fewer than two messages."""
        return self.intervals_s.quantile(0.5)

    @property
    def rate_hz(self) -> float:
        return 1.0 / self.interval_s

    @property
    def latency_s(self) -> float:
        """Median of recording less stamp."""
        return self.latencies_s.quantile(0.5)

    @property
    def frame_id(self) -> str:
        """The most frequent one; empty when there is none."""
        return self.frames.most_common(1)[0][0] if self.frames else ""


def stamp_findings(group: Group, topic: str, record: StampRecord, bag_start_ns: int, gap_s: float) -> list[Finding]:
    """How one input's stamps are: rate, gaps longer than `gap_s`, order, frame."""
    findings: list[Finding] = []
    if record.unreadable:
        findings.append(
            group.warn(
                "stamps.unreadable",
                f"{record.unreadable} of {record.count} messages on {topic} are too short to hold a header.",
                "Record again, or repair the bag with `ros2 bag reindex`.",
            )
        )
    if record.zero_stamps:
        share = record.zero_stamps / record.count
        make = group.fail if share > 0.5 else group.warn
        findings.append(
            make(
                "stamps.zero",
                f"{record.zero_stamps} of {record.count} messages on {topic} have stamp 0.",
                "Have the driver fill header.stamp with the time of measurement.",
            )
        )
    if record.backwards or record.duplicates:
        parts = [
            f"{record.duplicates} repeat the stamp before" if record.duplicates else "",
            f"{record.backwards} go back (by up to {record.largest_back_s:.3f} s)" if record.backwards else "",
        ]
        findings.append(
            group.warn(
                "stamps.order",
                f"Of {record.count} stamps on {topic}, {' and '.join(part for part in parts if part)}.",
                "Have one driver publish on the topic, and stamp with the time of measurement; such images "
                "are skipped.",
                data={"duplicates": record.duplicates, "backwards": record.backwards},
            )
        )
    long = [gap for gap in record.gaps if gap[0] > max(gap_s, 3.0 * record.interval_s)]
    if long:
        length_s, at_ns = long[0]
        more = "or more " if len(long) == 20 else ""
        findings.append(
            group.warn(
                "stamps.gaps",
                f"{topic} is silent {len(long)} times {more}for longer than {max(gap_s, 3.0 * record.interval_s):.2g} s"
                f", longest {length_s:.2f} s at {(at_ns - bag_start_ns) / NS_PER_S:.1f} s into the bag.",
                "Check the driver, its cable and the recorder's queue; images in a gap get no pose or a wider search.",
                data={"count": len(long), "longest_s": length_s},
            )
        )
    if len(record.frames) > 1:
        names = ", ".join(f"'{name}' ({count})" for name, count in record.frames.most_common(4))
        findings.append(
            group.warn(
                "stamps.frames",
                f"Messages on {topic} come with different frame_ids: {names}.",
                "Give every sensor a topic of its own.",
            )
        )
    return findings


def clock_findings(records: dict[str, StampRecord], settings: Settings) -> list[Finding]:
    """Latency of every input, and whether their stamps come from one clock."""
    group = Group("clocks")
    known = {topic: record for topic, record in records.items() if record.latencies_s.values}
    if not known:
        return []
    latency = {topic: record.latency_s for topic, record in known.items()}
    text = ", ".join(f"{topic} {seconds * 1e3:.0f} ms" for topic, seconds in latency.items())
    data = {topic: round(seconds, 4) for topic, seconds in latency.items()}
    middle_s = float(np.median(list(latency.values())))
    apart = {topic: s for topic, s in latency.items() if abs(s - middle_s) > LARGEST_LATENCY_SPREAD_S}
    if len(known) > 2 and apart and len(apart) < len(known):
        topic, seconds = max(apart.items(), key=lambda item: abs(item[1] - middle_s))
        side = "behind" if seconds > middle_s else "ahead of"
        return [
            group.fail(
                "clocks.offset",
                f"Stamps on {topic} lie {abs(seconds - middle_s):.2f} s {side} those of the other inputs, against the "
                f"recorder's clock ({_short(text)}).",
                "Stamp all sensors from one clock (PTP, chrony, or the driver's host time); inputs are joined "
                "by stamp.",
                data=data,
            )
        ]
    spread_s = max(latency.values()) - min(latency.values())
    if spread_s > LARGEST_LATENCY_SPREAD_S:
        return [
            group.fail(
                "clocks.offset",
                f"Inputs differ by {spread_s:.2f} s in stamp against the recorder's clock ({_short(text)}).",
                "Stamp all sensors from one clock (PTP, chrony, or the driver's host time); inputs are joined "
                "by stamp.",
                data=data,
            )
        ]
    findings: list[Finding] = []
    if abs(middle_s) > LARGEST_LATENCY_SPREAD_S:
        findings.append(
            group.ok(
                "clocks.offset",
                f"All inputs are stamped {abs(middle_s):.1f} s {'before' if middle_s > 0 else 'after'} their "
                "recording, "
                "alike: another clock, or a bag recorded from a replay; harmless offline.",
                data=data,
            )
        )
    elif min(latency.values()) < -FUTURE_S:
        topic = min(latency, key=lambda name: latency[name])
        findings.append(
            group.warn(
                "clocks.future",
                f"Stamps on {topic} lie {-latency[topic] * 1e3:.0f} ms after their own recording.",
                "Synchronise the sensor's clock with the recorder's; a pose is wrong by the speed times such an error.",
                data=data,
            )
        )
    slowest = max(latency, key=lambda name: latency[name])
    if latency[slowest] - min(latency.values()) > settings.max_frame_age_s / 2:
        findings.append(
            group.warn(
                "clocks.latency",
                f"{slowest} arrives {(latency[slowest] - min(latency.values())) * 1e3:.0f} ms after the fastest input.",
                f"Images are dropped in the node when other inputs are max_frame_age_s ({settings.max_frame_age_s:g} s)"
                " newer; make the slow driver faster or raise it.",
                parameter="max_frame_age_s",
                data=data,
            )
        )
    if not findings:
        findings.append(
            group.ok("clocks.offset", f"Stamps agree with the recorder's clock: latency {_short(text)}.", data=data)
        )
    return findings


def _short(text: str, most: int = 300) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
