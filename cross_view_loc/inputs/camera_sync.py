"""Images of several cameras that belong to one moment, found by their stamps.

The first camera of the list that delivers leads: each of its images opens a group, and of every other camera the image
nearest in stamp, within a tolerance, joins it. A camera whose newest image is `stall_ns` behind the others' has
stalled: nobody waits for it, and when it led, the next one leads. Only stamps decide, so with a tolerance below half
the time between two images a bag always makes the same groups.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cross_view_loc.inputs.stamps import stamp_ns, to_ns
from cross_view_loc.settings import Settings

STALLED_S = 1.0
"""A camera this far behind the others does not hold them up."""
IMAGES_KEPT, GROUPS_OPEN = 2, 8


@dataclass(eq=False)
class ImageGroup:
    """Image messages of one moment, by camera."""

    lead: str
    stamp_ns: int
    messages: dict[str, Any] = field(default_factory=dict)


class ImageGroups:
    """Sorts images into groups. Safe for two threads."""

    def __init__(self, cameras: Sequence[str], tolerance_ns: int, stall_ns: int) -> None:
        self.unpaired = 0
        """Images of other cameras than the leading one that joined no group."""
        self._cameras = tuple(cameras)
        self.tolerance_ns, self.stall_ns = tolerance_ns, stall_ns
        self._lock = threading.Lock()
        self._newest: dict[str, int] = {}
        self._kept: dict[str, deque[Any]] = {name: deque(maxlen=IMAGES_KEPT) for name in self._cameras}
        self._open: deque[ImageGroup] = deque(maxlen=GROUPS_OPEN)

    def add(self, camera: str, message: Any) -> ImageGroup | None:
        """Take an image; the group that it opens, when its camera leads."""
        stamp = stamp_ns(message)
        with self._lock:
            if not self._newest:
                self._newest = dict.fromkeys(self._cameras, stamp)
            self._newest[camera] = max(stamp, self._newest[camera])
            if camera != self._lead():
                self._join(camera, stamp, message)
                return None
            group = ImageGroup(camera, stamp, {camera: message})
            for other, kept in self._kept.items():
                if other == camera or not kept:
                    continue
                best = min(kept, key=lambda each: abs(stamp_ns(each) - stamp))
                if abs(stamp_ns(best) - stamp) <= self.tolerance_ns:
                    group.messages[other] = best
                    kept.remove(best)
            self._open.append(group)
            return group

    def is_complete(self, group: ImageGroup) -> bool:
        """Whether no other image can be expected to join the group."""
        with self._lock:
            missing = [name for name in self._cameras if name not in group.messages]
            last_ns = group.stamp_ns + self.tolerance_ns
            return not any(self._is_live(name) and self._newest[name] <= last_ns for name in missing)

    def take(self, group: ImageGroup) -> list[tuple[str, Any]]:
        """Cameras and messages of the group, the leading one first, then as listed; nothing joins it any more."""
        with self._lock:
            if group in self._open:
                self._open.remove(group)
            others = [name for name in self._cameras if name in group.messages and name != group.lead]
            return [(name, group.messages[name]) for name in (group.lead, *others)]

    def stalled(self) -> list[str]:
        """Cameras far behind the others."""
        with self._lock:
            return [name for name in self._cameras if self._newest and not self._is_live(name)]

    def clear(self) -> None:
        """Forget everything, as after a jump back in time."""
        with self._lock:
            self._newest = {}
            self._open.clear()
            for kept in self._kept.values():
                kept.clear()

    def _join(self, camera: str, stamp: int, message: Any) -> None:
        wanting = [
            group
            for group in self._open
            if camera not in group.messages and abs(group.stamp_ns - stamp) <= self.tolerance_ns
        ]
        if wanting:
            min(wanting, key=lambda group: abs(group.stamp_ns - stamp)).messages[camera] = message
            return
        kept = self._kept[camera]
        self.unpaired += len(kept) == IMAGES_KEPT
        kept.append(message)

    def _lead(self) -> str:
        return next(name for name in self._cameras if self._is_live(name))

    def _is_live(self, camera: str) -> bool:
        return self._newest[camera] >= max(self._newest.values()) - self.stall_ns


def image_groups(settings: Settings, cameras: Sequence[str] = ()) -> ImageGroups:
    """Groups of the settings' cameras, or of those named."""
    names = list(cameras) or [camera.name for camera in settings.rig]
    return ImageGroups(names, to_ns(settings.camera_tolerance_s), to_ns(STALLED_S))
