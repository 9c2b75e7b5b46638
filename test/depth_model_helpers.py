"""Tiny depth models of the architectures that `transformers` has, with random weights, saved as released ones are."""

import json
from pathlib import Path

import numpy as np

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
DPT_IMAGES = {"size": {"height": 56, "width": 70}, "keep_aspect_ratio": True, "ensure_multiple_of": 14,
              "image_mean": MEAN, "image_std": STD}  # fmt: skip


def save_tiny(kind: str, folder: Path, seed: int = 0) -> Path:
    """A random model with its processor in `folder`; `kind` names the architecture, after a dash its variant."""
    import torch
    import transformers as t

    torch.manual_seed(seed)
    model, processor = _MAKERS[kind](t)
    with torch.no_grad():  # weights as they are initialised give almost the same number everywhere
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, (2.0 / parameter[0].numel()) ** 0.5)
            elif "head" in name and name.endswith("bias"):
                parameter.fill_(0.3)  # a closing ReLU would cut everything else away
    model.eval().save_pretrained(folder)
    if isinstance(processor, dict):
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    else:
        processor.save_pretrained(folder)
    return folder


def picture(count: int = 2, height: int = 48, width: int = 80, seed: int = 3) -> np.ndarray:
    """Smooth random images (N, H, W, 3): resizing filters agree on them, and pixels differ."""
    import cv2

    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, 6, 10, 3), dtype=np.uint8)
    return np.stack([cv2.resize(each, (width, height), interpolation=cv2.INTER_CUBIC) for each in small])


def _depth_anything(kind: str, max_depth: int):
    def make(t):
        backbone = t.Dinov2Config(
            hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=56, patch_size=14,
            out_indices=[1, 2, 3, 4], reshape_hidden_states=False, apply_layernorm=True,
        )  # fmt: skip
        config = t.DepthAnythingConfig(
            backbone_config=backbone, patch_size=14, reassemble_hidden_size=16, neck_hidden_sizes=[8, 8, 8, 8],
            fusion_hidden_size=8, head_hidden_size=4, depth_estimation_type=kind, max_depth=max_depth,
        )  # fmt: skip
        return t.DepthAnythingForDepthEstimation(config), t.DPTImageProcessorPil(resample=3, **DPT_IMAGES)

    return make


def _dpt(t):
    config = t.DPTConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16, image_size=64, patch_size=16,
        backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8, is_hybrid=False,
    )  # fmt: skip
    return t.DPTForDepthEstimation(config), t.DPTImageProcessorPil(size={"height": 64, "width": 64})


def _glpn(t):
    config = t.GLPNConfig(
        num_encoder_blocks=4, depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=8, max_depth=80,
    )  # fmt: skip
    return t.GLPNForDepthEstimation(config), t.GLPNImageProcessorPil(size_divisor=32)


def _zoedepth(t):
    backbone = t.BeitConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16, image_size=64, patch_size=16,
        out_indices=[1, 2, 3, 4], reshape_hidden_states=False, use_relative_position_bias=True,
    )  # fmt: skip
    config = t.ZoeDepthConfig(
        backbone_config=backbone, neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8, bottleneck_features=8,
        num_relative_features=4, bin_embedding_dim=8, num_attractors=[4, 2, 2, 1],
        bin_configurations=[{"n_bins": 8, "min_depth": 0.001, "max_depth": 80.0, "name": "kitti"}],
        num_patch_transformer_layers=1, patch_transformer_hidden_size=8, patch_transformer_intermediate_size=8,
        patch_transformer_num_attention_heads=2,
    )  # fmt: skip
    return t.ZoeDepthForDepthEstimation(config), t.ZoeDepthImageProcessorPil(
        size={"height": 64, "width": 96}, ensure_multiple_of=32
    )


def _depth_pro(t):
    encoder = {"model_type": "dinov2", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
               "image_size": 16, "patch_size": 4}  # fmt: skip
    config = t.DepthProConfig(
        patch_size=16, fusion_hidden_size=8, intermediate_hook_ids=[1, 0], intermediate_feature_dims=[8, 8],
        scaled_images_ratios=[0.25, 0.5, 1.0], scaled_images_overlap_ratios=[0.0, 0.5, 0.25],
        scaled_images_feature_dims=[8, 8, 8], merge_padding_value=1, use_fov_model=True, num_fov_head_layers=0,
        image_model_config=encoder, patch_model_config=dict(encoder), fov_model_config=dict(encoder),
    )  # fmt: skip
    images = {"image_processor_type": "DepthProImageProcessor", "size": {"height": 64, "width": 64}, "resample": 2,
              "do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
              "image_mean": [0.5] * 3, "image_std": [0.5] * 3}  # fmt: skip
    return t.DepthProForDepthEstimation(config), images


_MAKERS = {
    "depth_anything-relative": _depth_anything("relative", 1),
    "depth_anything-metric": _depth_anything("metric", 80),
    "dpt": _dpt,
    "glpn": _glpn,
    "zoedepth": _zoedepth,
    "depth_pro": _depth_pro,
}
KINDS = tuple(_MAKERS)
