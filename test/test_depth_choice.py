"""What the parameters depth and depth_fallback choose, and what they say when it cannot be had."""

from pathlib import Path

import numpy as np
import pytest

from cross_view_loc.aerial.patch import Patch
from cross_view_loc.depth.choose import choose_depth, make_depth
from cross_view_loc.depth.learned import LearnedDepth
from cross_view_loc.depth.source import FlatGround
from cross_view_loc.depth.spec import parse_depth
from cross_view_loc.errors import InputError, ModelError
from cross_view_loc.evaluation.runs import depth_served, run_row
from cross_view_loc.localizer import Localizer
from cross_view_loc.models.installed import find_named
from cross_view_loc.models.lock import Lock, LockedFile, sha256_of, write_lock
from cross_view_loc.models.registry import DEPTH_MODELS, MODELS
from cross_view_loc.models.store import accept_licence, models_folder, repository_folder
from cross_view_loc.networks.weights import SHIPPED
from cross_view_loc.report.write import weights_text
from cross_view_loc.settings import Settings


@pytest.fixture(autouse=True)
def own_models_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("asked the network"))


@pytest.mark.parametrize(
    ("text", "source", "where", "options"),
    [
        ("learned", "learned", "", ("", "", 0)),
        ("flat", "flat", "", ("", "", 0)),
        ("depth-anything-v2-small", "registry", "depth-anything-v2-small", ("", "", 0)),
        ("depth-pro?side_px=768", "registry", "depth-pro", ("", "", 768)),
        ("hf:Intel/dpt-large", "hf", "Intel/dpt-large", ("", "", 0)),
        ("hf:/models/mine?measure=relative&along=range", "hf", "/models/mine", ("relative", "range", 0)),
        ("onnx:/a b/c:d.onnx?measure=inverse", "onnx", "/a b/c:d.onnx", ("inverse", "", 0)),
    ],
)
def test_names_are_read(text, source, where, options):
    spec = parse_depth(text)
    assert (spec.source, spec.where, (spec.measure, spec.along, spec.side_px)) == (source, where, options)


@pytest.mark.parametrize(
    "text", ["", "midas", "hf:", "onnx:?measure=metric", "flat?measure=metric", "hf:a/b?measure=feet",
             "hf:a?side_px=-1", "depth-pro?scale=2", "dinov2-large"],
)  # fmt: skip
def test_what_means_nothing_is_refused_by_settings_too(text):
    with pytest.raises(InputError, match="depth"):
        parse_depth(text)
    for values in ({"depth": text}, {"depth": "flat", "depth_fallback": ["learned", text]}):
        with pytest.raises(InputError, match="parameter depth"):
            Settings.from_mapping(values)


def test_flat_ground_cannot_tell_the_attitude():
    with pytest.raises(InputError, match="attitude is 'estimated' but depth 'flat'"):
        Settings.from_mapping({"depth": "flat", "attitude": "estimated"})
    Settings.from_mapping({"depth": "flat", "attitude": "estimated", "depth_topic": "depth"})
    chosen = Settings.from_mapping({"depth_scale": "trusted", "attitude": "estimated"}).localizer_settings()
    assert (chosen.depth_scale, chosen.attitude) == ("trusted", "estimated")


def test_the_localizer_gets_the_list():
    settings = Settings.from_mapping({"depth": "hf:a/b", "depth_fallback": ["learned", "flat"]}).localizer_settings()
    assert (settings.depth, settings.depth_fallback) == ("hf:a/b", ("learned", "flat"))


def test_shipped_sources_are_what_they_were():
    assert isinstance(make_depth("learned", SHIPPED, "cpu"), LearnedDepth)
    assert isinstance(make_depth("flat", SHIPPED, "cpu"), FlatGround)


def test_a_missing_model_names_the_command_and_the_next_source_stands_in():
    with pytest.raises(ModelError, match="models fetch depth-anything-v2-small"):
        choose_depth(["depth-anything-v2-small"], SHIPPED, "cpu")
    chosen = choose_depth(["depth-anything-v2-small", "onnx:/nowhere.onnx", "flat", "learned"], SHIPPED, "cpu")
    assert isinstance(chosen.source, FlatGround) and chosen.name == "flat"
    assert chosen.notice.startswith("depth 'flat' stands in for 'depth-anything-v2-small': ")
    assert "models fetch depth-anything-v2-small" in chosen.notice and "\n" not in chosen.notice
    assert choose_depth(["flat", "learned"], SHIPPED, "cpu").notice == ""
    with pytest.raises(ModelError, match=r"v2-small.*nowhere\.onnx"):
        choose_depth(["depth-anything-v2-small", "onnx:/nowhere.onnx"], SHIPPED, "cpu")


def test_a_typing_error_is_refused_and_not_stood_in_for():
    with pytest.raises(InputError, match="there is no depth source 'lerned'"):
        choose_depth(["flat", "lerned"], SHIPPED, "cpu")


class Nowhere:
    def patch(self, *where, rotation_rad=0.0):
        size = where[2]
        return Patch(
            np.zeros((size, size, 3), np.uint8), np.ones((size, size), bool), *where[:2], where[3], rotation_rad
        )


def test_the_localizer_goes_on_and_says_what_stands_in():
    settings = Settings.from_mapping({"depth": "hf:nobody/nothing", "depth_fallback": ["flat"], "threads": 1})
    localizer = Localizer(Nowhere(), settings.localizer_settings())
    assert isinstance(localizer.depth, FlatGround)
    assert localizer.depth_notice.startswith("depth 'flat' stands in for 'hf:nobody/nothing'")
    assert Localizer(Nowhere(), Settings(depth="flat").localizer_settings()).depth_notice == ""
    served = depth_served(localizer)
    assert served == {"depth": "flat", "depth_notice": localizer.depth_notice}
    row = run_row([], None, settings, bag="drive", **served)
    assert (row["depth"], row["depth_notice"], row["bag"]) == ("flat", localizer.depth_notice, "drive")
    assert "depth" not in weights_text(settings, "flat") and "depth hf:nobody/nothing" in weights_text(settings)


def test_flat_ground_that_stands_in_says_that_the_tilt_is_not_estimated():
    asked = {"depth": "depth-pro", "depth_fallback": ["flat"], "threads": 1}
    estimated = Settings.from_mapping(asked | {"attitude": "estimated"})
    assert "flat ground shows no tilt" in Localizer(Nowhere(), estimated.localizer_settings()).depth_notice
    assert "tilt" not in Localizer(Nowhere(), Settings.from_mapping(asked).localizer_settings()).depth_notice


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HF_HOME"])
def test_a_licence_is_asked_for_of_what_another_program_fetched(tmp_path, monkeypatch, variable):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    with pytest.raises(
        ModelError, match=r"'some/body' is no folder and not on this machine; run .*models fetch some/b"
    ):
        make_depth("hf:some/body", SHIPPED, "cpu")
    cache = tmp_path / ("elsewhere" if variable == "HF_HUB_CACHE" else "hub")
    monkeypatch.setenv(variable, str(cache if variable == "HF_HUB_CACHE" else tmp_path))
    (cache / "models--some--body").mkdir(parents=True)
    (cache / "models--Intel--dpt-large").mkdir()
    with pytest.raises(ModelError, match=r"licence of the model 'some/body'.* has not been accepted; run .*which asks"):
        make_depth("hf:some/body", SHIPPED, "cpu")
    accept_licence("some/body", "other")
    assert find_named("some/body") == ("some/body", "some/body", "other")
    assert find_named("Intel/dpt-large")[2] == "Apache-2.0", "an open licence is not asked about"


def test_a_row_without_a_stand_in_names_the_depth_of_the_settings():
    row = run_row([], None, Settings(depth="flat"), **depth_served(Nowhere()))
    assert row["depth"] == "flat" and "depth_notice" not in row


def install(name: str) -> Path:
    """A tiny model where `models fetch` would have put the registry's."""
    pytest.importorskip("transformers")
    pytest.importorskip("PIL.Image")
    from depth_model_helpers import save_tiny

    model = MODELS[name]
    folder = save_tiny("depth_anything-metric", repository_folder(model.repository))
    files = {
        path.name: LockedFile(path.stat().st_size, sha256_of(path), path.stat().st_mtime_ns)
        for path in folder.iterdir()
    }
    write_lock(folder, Lock(model.repository, "abc", model.licence, files))
    return folder


def test_a_fetched_model_is_used_by_name_by_repository_and_by_folder():
    folder = install("depth-anything-v2-metric-outdoor-small")
    repository = DEPTH_MODELS["depth-anything-v2-metric-outdoor-small"].repository
    for text in ("depth-anything-v2-metric-outdoor-small", f"hf:{repository}", f"hf:{folder}"):
        chosen = choose_depth([text], SHIPPED, "cpu")
        assert chosen.source.model.measure == "metric" and chosen.notice == ""
    assert make_depth("depth-anything-v2-metric-outdoor-small", SHIPPED, "cpu").model.licence == "Apache-2.0"


def test_a_licence_that_was_not_accepted_is_asked_for_by_name_and_by_repository():
    name = "depth-anything-v2-metric-outdoor-large"
    install(name)
    repository = MODELS[name].repository
    for text in (name, f"hf:{repository}"):
        with pytest.raises(ModelError, match=f"CC-BY-NC-4.0.*has not been accepted.*models fetch {name}"):
            make_depth(text, SHIPPED, "cpu")
    accept_licence(repository, "CC-BY-NC-4.0")
    assert make_depth(name, SHIPPED, "cpu").model.licence == "CC-BY-NC-4.0"


def test_files_that_changed_since_they_were_fetched_are_refused():
    folder = install("depth-anything-v2-small")
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))  # the same size, at another time
    with pytest.raises(ModelError, match=r"model\.safetensors has changed since it was fetched.*models fetch"):
        make_depth("depth-anything-v2-small", SHIPPED, "cpu")
    weights.unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors is missing"):
        make_depth("depth-anything-v2-small", SHIPPED, "cpu")
    assert models_folder() in folder.parents


def test_the_doctor_tells_what_is_here_without_loading_it():
    from cross_view_loc.doctor.machine import _depth_models

    install("depth-anything-v2-small")
    levels = {
        names: [finding.level for finding in _depth_models(Settings(depth=names[0], depth_fallback=names[1:]))]
        for names in (("learned",), ("depth-anything-v2-small",), ("depth-pro",), ("depth-pro", "flat"),
                      ("onnx:/nowhere.onnx", "depth-anything-v2-small"))
    }  # fmt: skip
    assert [[level.name.lower() for level in row] for row in levels.values()] == [
        [], ["ok"], ["fail"], ["warn"], ["warn", "ok"]]  # fmt: skip


def test_a_model_that_loads_and_does_not_run_is_stood_in_for(monkeypatch):
    install("depth-anything-v2-small")

    def out_of_memory(*_):
        raise RuntimeError("CUDA out of memory.\nmore")

    monkeypatch.setattr("cross_view_loc.depth.huggingface.HuggingFaceDepth.__call__", out_of_memory)
    chosen = choose_depth(["depth-anything-v2-small", "flat"], SHIPPED, "cpu")
    assert "cannot be run on cpu (CUDA out of memory)" in chosen.notice
