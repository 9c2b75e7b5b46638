"""The machine: networks, accelerator, memory, libraries, and how long one frame takes."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path

from cross_view_loc import __version__
from cross_view_loc.aerial.map import AerialMap
from cross_view_loc.aerial.sources import AerialSource
from cross_view_loc.doctor.findings import Finding, Group
from cross_view_loc.errors import CrossViewError
from cross_view_loc.geometry.geodesy import MapProjection
from cross_view_loc.settings import Settings
from cross_view_loc.types import Frame, Prior

GROUP = Group("machine")
PACKAGES = ("numpy", "opencv-python", "torch", "pyproj", "rosbags", "httpx", "pmtiles", "safetensors", "rasterio")
LEAST_FREE_GIB = 1.5


def machine_findings(settings: Settings) -> list[Finding]:
    """All that can be said without a recording."""
    findings = [_versions(), _ros(), _memory(settings)]
    if importlib.util.find_spec("torch") is None:
        findings.append(
            GROUP.fail(
                "machine.torch", "PyTorch is not installed.", "Install it: pip install torch (or python3-torch)."
            )
        )
        return findings
    return findings + _torch(settings) + _weights(settings)


def _versions() -> Finding:
    found, missing = {}, []
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
    # Distributions of ROS bring OpenCV without the package index's name.
    missing = [name for name in missing if name not in ("rasterio", "torch")]
    if "opencv-python" in missing and importlib.util.find_spec("cv2") is not None:
        missing.remove("opencv-python")
    text = ", ".join(f"{name} {version}" for name, version in found.items())
    python = f"Python {sys.version.split()[0]} on {platform.system()} {platform.machine()}"
    data = {"cross_view_loc": __version__, "python": platform.python_version(), **found}
    if missing:
        return GROUP.warn(
            "machine.versions", f"{python}; {text}; missing: {', '.join(missing)}.", f"pip install {' '.join(missing)}",
            data=data,
        )  # fmt: skip
    return GROUP.ok("machine.versions", f"cross_view_loc {__version__}, {python}; {text}.", data=data)


def _ros() -> Finding:
    distribution = os.environ.get("ROS_DISTRO", "")
    has_rclpy = importlib.util.find_spec("rclpy") is not None
    data = {"ROS_DISTRO": distribution, "rclpy": has_rclpy}
    if has_rclpy:
        text = f"ROS 2 is there (rclpy{f', {distribution}' if distribution else ''}): the node can run."
    elif distribution:
        return GROUP.warn(
            "machine.ros", f"ROS_DISTRO is {distribution} but Python {platform.python_version()} finds no rclpy.",
            "Source the ROS installation for this Python, or make the virtual environment with --system-site-packages.",
            data=data,
        )  # fmt: skip
    else:
        text = "No ROS 2 (rclpy): commands on bags work, the node does not."
    return GROUP.ok("machine.ros", text, data=data)


def _memory(settings: Settings) -> Finding:
    cores, free_gib = os.cpu_count() or 1, free_memory_gib()
    threads = settings.threads or max(1, cores // 2)
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    data = {"cores": cores, "threads": threads, "free_gib": None if free_gib is None else round(free_gib, 2)}
    text = f"{cores} cores{load}, {threads} threads for the networks"
    if free_gib is None:
        return GROUP.ok("machine.memory", f"{text}.", data=data)
    text += f", {free_gib:.1f} GiB of memory available"
    if free_gib < LEAST_FREE_GIB:
        return GROUP.warn(
            "machine.memory", f"{text}.", f"Free some: the localizer takes about {LEAST_FREE_GIB:g} GiB.", data=data
        )
    return GROUP.ok("machine.memory", f"{text}.", data=data)


def free_memory_gib() -> float | None:
    """What Linux says can be had without swapping; None elsewhere."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    row = next((line for line in lines if line.startswith("MemAvailable:")), None)
    return None if row is None else int(row.split()[1]) / 2**20


def _torch(settings: Settings) -> list[Finding]:
    import torch

    from cross_view_loc.localizer import pick_device

    try:
        device = pick_device(settings.device)
    except CrossViewError as error:
        return [GROUP.fail("machine.device", f"{error}.", "Set device to auto.", parameter="device", value="auto")]
    if not device.startswith("cuda"):
        return [
            GROUP.ok(
                "machine.device",
                f"torch {torch.__version__} on the CPU: a few images a second.",
                data={"device": device},
            )
        ]
    index = torch.device(device).index or 0
    free, total = torch.cuda.mem_get_info(index)
    name = torch.cuda.get_device_name(index)
    text = f"torch {torch.__version__} on {device} ({name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free)"
    if free < 2**30:
        return [
            GROUP.warn("machine.device", f"{text}.", "Free memory on it, or set device to cpu.", parameter="device",
                       data={"device": device})
        ]  # fmt: skip
    return [GROUP.ok("machine.device", f"{text}.", data={"device": device})]


def _weights(settings: Settings) -> list[Finding]:
    from cross_view_loc.commands.models import describe
    from cross_view_loc.networks.weights import DEPTH_FILE, MATCHER_FILE, SHIPPED

    folder = Path(settings.weights_dir) if settings.weights_dir else SHIPPED
    wanted = [("matcher", folder / MATCHER_FILE)]
    if settings.depth == "learned":
        wanted.append(("depth", folder / DEPTH_FILE))
    if settings.loc2_weights:
        wanted.append(("matcher", Path(settings.loc2_weights)))
    findings = []
    for role, path in wanted:
        try:
            row = describe(role, path)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except (CrossViewError, OSError) as error:
            findings.append(
                GROUP.fail("machine.weights", f"The {role}'s weights cannot be loaded: {error}.",
                           "Install the package again, or correct weights_dir.", parameter="weights_dir")
            )  # fmt: skip
            continue
        findings.append(
            GROUP.ok(
                "machine.weights",
                f"{role}: {path.name}, {row['millions']} M parameters, {row['megabytes']} MB, sha256 {digest[:12]}….",
                data={"file": str(path), "sha256": digest},
            )
        )
    return findings + _depth_models(settings)


def _depth_models(settings: Settings) -> list[Finding]:
    """Whether other people's models, where some are chosen, are on this machine; nothing is loaded."""
    from cross_view_loc.depth.spec import is_here, parse_depth

    findings, names = [], (settings.depth, *settings.depth_fallback)
    for name in names:
        spec = parse_depth(name)
        if spec.source in ("learned", "flat"):
            continue
        try:
            found = is_here(spec)
        except CrossViewError as error:
            stands_in = len(names) > 1
            level = GROUP.warn if stands_in else GROUP.fail
            findings.append(
                level("machine.depth", f"Depth '{name}' cannot be had: {error}.",
                      "Fetch it" + (", or let the next of depth_fallback stand in for it." if stands_in else "."),
                      parameter="depth")
            )  # fmt: skip
            continue
        findings.append(GROUP.ok("machine.depth", f"Depth '{name}': {found}.", data={"depth": name}))
    return findings


def timed_frame(
    source: AerialSource, projection: MapProjection, settings: Settings, frame: Frame, prior: Prior
) -> Finding:
    """One of the drive's own images localized twice, the second time timed; no verdict on the pose."""
    from cross_view_loc.localizer import Localizer

    try:
        localizer = Localizer(AerialMap(source, projection), settings.localizer_settings())
        localizer.locate([frame], prior)
        started = time.perf_counter()
        estimate = localizer.locate([frame], prior)
        seconds = time.perf_counter() - started
    except CrossViewError as error:
        return GROUP.warn("machine.frame", f"An image of the drive could not be localized: {error}", "See above.")
    word = "accepted" if estimate.accepted else f"refused: {estimate.reason}"
    return GROUP.ok(
        "machine.frame",
        f"One image of the drive takes {seconds:.2f} s here ({word}; {estimate.inlier_ratio:.0%} of its ground "
        "agrees with "
        "the map).",
        data={"seconds": round(seconds, 3), "accepted": estimate.accepted},
    )
