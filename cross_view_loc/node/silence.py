"""Says once in the log which inputs have never come, and which topics of their types there are instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

TYPES = {
    "image": ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"),
    "depth": ("sensor_msgs/msg/Image",),
    "camera_info": ("sensor_msgs/msg/CameraInfo",),
    "fix": ("sensor_msgs/msg/NavSatFix",),
    "odometry": ("nav_msgs/msg/Odometry",),
    "imu": ("sensor_msgs/msg/Imu",),
}
"""Of the inputs by their role; without ROS, so that the rule can be tested."""
MOST = 6


class Silence:
    """Warns of an input once when nobody publishes its type, and once when somebody does, on another topic."""

    def __init__(self, warn: Callable[[str], object]) -> None:
        self._warn = warn
        self._told: set[tuple[str, bool]] = set()

    def begin(self) -> None:
        """The node begins to listen: what was told may be told again."""
        self._told.clear()

    def check(self, silent: Mapping[str, str], published: Mapping[str, Sequence[str]], timeout_s: float) -> None:
        """`silent` are the topics that have never come by their input's key, "image" or "left image"; `published` the
        types of every topic that somebody else publishes."""
        news = []
        for key, topic in silent.items():
            types = TYPES[key.rsplit(" ", 1)[-1]]
            there = [name for name, kinds in sorted(published.items()) if name != topic and set(kinds) & set(types)]
            wrong = [kind for kind in published.get(topic, ()) if kind not in types]
            found = bool(there or topic in published)
            if (key, found) in self._told:
                continue
            self._told.add((key, found))
            news.append(f"{topic} ({key}{_there(topic in published, wrong)}); {_instead(types, there)}")
        if news:
            self._warn(
                f"nothing has come for {timeout_s:g} s on {'. Nor on '.join(news)}. Set the parameters to the topics "
                "that there are, or remap them"
            )


def _there(is_published: bool, wrong: Sequence[str]) -> str:
    if wrong:
        return f", published as {', '.join(_short(kind) for kind in wrong)}"
    return ", published, but perhaps with another quality of service" if is_published else ", nobody publishes it"


def _instead(types: Sequence[str], there: Sequence[str]) -> str:
    kind = " or ".join(map(_short, types))
    if not there:
        return f"there is no other topic of type {kind}"
    return f"topics of type {kind}: {', '.join(there[:MOST])}{' …' if len(there) > MOST else ''}"


def _short(kind: str) -> str:
    return kind.replace("/msg/", "/")
