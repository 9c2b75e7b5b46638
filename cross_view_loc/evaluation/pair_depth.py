"""Depth that was computed beforehand (`cross_view_loc depth`), image by image as a benchmark's pairs come."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.depth.source import DepthSource
from cross_view_loc.evaluation.pairs import LoadedPair, columns_rolled
from cross_view_loc.geometry.cameras import Camera


@runtime_checkable
class StoredDepth(Protocol):
    """A folder of depth: what `precomputed:DIR` opens."""

    def depth_m(self, image: Path, camera: Camera) -> NDArray[np.float32]:
        """(h, w) metres. Raises MissingInputError or InputError naming the image."""
        ...

    def maps(self, image: Path) -> Any:
        """The same with `log_spread` (h, w), or None where nobody says how sure it is."""
        ...

    def source(
        self, depth_m: NDArray[np.float32], camera: Camera, log_spread: NDArray[np.float32] | None = None
    ) -> DepthSource:
        """A depth source of one image's depth."""
        ...


def show_stored_depth(localizer: Any) -> Callable[[LoadedPair], None]:
    """What gives a localizer the stored depth of each pair before it is located; nothing for any other depth source.

    A panorama's depth is rolled as its image is.
    """
    stored = getattr(localizer, "depth", None)
    if not isinstance(stored, StoredDepth):
        return lambda loaded: None

    def show(loaded: LoadedPair) -> None:
        image, camera = loaded.pair.image, loaded.frame.camera
        depth_m, log_spread = stored.depth_m(image, camera), stored.maps(image).log_spread
        columns = columns_rolled(loaded.pair, depth_m.shape[1])
        if log_spread is not None:
            log_spread = np.roll(log_spread, columns, axis=1)
        localizer.depth = stored.source(np.roll(depth_m, columns, axis=1), camera, log_spread)

    return show


def both(first: Callable[[LoadedPair], None], second: Callable[[LoadedPair], None]) -> Callable[[LoadedPair], None]:
    """One after the other."""

    def prepare(loaded: LoadedPair) -> None:
        first(loaded)
        second(loaded)

    return prepare
