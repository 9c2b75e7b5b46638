"""Hugging Face depth models through our code against `transformers`' own: tiny random models of each architecture."""

import json
from pathlib import Path

import numpy as np
import pytest
from depth_model_helpers import DPT_IMAGES, KINDS, picture, save_tiny

from cross_view_loc.depth.hf_images import from_configuration, from_processor
from cross_view_loc.depth.huggingface import HuggingFaceDepth
from cross_view_loc.errors import ModelError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
PIL = pytest.importorskip("PIL.Image")
FOCAL = np.array([60.0, 90.0])


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One saved model of each kind."""
    transformers.utils.logging.disable_progress_bar()
    return {kind: save_tiny(kind, tmp_path_factory.mktemp(kind.replace("-", "_"))) for kind in KINDS}


@pytest.mark.parametrize(
    ("kind", "measure"),
    [("depth_anything-relative", "inverse"), ("depth_anything-metric", "metric"), ("dpt", "inverse"),
     ("glpn", "metric"), ("zoedepth", "metric"), ("depth_pro", "metric")],
)  # fmt: skip
def test_what_the_numbers_are_is_found_by_the_configuration_and_can_be_overridden(folders, kind, measure):
    model = HuggingFaceDepth(folders[kind], name="tiny", licence="MIT")
    assert (model.measure, model.along, model.name, model.licence) == (measure, "z", "tiny", "MIT")
    other = HuggingFaceDepth(folders[kind], measure="relative", along="range")
    assert (other.measure, other.along) == ("relative", "range")


@pytest.mark.parametrize("kind", ["depth_anything-relative", "depth_anything-metric", "dpt", "glpn"])
def test_the_maps_are_those_of_the_pipeline(folders, kind):
    images = picture()
    pipeline = transformers.pipeline("depth-estimation", model=str(folders[kind]), device="cpu")
    ours = HuggingFaceDepth(folders[kind])(images, FOCAL)
    assert ours.shape == images.shape[:3] and ours.dtype == np.float32
    for image, found in zip(images, ours, strict=True):
        theirs = pipeline(PIL.fromarray(image))["predicted_depth"].numpy()
        assert np.ptp(theirs) > 0.05 * abs(theirs.mean())  # a constant would prove nothing
        positive = theirs > 0
        assert positive.mean() > 0.5
        np.testing.assert_allclose(found[positive], theirs[positive], rtol=2e-4, atol=1e-5)


def test_zoedepth_is_that_of_its_model_and_processor(folders):
    """Its own post-processing, and so the pipeline, needs torchvision: its steps are done by hand here."""
    image = picture(1)[0]
    processor = transformers.AutoImageProcessor.from_pretrained(folders["zoedepth"], backend="pil")
    model = transformers.ZoeDepthForDepthEstimation.from_pretrained(folders["zoedepth"]).eval()
    with torch.inference_mode():
        raw = model(**processor(images=image, return_tensors="pt")).predicted_depth
    border = [int(np.sqrt(side / 2) * 3) for side in image.shape[:2]]
    whole = [side + 2 * extra for side, extra in zip(image.shape[:2], border, strict=True)]
    theirs = torch.nn.functional.interpolate(raw[:, None], whole, mode="bicubic")[0, 0]
    theirs = theirs[border[0] : -border[0], border[1] : -border[1]].numpy()
    ours = HuggingFaceDepth(folders["zoedepth"])(image[None], FOCAL[:1])[0]
    assert np.ptp(theirs) > 0.01 * theirs.mean()
    positive = theirs > 0
    np.testing.assert_allclose(ours[positive], theirs[positive], rtol=1e-3, atol=1e-5)
    assert positive.mean() > 0.9 and np.isnan(ours[~positive]).all()


def test_depth_pro_is_metric_by_the_known_focal_length(folders):
    """Its image processor, and so the pipeline, needs torchvision: the published formulas are written out here."""
    images = picture()
    raw = transformers.DepthProForDepthEstimation.from_pretrained(folders["depth_pro"]).eval()
    pixels = torch.from_numpy((images / 255.0 - 0.5) / 0.5).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        output = raw(torch.nn.functional.interpolate(pixels, (64, 64), mode="bilinear"))
    model = HuggingFaceDepth(folders["depth_pro"])

    def by_hand(focal_px):
        inverse = output.predicted_depth * (images.shape[2] / focal_px)[:, None, None]
        inverse = torch.nn.functional.interpolate(inverse[:, None], images.shape[1:3], mode="bilinear")[:, 0]
        return (1.0 / inverse.clamp(1e-4, 1e4)).numpy()

    found = model(images, FOCAL)
    np.testing.assert_allclose(1 / found, 1 / by_hand(torch.from_numpy(FOCAL)), rtol=1e-3, atol=1e-4)
    # twice the focal length: everything is twice as far
    near = (found > 1e-3) & (found < 1e3)
    np.testing.assert_allclose(model(images, 2 * FOCAL)[near], 2 * found[near], rtol=1e-4)
    assert near.mean() > 0.5
    # an unknown focal length is the one that the network sees
    field = torch.deg2rad(output.field_of_view.reshape(-1))
    seen = 0.5 * images.shape[2] / torch.tan(field / 2)
    np.testing.assert_allclose(1 / model(images, np.array([np.nan, np.nan])), 1 / by_hand(seen), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_its_images_one_by_one_and_the_same_each_time(folders, kind):
    images, model = picture(2), HuggingFaceDepth(folders[kind])
    both = model(images, FOCAL)
    np.testing.assert_array_equal(both, model(images, FOCAL))
    one = np.concatenate([model(images[i : i + 1], FOCAL[i : i + 1]) for i in range(2)])
    np.testing.assert_allclose(both, one, rtol=2e-3, atol=1e-4)
    assert not np.allclose(both[0], both[1], rtol=1e-3)  # and it does look at the image


@pytest.mark.parametrize("kind", ["depth_anything-relative", "dpt", "glpn"])
@pytest.mark.parametrize("shape", [(48, 80), (90, 70)])
def test_configuration_followed_by_hand_gives_what_the_processor_gives(folders, kind, shape):
    """What is done where the processor cannot run, within the rounding of 8-bit images."""
    images = picture(1, *shape)
    processor = transformers.AutoImageProcessor.from_pretrained(folders[kind], backend="pil")
    config = json.loads((folders[kind] / "preprocessor_config.json").read_text())
    theirs, ours = from_processor(processor, images), from_configuration(config, images)
    assert theirs.shape == ours.shape
    step = 1 / 255 / min(DPT_IMAGES["image_std"])
    assert float((theirs - ours).abs().max()) < 1.6 * step
    assert float((theirs - ours).abs().mean()) < 0.3 * step


def test_a_smaller_side_is_taken_by_processor_and_by_hand(folders):
    images, folder = picture(1, 90, 70), folders["depth_anything-relative"]
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    config = json.loads((folder / "preprocessor_config.json").read_text())
    assert from_processor(processor, images, 28).shape == from_configuration(config, images, 28).shape == (1, 3, 42, 28)
    model = HuggingFaceDepth(folder, side_px=28)
    assert model(images, FOCAL[:1]).shape == (1, 90, 70)


def test_what_is_not_there_is_not_fetched_and_says_how(tmp_path, monkeypatch):
    def no_network(*_args, **_more):
        raise AssertionError("asked the network")

    monkeypatch.setattr("socket.socket.connect", no_network)
    with pytest.raises(ModelError, match="models fetch nobody/nothing") as caught:
        HuggingFaceDepth("nobody/nothing")
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=r"config\.json"):
        HuggingFaceDepth(tmp_path)


def test_weights_that_are_not_whole_or_damaged_are_refused(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    source = folders["glpn"]
    for file in ("config.json", "preprocessor_config.json"):
        (tmp_path / file).write_bytes((source / file).read_bytes())
    weights = load_file(source / "model.safetensors")
    weights.pop("head.conv.0.weight" if "head.conv.0.weight" in weights else sorted(weights)[0])
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="not whole"):
        HuggingFaceDepth(tmp_path)
    whole = (source / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="cannot be loaded"):
        HuggingFaceDepth(tmp_path)


def test_a_kind_that_does_not_say_what_it_gives_asks_for_it(folders, tmp_path):
    from cross_view_loc.depth.huggingface import measure_of

    with pytest.raises(ModelError, match=r"\?measure=inverse"):
        measure_of(type("Config", (), {"model_type": "chmv2"})(), "canopy")
    on_dinov2 = type("Config", (), {"model_type": "dpt", "backbone_config": transformers.Dinov2Config()})()
    assert measure_of(on_dinov2, "dpt-dinov2-small-kitti") == "metric"


def test_pixels_without_depth_are_nan(folders):
    class Nothing(torch.nn.Module):
        def forward(self, pixel_values):
            depth = torch.full(pixel_values.shape[::2][:1] + pixel_values.shape[2:], 5.0)
            depth[:, : depth.shape[1] // 2] = -5.0
            depth[:, :, 0] = float("nan")
            return type("Output", (), {"predicted_depth": depth})

    for kind, below_is_valid in (("glpn", False), ("dpt", True)):
        model = HuggingFaceDepth(folders[kind])
        model._model = Nothing()
        found = model(picture(1), FOCAL[:1])[0]
        assert np.isnan(found[:, 0]).all() and np.isfinite(found[-10:, 10:]).all()
        assert np.isfinite(found[:10, 10:]).all() == below_is_valid


def test_without_transformers_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ModelError, match="pip install transformers pillow"):
        HuggingFaceDepth(Path(tmp_path))
