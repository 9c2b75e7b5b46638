"""Any depth-estimation model of Hugging Face's `transformers`, from a local folder or its cache; never downloads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cross_view_loc.depth.hf_images import (
    back_to_images,
    from_configuration,
    from_processor,
    metres_of_canonical,
)
from cross_view_loc.depth.hf_library import image_processor, quiet, sentences, transformers_for
from cross_view_loc.depth.model import Along, Measure
from cross_view_loc.errors import ModelError

METRIC = ("zoedepth", "glpn", "depth_pro", "tipsv2_dpt")
"""Model types whose numbers are metres whatever their configuration says."""
CONFIGURED = ("depth_anything", "prompt_depth_anything")
"""Model types whose configuration says it (`depth_estimation_type`)."""
UNUSED = "fusion_stage.layers.0.residual_layer1."
"""Parameters that released DPT weights lack: the first fusion has nothing to add, so nothing computes with them."""
LARGEST_BATCH = 8
WHAT = "depth model"


class HuggingFaceDepth:
    """A model of `AutoModelForDepthEstimation` with its image processor, as a `DepthModel`.

    Single precision on every device.
    """

    along: Along = "z"

    def __init__(
        self,
        where: str | Path,
        device: str = "cpu",
        *,
        name: str = "",
        licence: str = "",
        measure: str = "",
        along: str = "",
        side_px: int = 0,
    ) -> None:
        """Load from a folder, or by name from Hugging Face's cache on this machine.

        `measure` and `along` override what the configuration says; `side_px` replaces the size in the image
        processor's configuration. Raises ModelError when `transformers` is missing, when the model is not here, not
        whole, or does not say what its numbers are.
        """
        self.name, self.licence, self.device = name or str(where), licence, device
        transformers = transformers_for(self.name, WHAT)
        with sentences(self.name, WHAT), quiet(transformers):
            config = transformers.AutoConfig.from_pretrained(where, local_files_only=True)
            model, found = transformers.AutoModelForDepthEstimation.from_pretrained(
                where, config=config, local_files_only=True, output_loading_info=True
            )
        missing = sorted(key for key in found["missing_keys"] if UNUSED not in key)
        if missing or found["mismatched_keys"]:
            what = missing[0] if missing else str(next(iter(found["mismatched_keys"])))
            raise ModelError(
                f"the depth model '{self.name}' is not whole: its weights do not have {what}; fetch it again"
            )
        self.measure = cast(Measure, measure or measure_of(config, self.name))
        self.along = cast(Along, along or "z")
        self._side_px, self._type = side_px, str(config.model_type)
        self._model = model.float().requires_grad_(False).to(device).eval()
        self._processor, self._configuration = image_processor(transformers, where, self.name, WHAT)

    @torch.inference_mode()
    def __call__(self, images: NDArray[np.uint8], focal_px: NDArray[np.float64]) -> NDArray[np.float32]:
        """As `DepthModel`; a focal length that is NaN is estimated by models that do so (Depth Pro)."""
        parts = [slice(first, first + LARGEST_BATCH) for first in range(0, len(images), LARGEST_BATCH)]
        return np.concatenate([self._maps(images[part], np.asarray(focal_px)[part]) for part in parts])

    def _maps(self, images: NDArray[np.uint8], focal_px: NDArray[np.float64]) -> NDArray[np.float32]:
        shape = (images.shape[1], images.shape[2])
        if self._processor is not None:
            pixels = from_processor(self._processor, images, self._side_px)
        else:
            pixels = from_configuration(self._configuration, images, self._side_px)
        output = self._model(pixel_values=pixels.to(self.device, torch.float32))
        maps: Tensor = output.predicted_depth.float()
        maps = maps[:, 0] if maps.ndim == 4 else maps
        if self._type == "depth_pro":
            maps = metres_of_canonical(maps, self._focal_per_width(focal_px, shape[1], output), shape)
        else:
            maps = back_to_images(
                maps, shape, self._type == "zoedepth" and bool(self._configuration.get("do_pad", True))
            )
        found = maps.cpu().numpy().astype(np.float32)
        valid = np.isfinite(found) & ((found > 0) | (self.measure == "inverse"))
        return np.where(valid, found, np.float32(np.nan))

    def _focal_per_width(self, focal_px: NDArray[np.float64], width_px: int, output: Any) -> Tensor:
        known = torch.as_tensor(focal_px / width_px, dtype=torch.float32, device=self.device)
        field_deg = getattr(output, "field_of_view", None)
        if field_deg is None:
            return torch.nan_to_num(known, nan=1.0)
        return torch.where(known.isnan(), 0.5 / torch.tan(torch.deg2rad(field_deg.float().reshape(-1)) / 2), known)


def measure_of(config: Any, name: str) -> Measure:
    """What a model's numbers are, by its configuration. Raises ModelError for a kind that is not known."""
    kind = str(getattr(config, "model_type", ""))
    if kind in METRIC:
        return "metric"
    if kind in CONFIGURED:
        return "metric" if config.depth_estimation_type == "metric" else "inverse"
    if kind == "dpt":
        # DPT and MiDaS learn inverse depth. On DINOv2 there are only the heads released for NYU and KITTI, in metres.
        return "metric" if getattr(config.backbone_config, "model_type", "") == "dinov2" else "inverse"
    raise ModelError(
        f"the depth model '{name}' is of the kind '{kind}', which does not say whether its numbers are depth; add "
        "?measure=metric, ?measure=relative or ?measure=inverse to its name"
    )
