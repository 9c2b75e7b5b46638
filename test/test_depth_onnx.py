"""ONNX depth models: tiny graphs made here, and what the JSON file beside them says."""

import json

import numpy as np
import pytest

from cross_view_loc.depth.choose import make_depth
from cross_view_loc.depth.onnx import OnnxDepth
from cross_view_loc.errors import InputError, ModelError
from cross_view_loc.networks.weights import SHIPPED

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
FOCAL = np.array([100.0, 200.0])
PLAIN = {"measure": "metric", "mean": [0, 0, 0], "std": [1, 1, 1]}


def save(path, shape=("n", 3, "h", "w"), weights=(1.0, 10.0, 100.0), description=None, more_outputs=(), keep=1):
    """A graph that adds up the channels with weights: (N, 3, h, w) or (N, h, w, 3) → one map."""
    helper, channel = onnx.helper, 1 if shape[1] == 3 else 3
    factors = np.array(weights, np.float32).reshape([3 if axis == channel else 1 for axis in range(4)])
    nodes = [
        helper.make_node("Mul", ["image", "factors"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "axes"], ["depth"], keepdims=keep),
        *(helper.make_node("Identity", ["image"], [name]) for name in more_outputs),
    ]
    outputs = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in (*more_outputs, "depth")]
    graph = helper.make_graph(
        nodes,
        "depth",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, list(shape))],
        outputs,
        [onnx.numpy_helper.from_array(factors, "factors"),
         onnx.numpy_helper.from_array(np.array([channel], np.int64), "axes")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(path))
    if description is not None:
        path.with_suffix(".json").write_text(json.dumps(description))
    return path


def picture(height=6, width=8):
    return np.random.default_rng(0).integers(1, 256, (2, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("shape", [("n", 3, "h", "w"), (1, 3, 6, 8), ("n", "h", "w", 3), (1, 6, 8, 3)])
@pytest.mark.parametrize("keep", [0, 1])
def test_every_layout_gives_every_pixel_its_own_number(tmp_path, shape, keep):
    images = picture()
    model = OnnxDepth(save(tmp_path / "d.onnx", shape, description=PLAIN, keep=keep))
    found = model(images, FOCAL)
    assert found.dtype == np.float32 and (model.measure, model.along) == ("metric", "z")
    np.testing.assert_allclose(found, images @ [1.0, 10.0, 100.0] / 255, rtol=1e-5)


def test_normalisation_and_the_order_of_colours_are_as_described(tmp_path):
    images, mean, std = picture(), [0.1, 0.2, 0.3], [0.5, 0.25, 0.2]
    described = {"measure": "inverse", "mean": mean, "std": std, "colours": "BGR", "licence": "MIT", "along": "range"}
    model = OnnxDepth(save(tmp_path / "d.onnx", description=described))
    assert (model.measure, model.along, model.licence) == ("inverse", "range", "MIT")
    expected = ((images[..., ::-1] / 255 - mean) / std) @ [1.0, 10.0, 100.0]
    np.testing.assert_allclose(model(images, FOCAL), expected, rtol=1e-4, atol=1e-4)


def test_the_default_normalisation_is_imagenets(tmp_path):
    model = OnnxDepth(save(tmp_path / "d.onnx"), measure="inverse")
    expected = ((picture() / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]) @ [1.0, 10.0, 100.0]
    np.testing.assert_allclose(model(picture(), FOCAL), expected, rtol=1e-4, atol=1e-4)


def test_a_map_of_another_size_comes_back_without_a_shift(tmp_path):
    """A ramp survives two resizes when pixel centres are where they should be."""
    ramp = np.tile(np.linspace(20, 230, 64)[None, None, :, None], (2, 48, 1, 3)).astype(np.uint8)
    for shape, described in ((("n", 3, 24, 32), PLAIN), (("n", 3, "h", "w"), {**PLAIN, "size_px": [96, 128]})):
        found = OnnxDepth(save(tmp_path / "d.onnx", shape, (1.0, 0.0, 0.0), described))(ramp, FOCAL)
        np.testing.assert_allclose(found[:, :, 4:-4], ramp[:, :, 4:-4, 0] / 255, atol=2 / 255)
        assert abs(np.mean(found[:, :, 4:-4] - ramp[:, :, 4:-4, 0] / 255)) < 0.5 / 255


def test_an_open_size_is_rounded_to_what_the_network_needs(tmp_path):
    model = OnnxDepth(save(tmp_path / "d.onnx", description={**PLAIN, "multiple_of": 14}))
    assert model._size((192, 320)) == (196, 322)
    assert OnnxDepth(tmp_path / "d.onnx", side_px=252)._size((192, 320)) == (252, 252)
    fixed = OnnxDepth(save(tmp_path / "f.onnx", (1, 3, 24, "w"), description=PLAIN))
    assert fixed._size((192, 320)) == (24, 320)


def test_depth_of_a_canonical_camera_grows_with_the_focal_length(tmp_path):
    described = {**PLAIN, "canonical_focal_px": 50.0, "size_px": [12, 16]}
    plain = OnnxDepth(save(tmp_path / "a.onnx", description={**PLAIN, "size_px": [12, 16]}))(picture(), FOCAL)
    found = OnnxDepth(save(tmp_path / "b.onnx", description=described))(picture(), FOCAL)
    np.testing.assert_allclose(found[0], plain[0] * 100 * 2 / 50, rtol=1e-5)  # the input is twice the image
    np.testing.assert_allclose(found[1], plain[1] * 200 * 2 / 50, rtol=1e-5)


def test_pixels_without_depth_are_nan_and_inverse_depth_may_be_negative(tmp_path):
    save(tmp_path / "d.onnx", weights=(-1.0, 0.0, 0.0), description=PLAIN)
    assert np.isnan(OnnxDepth(tmp_path / "d.onnx")(picture(), FOCAL)).all()
    assert (OnnxDepth(tmp_path / "d.onnx", measure="inverse")(picture(), FOCAL) < 0).all()


def test_the_named_output_is_taken(tmp_path):
    path = save(tmp_path / "d.onnx", description={**PLAIN, "output": "depth"}, more_outputs=("other",))
    assert OnnxDepth(path)(picture(), FOCAL).shape == (2, 6, 8)
    path.with_suffix(".json").write_text(json.dumps(PLAIN))
    with pytest.raises(ModelError, match="no map per image"):
        OnnxDepth(path)(picture(), FOCAL)
    path.with_suffix(".json").write_text(json.dumps({**PLAIN, "output": "nothing"}))
    with pytest.raises(ModelError, match="outputs are other, depth"):
        OnnxDepth(path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("{", "no JSON object"), ("[]", "no JSON object"), ('{"mesure": "metric"}', "has the key 'mesure'"),
     ('{"measure": "feet"}', "measure is one of"), ('{"measure": "metric", "mean": [1]}', "three numbers"),
     ('{"measure": "metric", "multiple_of": "14"}', "no JSON object")],
)  # fmt: skip
def test_a_bad_description_is_named(tmp_path, text, sentence):
    save(tmp_path / "d.onnx")
    (tmp_path / "d.json").write_text(text)
    with pytest.raises(ModelError, match=sentence) as caught:
        OnnxDepth(tmp_path / "d.onnx")
    assert "d.json" in str(caught.value)


def test_what_cannot_be_used_says_why(tmp_path):
    with pytest.raises(ModelError, match=r"there is no file .*nothing\.onnx"):
        OnnxDepth(tmp_path / "nothing.onnx", measure="metric")
    with pytest.raises(ModelError, match=r'write d\.json beside it, e\.g\. \{"measure"'):
        OnnxDepth(save(tmp_path / "d.onnx"))
    (tmp_path / "bad.onnx").write_bytes(b"no such thing")
    with pytest.raises(ModelError, match="no ONNX file that onnxruntime can run"):
        OnnxDepth(tmp_path / "bad.onnx", measure="metric")
    with pytest.raises(ModelError, match="takes one image"):
        OnnxDepth(save(tmp_path / "four.onnx", ("n", 4, "h", "w")), measure="metric")
    fixed = OnnxDepth(save(tmp_path / "fixed.onnx", (1, "h", "w", 3)), measure="metric")
    assert fixed(picture(), FOCAL).shape == (2, 6, 8)


def test_as_the_parameter_says(tmp_path):
    path = save(tmp_path / "d.onnx", description=PLAIN)
    source = make_depth(f"onnx:{path}", SHIPPED, "cpu")
    assert source.model.measure == "metric"
    assert make_depth(f"onnx:{path}?measure=inverse", SHIPPED, "cpu").model.measure == "inverse"
    with pytest.raises(InputError, match="measure"):
        make_depth(f"onnx:{path}?measure=metres", SHIPPED, "cpu")
