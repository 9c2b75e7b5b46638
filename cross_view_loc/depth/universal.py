"""UniK3D and UniDepth V2 through their authors' own packages, which are imported only when asked for.

Written after the calls their public descriptions show (`from_pretrained`, `infer(rgb, camera)`, `points`, `depth`) and
tested against stand-ins of these; it has not been run on the real packages and weights.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from cross_view_loc.depth.model import Along, Measure
from cross_view_loc.errors import ModelError

PACKAGES = {"unik3d": "UniK3D", "unidepth": "UniDepthV2"}
SOURCES = {"unik3d": "github.com/lpiccinelli-eth/UniK3D", "unidepth": "github.com/lpiccinelli-eth/UniDepth"}


class UniversalDepth:
    """UniK3D (distance along the ray) or UniDepth V2 (z) as a `DepthModel`, told the camera's focal length."""

    def __init__(
        self,
        where: Path,
        package: str,
        device: str = "cpu",
        *,
        name: str = "",
        licence: str = "",
        measure: str = "",
        along: str = "",
    ) -> None:
        """Load from a folder of released files. Raises ModelError when the package or the folder cannot be used."""
        self.name, self.licence, self.device, self._package = name or str(where), licence, device, package
        self.measure = cast(Measure, measure or "metric")
        self.along = cast(Along, along or ("range" if package == "unik3d" else "z"))
        try:
            models = importlib.import_module(f"{package}.models")
            self._cameras = importlib.import_module(f"{package}.utils.camera")
        except ImportError as error:
            raise ModelError(
                f"the depth model '{self.name}' needs the package '{package}', which is missing ({error}); install it "
                f"from {SOURCES[package]}"
            ) from error
        try:
            model = getattr(models, PACKAGES[package]).from_pretrained(str(where), local_files_only=True)
        except (OSError, ValueError, RuntimeError, KeyError, AttributeError) as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(". ")
            raise ModelError(f"the depth model '{self.name}' cannot be loaded ({first}); fetch it again") from error
        self._model = model.to(device).eval()

    @torch.inference_mode()
    def __call__(self, images: NDArray[np.uint8], focal_px: NDArray[np.float64]) -> NDArray[np.float32]:
        """As `DepthModel`; a focal length that is NaN is left to the model."""
        maps = []
        for image, focal in zip(images, np.asarray(focal_px, dtype=float), strict=True):
            rgb = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).to(self.device)
            camera = None if np.isnan(focal) else self._camera(float(focal), image.shape[1], image.shape[0])
            maps.append(self._map(self._model.infer(rgb, camera), image.shape[:2]))
        found = np.stack(maps)
        return np.where(np.isfinite(found) & (found > 0), found, np.float32(np.nan))

    def _camera(self, focal_px: float, width: int, height: int) -> Any:
        """Their pinhole camera with the principal point in the middle."""
        if self._package == "unik3d":
            return self._cameras.Pinhole(params=torch.tensor([focal_px, focal_px, width / 2, height / 2]))
        matrix = [[focal_px, 0.0, width / 2], [0.0, focal_px, height / 2], [0.0, 0.0, 1.0]]
        return self._cameras.Pinhole(K=torch.tensor([matrix]))

    def _map(self, found: dict[str, torch.Tensor], shape: tuple[int, ...]) -> NDArray[np.float32]:
        if self.along == "range":
            depth = found["points"].float().reshape(3, *shape).norm(dim=0)  # points lie on their pixels' rays
        else:
            depth = found["depth"].float().reshape(*shape)
        return depth.cpu().numpy().astype(np.float32)
