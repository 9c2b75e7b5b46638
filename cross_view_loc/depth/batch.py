"""Depth of many images into a folder: what is there stays, what cannot be read is named, in several processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from cross_view_loc.depth.source import DepthSource
from cross_view_loc.depth.stored import fits, is_whole, read_maps, stored_shape, write_maps
from cross_view_loc.depth.whole_image import depth_of_image
from cross_view_loc.errors import CrossViewError, InputError
from cross_view_loc.geometry.cameras import EquirectangularCamera
from cross_view_loc.inputs.camera_text import parse_camera
from cross_view_loc.types import Frame

Outcome = Literal["made", "kept", "bad"]


@dataclass(frozen=True)
class Job:
    """One image to compute."""

    image: Path
    target: Path
    camera: str
    """As a manifest writes it."""
    T_base_camera: NDArray[np.float64]


@dataclass(frozen=True)
class Work:
    """What all jobs share."""

    depth: str
    weights_folder: Path
    device: str
    shrink: int = 1


@dataclass(frozen=True)
class Done:
    """What became of a job."""

    image: Path
    outcome: Outcome
    problem: str = ""
    """One sentence about a bad image."""


def is_good(target: Path, width: int, height: int, shrink: int) -> bool:
    """Whether an earlier run has left whole depth of that image."""
    maps = read_maps(target)
    return maps is not None and fits(maps.depth_m.shape, width, height, shrink)


def compute(job: Job, work: Work, source: DepthSource) -> Done:
    """Compute and write one image's depth, unless it is there."""
    try:
        image = read_image(job.image)
        height, width = image.shape[:2]
        if is_good(job.target, width, height, work.shrink):
            return Done(job.image, "kept")
        camera = parse_camera(job.camera, job.image.parent, width, height)
        if isinstance(camera, EquirectangularCamera):
            check_shrink(width, height, work.shrink)
        maps = depth_of_image(Frame(image, camera, 0, job.T_base_camera, name=job.image.name), source, work.shrink)
    except CrossViewError as error:
        return Done(job.image, "bad", str(error))
    write_maps(job.target, maps)
    return Done(job.image, "made")


def compute_all(jobs: Sequence[Job], work: Work, source: DepthSource, processes: int = 1) -> Iterator[Done]:
    """All jobs, in any order; further processes load the source themselves."""
    if processes <= 1 or len(jobs) < 2:
        yield from (compute(job, work, source) for job in jobs)
        return
    context = multiprocessing.get_context("spawn")  # a fork of a process whose torch has threads may hang
    with ProcessPoolExecutor(processes, context, _begin, (work,)) as pool:
        futures = [pool.submit(_compute_here, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def read_image(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) RGB. Raises InputError when it is no picture or not whole."""
    try:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if is_whole(path) else None
    except cv2.error:
        image = None
    if image is None:
        raise InputError(f"{path} cannot be read as an image; download or copy it again")
    return np.ascontiguousarray(image[..., ::-1], dtype=np.uint8)


def check_shrink(width: int, height: int, shrink: int) -> None:
    """Raises InputError when a panorama's depth would no longer be 2:1."""
    rows, columns = stored_shape(width, height, shrink)
    if columns != 2 * rows:
        raise InputError(f"panoramas of {width}x{height} cannot be shrunk by {shrink}; choose a divisor of {height}")


_here: list[tuple[Work, DepthSource]] = []
"""The work of a further process."""


def _begin(work: Work) -> None:
    import torch

    from cross_view_loc.depth.choose import make_depth

    torch.set_num_threads(1)
    _here.append((work, make_depth(work.depth, work.weights_folder, work.device)))


def _compute_here(job: Job) -> Done:
    return compute(job, *_here[0])
