"""What moves is left out: a tiny random network of each kind, saved and loaded as a released one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers")

import torch
import transformers as t
from test_views import frame_of

from cross_view_loc.depth.source import Depth, FlatGround
from cross_view_loc.errors import InputError, ModelError
from cross_view_loc.geometry.cameras import PinholeCamera
from cross_view_loc.matching.encoders import load_matcher
from cross_view_loc.matching.ground import observe_ground
from cross_view_loc.matching.segmenter import HuggingFaceSegmenter, make_segmenter, moving_ids
from cross_view_loc.networks.weights import MATCHER_FILE, SHIPPED
from cross_view_loc.settings import Settings

LABELS = {0: "road", 1: "car", 2: "building", 3: "person", 4: "sky", 5: "bicycle"}
IMAGES = {"image_processor_type": "SegformerImageProcessor", "size": {"height": 64, "width": 64}}


def save_segformer(folder: Path, labels: dict[int, str] = LABELS) -> Path:
    torch.manual_seed(0)
    config = t.SegformerConfig(
        num_encoder_blocks=4, depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16, id2label=labels, label2id={name: index for index, name in labels.items()},
    )  # fmt: skip
    return _saved(t.SegformerForSemanticSegmentation(config), folder)


def save_upernet(folder: Path) -> Path:
    torch.manual_seed(6)
    backbone = t.ConvNextConfig(
        num_channels=3, depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 8, 8],
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = t.UperNetConfig(
        backbone_config=backbone, hidden_size=8, pool_scales=[1, 2], use_auxiliary_head=False,
        id2label=LABELS, label2id={name: index for index, name in LABELS.items()},
    )  # fmt: skip
    return _saved(t.UperNetForSemanticSegmentation(config), folder)


def _saved(model, folder: Path) -> Path:
    with torch.no_grad():  # as they are initialised, one class would win everywhere
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, (2.0 / parameter[0].numel()) ** 0.5)
            elif name.endswith("bias"):
                parameter.normal_(0.0, 0.1)
    model.eval().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(IMAGES))
    return folder


def pictures(count: int = 2, height: int = 48, width: int = 80) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("save", [save_segformer, save_upernet])
def test_what_moves_is_what_the_library_s_own_steps_call_so(save, tmp_path: Path) -> None:
    folder = save(tmp_path / "tiny")
    segmenter = HuggingFaceSegmenter(folder)
    assert segmenter.moving_ids == [1, 3, 5] and segmenter.left_out_ids == [1, 3, 4, 5]
    images = pictures()
    found = segmenter(images)
    model = t.AutoModelForSemanticSegmentation.from_pretrained(folder).eval()
    processor = t.SegformerImageProcessorPil.from_pretrained(folder)
    with torch.no_grad():
        output = model(**processor(images=list(images), return_tensors="pt", input_data_format="channels_last"))
    classes = processor.post_process_semantic_segmentation(output, target_sizes=[(48, 80)] * 2)
    expected = np.stack([np.isin(each.numpy(), [1, 3, 4, 5]) for each in classes])
    assert found.shape == (2, 48, 80) and 0.05 < found.mean() < 0.95
    np.testing.assert_array_equal(found, expected)
    many = np.concatenate([images] * 5)  # more than a batch
    np.testing.assert_array_equal(segmenter(many), np.concatenate([found] * 5))


@pytest.mark.parametrize(
    ("labels", "ids"),
    [
        ({0: "wall", 20: "car, auto, automobile", 12: "person;individual;someone", 127: "bicycle"}, [12, 20, 127]),
        ({0: "Rider", 1: "Motorcycle", 2: "Bus"}, [0, 1, 2]),
        ({0: "human--person", 1: "object--vehicle--car", 2: "carpet", 3: "bus stop", 4: "busstop"}, [0, 1]),
    ],
)
def test_classes_are_found_by_their_names_in_any_data_set(labels, ids) -> None:
    assert moving_ids(labels, "x") == ids


def test_what_cannot_be_used_is_said_in_a_sentence(tmp_path: Path) -> None:
    assert make_segmenter("none", "cpu") is None
    for text in ("cars", "hf:", "onnx:x"):
        with pytest.raises(InputError, match=r"there is no segmenter .*; choose none or hf:FOLDER_OR_NAME"):
            make_segmenter(text, "cpu")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"the segmenter '.*empty' cannot be loaded .* or give a folder"):
        make_segmenter(f"hf:{tmp_path / 'empty'}", "cpu")
    rooms = save_segformer(tmp_path / "rooms", {0: "wall", 1: "bed", 2: "carpet", 3: "lamp", 4: "door", 5: "desk"})
    with pytest.raises(ModelError, match=r"knows nothing that moves .*wall, bed.*; take one trained on streets"):
        make_segmenter(f"hf:{rooms}", "cpu")


class LeftMoves:
    """Says that the left half of every view moves."""

    name = "left"

    def __call__(self, images: np.ndarray) -> np.ndarray:
        found = np.zeros(images.shape[:3], bool)
        found[:, :, : images.shape[2] // 2] = True
        return found


def test_cells_on_what_moves_are_not_used() -> None:
    matcher, _ = load_matcher(SHIPPED / MATCHER_FILE, "cpu")
    frames = [frame_of(PinholeCamera(640, 384, 400.0, 400.0, 320.0, 192.0))] * 2
    everything = observe_ground(frames, matcher, FlatGround(), "cpu")
    kept = observe_ground(frames, matcher, FlatGround(), "cpu", LeftMoves())
    right = everything.pixels[:, 0] > 320.0
    np.testing.assert_array_equal(kept.pixels, everything.pixels[right])
    np.testing.assert_array_equal(kept.frame_index, everything.frame_index[right])
    assert 0 < len(kept.fine.weight) < len(everything.fine.weight)


class Everywhere:
    """The same depth in every direction."""

    kind, log_scale_std = "metric", 0.05

    def __init__(self, depth_m: float) -> None:
        self.depth_m = depth_m

    def __call__(self, image, view, geometry, rays) -> Depth:
        return Depth(np.full(rays.shape[:-1], self.depth_m))


def test_sky_is_not_lifted() -> None:
    """Level camera: rows above 192 see no ground. What a depth network calls as far as sky is out of reach."""
    matcher, _ = load_matcher(SHIPPED / MATCHER_FILE, "cpu")
    frame = frame_of(PinholeCamera(640, 384, 400.0, 400.0, 320.0, 192.0))
    lifted = {depth: observe_ground([frame], matcher, depth, "cpu") for depth in (FlatGround(), Everywhere(10.0))}
    flat, near = lifted.values()
    assert (flat.pixels[:, 1] > 192.0).all() and (near.pixels[:, 1] < 192.0).any()
    for depth_m in (80.0, 0.0):
        found = observe_ground([frame], matcher, Everywhere(depth_m), "cpu")
        assert len(found.cells.weight) == len(found.fine.weight) == 0


def test_the_parameter_reaches_the_localizer(tmp_path: Path) -> None:
    from cross_view_loc.aerial.image_file import ImageMap
    from cross_view_loc.localizer import Localizer

    folder = save_segformer(tmp_path / "tiny")
    settings = Settings(segmenter=f"hf:{folder}", depth="flat").localizer_settings()
    localizer = Localizer(ImageMap(np.zeros((64, 64, 3), np.uint8), 0.2), settings)
    assert localizer.segmenter is not None and localizer.segmenter.name == str(folder)
