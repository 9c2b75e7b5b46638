"""The published matcher: the same numbers as the original, strict checkpoints, coordinates, planted poses."""

import json
import math
import re
import sys
from dataclasses import replace

import loc2_parity
import numpy as np
import pytest
import torch
from torch import nn

from cross_view_loc.aerial.patch import Patch
from cross_view_loc.cli import main
from cross_view_loc.depth.source import FlatGround
from cross_view_loc.errors import InputError, ModelError
from cross_view_loc.geometry.cameras import EquirectangularCamera, FisheyeCamera, PinholeCamera, StripCamera
from cross_view_loc.matching.loc2 import pipeline
from cross_view_loc.matching.loc2.backbone import (
    ModuleBackbone,
    interpolate_positions,
    load_backbone,
    to_unit_image,
    use_published_positions,
)
from cross_view_loc.matching.loc2.convert import import_checkpoint, load_network, read_checkpoint, sha256
from cross_view_loc.matching.loc2.coordinates import aerial_points
from cross_view_loc.matching.loc2.ground_image import lift_ground, prepare_image
from cross_view_loc.matching.loc2.network import Loc2Network, sine_position
from cross_view_loc.matching.loc2.pipeline import Loc2Matcher, Loc2Settings, locate_loc2
from cross_view_loc.matching.loc2.specification import PLAIN, Quirks, specification
from cross_view_loc.types import Frame, Prior

KITTI_CAMERA = PinholeCamera(1242, 375, 721.5, 721.5, 610.0, 173.0)
PANORAMA = EquirectangularCamera(1024, 512)
LEVEL = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
"""Optical axes of a camera that looks ahead, in the body's."""


@pytest.fixture(scope="module")
def tensors():
    return loc2_parity.state_dict()


@pytest.fixture(scope="module")
def checkpoint(tensors, tmp_path_factory):
    path = tmp_path_factory.mktemp("released") / "matcher.pth"
    torch.save(tensors, path)
    return path


@pytest.fixture(scope="module")
def network(tensors):
    found = Loc2Network()
    found.load_state_dict(tensors)
    return found.eval()


# The network


def test_the_layout_is_the_released_one(tensors):
    assert len(tensors) == 163
    millions = sum(value.numel() for value in Loc2Network().parameters()) / 1e6
    assert millions == pytest.approx(21.5, abs=0.1)


def check_parity(network):
    ground, aerial, mask = loc2_parity.inputs()
    with torch.inference_mode():
        similarity = network.similarity(ground, aerial, mask, loc2_parity.AERIAL_CELLS)
        score = network.score(similarity)
    rows, columns = loc2_parity.ROWS, loc2_parity.COLUMNS
    expected = loc2_parity.figures(loc2_parity.SIMILARITY)
    found = similarity[0, rows, columns].double().flatten()
    assert torch.equal(torch.isfinite(found), torch.isfinite(expected))
    finite = torch.isfinite(expected)
    assert (found - expected)[finite].abs().max() < 1e-4
    found, expected = score[0, rows, columns].double().flatten(), loc2_parity.figures(loc2_parity.SCORE)
    assert torch.equal(found == 0, expected == 0)
    assert ((found - expected).abs() <= 1e-3 * expected).all()
    # every entry takes part in its ground cell's mean and sum
    means = similarity[0].masked_fill(~mask[0], 0.0).double().mean(0)
    assert (means - loc2_parity.figures(loc2_parity.SIMILARITY_OF_GROUND_CELLS)).abs().max() < 1e-5
    sums = loc2_parity.figures(loc2_parity.SCORE_OF_GROUND_CELLS)
    assert ((score[0].double().sum(0) - sums).abs() <= 1e-4 * sums).all()


def test_it_computes_what_the_published_matcher_computes(network):
    check_parity(network)


def test_a_forgotten_piece_is_noticed(tensors):
    changed = dict(tensors)
    changed["grd_projector.att_layer.layers.2.norm2.bias"] = (
        changed["grd_projector.att_layer.layers.2.norm2.bias"] + 0.05
    )
    network = Loc2Network()
    network.load_state_dict(changed)
    with pytest.raises(AssertionError):
        check_parity(network.eval())


def test_only_the_ground_branch_knows_where_its_cells_are(network):
    assert network.grd_projector.encodes_position and not network.sat_projector.encodes_position
    code = sine_position(2, 3)[0]
    assert code[:4, 1, 2].tolist() == pytest.approx([math.sin(3), math.cos(3), math.sin(2), math.cos(2)], abs=1e-6)


@pytest.mark.parametrize("seed, ground, aerial, cells", [(3, (4, 11), (9, 9), 7), (8, (2, 3), (5, 6), 13)])
def test_the_score_is_a_dual_softmax_with_dustbins(seed, ground, aerial, cells, network):
    g, a, mask = loc2_parity.inputs(seed, ground, aerial)
    with torch.inference_mode():
        similarity = network.similarity(g, a, mask, cells)
        score = network.score(similarity)
    bin_row = torch.full((1, 1, similarity.shape[2]), float(network.dustbin_score.detach()))
    bin_column = torch.full((1, similarity.shape[1] + 1, 1), float(network.dustbin_score.detach()))
    padded = torch.cat([torch.cat([similarity, bin_row], 1), bin_column], 2)
    plain = (padded.softmax(1) * padded.softmax(2))[:, :-1, :-1]
    assert torch.allclose(score, plain, rtol=1e-4, atol=1e-12)
    assert not torch.isnan(score).any() and (score[0].sum(0)[~mask[0]] == 0).all()


# Checkpoints


def wrap_plain(tensors):
    return tensors


def wrap_parallel(tensors):
    return {f"module.{name}": value for name, value in tensors.items()}


def wrap_nested(tensors):
    return {"epoch": 7, "state_dict": {f"model.{name}": value.clone() for name, value in tensors.items()}}


@pytest.mark.parametrize("wrap", [wrap_plain, wrap_parallel, wrap_nested])
def test_conversion_keeps_every_number(wrap, tensors, tmp_path):
    source = tmp_path / "released.ckpt"
    torch.save(wrap(tensors), source)
    path = import_checkpoint(source, "kitti", tmp_path / "models")
    network, spec = load_network(path)
    assert path.name == "loc2_kitti.safetensors" and spec == specification("kitti")
    assert all(torch.equal(value, tensors[name]) for name, value in network.state_dict().items())
    check_parity(network)


def test_the_command_imports_and_lists(checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert main(["models", "import", "loc2", str(checkpoint), "--variant", "vigor", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["results"]
    assert row["metadata"]["source_sha256"] == sha256(checkpoint) and row["licence"] == "AGPL-3.0"
    assert row["metadata"]["variant"] == "vigor" and row["millions"] == pytest.approx(21.5, abs=0.1)
    assert main(["models", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["results"]
    files = [each["file"] for each in rows if each["installed"] == "yes"]
    assert len(files) == 3 and files[-1] == str(tmp_path / "cross_view_loc/models/loc2_vigor.safetensors")


def fault_missing(tensors):
    return {name: value for name, value in tensors.items() if name != "dustbin_score"}


def fault_unexpected(tensors):
    return {**tensors, "backbone.cls_token": torch.zeros(1)}


def fault_shape(tensors):
    return {**tensors, "sat_projector.final_block.conv1.weight": torch.zeros(128, 128, 1, 1)}


def fault_not_finite(tensors):
    return {**tensors, "grd_projector.resblocks.0.bn1.bias": torch.full((512,), math.nan)}


@pytest.mark.parametrize(
    "fault, words",
    [
        (fault_missing, "1 missing (dustbin_score)"),
        (fault_unexpected, "1 unexpected (backbone.cls_token)"),
        (fault_shape, "sat_projector.final_block.conv1.weight [128, 128, 1, 1] instead of [128, 128, 3, 3]"),
        (fault_not_finite, "not finite in grd_projector.resblocks.0.bn1.bias"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_named(fault, words, tensors, tmp_path, capsys):
    source = tmp_path / "other.pth"
    torch.save(fault(tensors), source)
    assert main(["models", "import", "loc2", str(source), "--variant", "vigor", "--out", str(tmp_path / "o")]) == 1
    error = capsys.readouterr().err
    assert words in error and str(source) in error and error.count("\n") == 1
    assert not (tmp_path / "o").exists()


class Trap:
    """Would leave a file behind if the checkpoint's code were run."""

    def __reduce__(self):
        return (exec, ("open('trapped', 'w')",))


def test_code_in_a_checkpoint_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Trap()}, "trap.pth")
    with pytest.raises(ModelError, match="not run"):
        read_checkpoint(tmp_path / "trap.pth")
    assert not (tmp_path / "trapped").exists()


def test_files_that_are_no_checkpoints_are_refused(tmp_path, checkpoint):
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "half.pth").write_bytes(checkpoint.read_bytes()[:100_000])
    (tmp_path / "bad.safetensors").write_text("hello")
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("text.pth", "half.pth", "bad.safetensors", "list.pth", "absent.pth"):
        with pytest.raises(ModelError, match=re.escape(name)):
            read_checkpoint(tmp_path / name)
    with pytest.raises(InputError, match="variant"):
        import_checkpoint(checkpoint, "oxford")


# The backbone


def cubic(values, at):
    """Keys' bicubic kernel with a = −0.75 along the first axis, borders repeated."""
    first = math.floor(at)
    total = 0.0
    for index in range(first - 1, first + 3):
        t = abs(at - index)
        weight = 1.25 * t**3 - 2.25 * t**2 + 1 if t <= 1 else -0.75 * (t**3 - 5 * t**2 + 8 * t - 4)
        total = total + weight * values[min(max(index, 0), len(values) - 1)]
    return total


def test_the_position_offset_moves_every_sample():
    """The factor is (size + 0.1) / side, not size / side: each sample is taken a little earlier."""
    side, rows, columns = 37, 26, 88
    positions = torch.randn(1, 1 + side**2, 2, generator=torch.Generator().manual_seed(0))
    grid = positions[0, 1:].view(side, side, 2).double().numpy()
    for offset in (0.1, 0.0):
        found = interpolate_positions(positions, rows, columns, offset)[0, 1:].view(rows, columns, 2).numpy()
        for row, column in ((0, 0), (3, 50), (13, 44), (25, 87)):
            line = cubic(grid, (row + 0.5) * side / (rows + offset) - 0.5)
            expected = cubic(line, (column + 0.5) * side / (columns + offset) - 0.5)
            assert found[row, column] == pytest.approx(expected, abs=1e-4)
    without = interpolate_positions(positions, rows, columns, 0.0)
    assert (interpolate_positions(positions, rows, columns) - without).abs().max() > 0.1
    assert interpolate_positions(positions, side, side) is positions


def test_dinov2_of_transformers_interpolates_as_published(tmp_path):
    transformers = pytest.importorskip("transformers", reason="optional: pip install transformers")
    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2, image_size=70, patch_size=14
    )
    model = transformers.Dinov2Model(config).eval()
    nn.init.normal_(model.embeddings.position_embeddings)
    model.save_pretrained(tmp_path / "tiny")
    images = torch.rand(1, 3, 42, 98)
    backbone = load_backbone(str(tmp_path / "tiny"), channels=24)
    tokens = backbone(images)
    assert tokens.shape == (1, 24, 3, 7)
    # without the offset ours is the library's own interpolation, so the difference is the offset alone
    with torch.inference_mode():
        plain = model(images).last_hidden_state[:, 1:].transpose(1, 2).unflatten(2, (3, 7))
    use_published_positions(model, offset=0.0)
    assert torch.allclose(ModuleBackbone(model)(images), plain, atol=1e-5)
    assert (tokens - plain).abs().max() > 1e-3
    square = torch.rand(1, 3, 70, 70)
    assert torch.allclose(backbone(square), ModuleBackbone(model)(square), atol=1e-6)
    with pytest.raises(ModelError, match="24 channels"):
        load_backbone(str(tmp_path / "tiny"))
    with pytest.raises(ModelError, match="absent"):
        load_backbone(str(tmp_path / "absent"))


def test_without_transformers_the_remedy_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModelError, match="pip install transformers"):
        load_backbone()


class HubLike(nn.Module):
    """The interface of torch hub's DINOv2: the tokens are the patches' means."""

    def forward_features(self, images):
        return {"x_norm_patchtokens": nn.functional.avg_pool2d(images, 14).flatten(2).transpose(1, 2)}


def test_any_module_can_be_the_backbone():
    images = torch.rand(1, 3, 28, 42)
    grid = nn.functional.avg_pool2d(images, 14)
    assert torch.equal(ModuleBackbone(HubLike())(images), grid)
    assert torch.equal(ModuleBackbone(nn.AvgPool2d(14))(images), grid)
    with pytest.raises(ModelError, match="14 px"):
        ModuleBackbone(nn.AvgPool2d(7))(images)


def test_images_are_resized_exactly_and_not_normalised():
    image = np.full((375, 1242, 3), (0, 51, 255), np.uint8)
    unit = to_unit_image(image, 364, 1232)
    assert unit.shape == (1, 3, 364, 1232)
    assert torch.allclose(unit.amin((0, 2, 3)), torch.tensor([0, 0.2, 1.0])) and unit.max() <= 1


# Coordinates


def frame_of(camera, xyz=(0.0, 0.0, 1.65), yaw_rad=0.0):
    pose = np.eye(4)
    c, s = math.cos(yaw_rad), math.sin(yaw_rad)
    pose[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ LEVEL
    pose[:3, 3] = xyz
    return Frame(np.zeros((camera.height, camera.width, 3), np.uint8), camera, 5, pose)


CASES = [("vigor", PANORAMA), ("kitti", KITTI_CAMERA)]


@pytest.mark.parametrize("quirks", [Quirks(), PLAIN])
@pytest.mark.parametrize("variant, camera", CASES)
def test_ground_points_follow_the_stated_formula(variant, camera, quirks):
    """x down and y right of the published plane are −forward and −left of ours."""
    spec = specification(variant).with_quirks(quirks)
    depth_m = np.random.default_rng(1).uniform(2, 30, (camera.height, camera.width))
    lifted = lift_ground(frame_of(camera), spec, depth_m)
    forward, left = lifted.points_body.T.reshape(2, spec.ground_rows, spec.ground_columns)
    rng = np.random.default_rng(2)
    for row, column in zip(
        rng.integers(0, spec.ground_rows, 20), rng.integers(0, spec.ground_columns, 20), strict=True
    ):
        if quirks == PLAIN:
            across, down = (column + 0.5) / spec.ground_columns, (row + 0.5) / spec.ground_rows
            d = depth_m[int(down * camera.height), int(across * camera.width)]
        else:
            across, down = column / (spec.ground_columns - 1), row / (spec.ground_rows - 1)
            d = depth_m[row * camera.height // spec.ground_rows, column * camera.width // spec.ground_columns]
        if variant == "vigor":
            phi, theta = 2 * math.pi * across, math.pi * down
            x, y = d * math.sin(theta) * math.cos(phi), -d * math.sin(theta) * math.sin(phi)
        else:
            x, y = -d, (across * camera.width - camera.cx) * d / camera.fx
        assert (forward[row, column], left[row, column]) == pytest.approx((-x, -y), abs=1e-6)


@pytest.mark.parametrize("variant, camera", CASES)
def test_cells_under_a_mask_are_not_used(variant, camera):
    frame = frame_of(camera)
    mask = np.ones((20, 50), bool)
    mask[:, :25] = False
    spec = specification(variant)
    plain, masked = (lift_ground(each, spec, FlatGround()) for each in (frame, replace(frame, mask=mask)))
    right = plain.pixels[:, 0] >= camera.width / 2
    np.testing.assert_array_equal(masked.usable, plain.usable & right)
    assert masked.usable.any() and (plain.usable & ~right).any()


@pytest.mark.parametrize("variant, camera", CASES)
def test_quirks_move_points_by_less_than_a_cell(variant, camera):
    """A cell's true centre on flat ground, found through the camera model, against both readings of the cell."""
    spec = specification(variant)
    frame = frame_of(camera, yaw_rad=0.3, xyz=(1.2, 0.4, 1.65))
    plain = lift_ground(frame, spec.with_quirks(PLAIN), FlatGround())
    rays, _ = camera.unproject(plain.pixels)
    rays = rays @ frame.T_base_camera[:3, :3].T
    with np.errstate(divide="ignore", invalid="ignore"):
        truth = (frame.T_base_camera[:3, 3] + rays * (-1.65 / rays[:, 2:]))[:, :2]
    assert plain.usable.sum() > 300
    assert np.abs(plain.points_body - truth)[plain.usable].max() < 1e-3
    distance = np.linalg.norm(truth - [1.2, 0.4], axis=1)
    assert distance[plain.usable].max() <= spec.depth_limit_m * (1.0 if variant == "vigor" else 1.4)
    # the direction alone is stretched: half a cell at most
    stretched = lift_ground(frame, spec.with_quirks(Quirks(False, True, False)), FlatGround())
    a, b = (np.arctan2(*(g.points_body - [1.2, 0.4]).T[::-1]) for g in (plain, stretched))
    turn = np.abs(np.angle(np.exp(1j * (a - b))))[plain.usable]
    cell_rad = 2 * math.pi / 102 if variant == "vigor" else 14 / (721.5 * 1232 / 1242)
    assert 0.25 * cell_rad < turn.max() <= 0.5 * cell_rad * (1 + 1e-6)


@pytest.mark.parametrize("quirk", [True, False])
def test_aerial_cells_lie_in_the_tile(quirk):
    spec = specification("kitti").with_quirks(Quirks(aerial_endpoints=quirk))
    grid = aerial_points(spec).view(41, 41, 2)
    edge = 100.264 / 2 if quirk else 100.264 / 2 * 40 / 41
    assert grid[0, 0].tolist() == pytest.approx([-edge, edge], abs=1e-3)  # upper left: left of and above the centre
    assert grid[40, 0].tolist() == pytest.approx([-edge, -edge], abs=1e-3)
    assert grid[20, 20].tolist() == pytest.approx([0, 0], abs=1e-5)


def test_the_tiles_of_the_cities_differ():
    assert specification("vigor", "seattle").tile_m == pytest.approx(64.52, abs=0.01)
    assert specification("vigor").tile_m == pytest.approx(71, abs=0.1)
    with pytest.raises(InputError, match="new_york"):
        specification("vigor", "delft")
    with pytest.raises(InputError, match="vigor or kitti"):
        specification("oxford")


def test_other_lenses_are_turned_into_the_trained_ones():
    """A fisheye sees a marked direction where the pinhole it is turned into has it; a strip is padded with black."""
    fisheye = FisheyeCamera(800, 600, 400.0, 400.0, 400.0, 300.0)
    ray = np.array([0.35, 0.08, 1.0])
    u, v = fisheye.project(ray)[0]
    frame = frame_of(fisheye)
    frame.image[int(v) - 3 : int(v) + 4, int(u) - 3 : int(u) + 4] = 255
    image, geometry, seen = prepare_image(frame, specification("kitti"))
    rows, columns = np.nonzero(image[0, 0].numpy() > 0.5)
    found = geometry.rays(columns.mean() + 0.5, rows.mean() + 0.5)
    assert found == pytest.approx(ray, abs=0.004) and seen.all()
    strip = StripCamera(1024, 256, 128.0)
    padded, _, seen = prepare_image(
        replace(frame_of(strip), image=np.full((256, 1024, 3), 200, np.uint8)), specification("vigor")
    )
    assert seen.mean() == pytest.approx(0.5, abs=0.03)
    assert padded[0, 0, 357, 700] > 0.7 and padded[0, 0, 20, 700] == 0
    with pytest.raises(InputError, match="panorama"):
        prepare_image(frame_of(fisheye), specification("vigor"))
    with pytest.raises(InputError, match="its calibration is for"):
        prepare_image(replace(frame, image=frame.image[:100]), specification("kitti"))


# From frames to a pose


class BlankMap:
    """An endless map that remembers the patch it was asked for last."""

    def __init__(self):
        self.asked = 0

    def patch(self, center_east_m, center_north_m, size_px, meters_per_pixel, rotation_rad):
        self.asked += 1
        image = np.zeros((size_px, size_px, 3), np.uint8)
        valid = np.ones((size_px, size_px), bool)
        self.last = Patch(image, valid, center_east_m, center_north_m, meters_per_pixel, rotation_rad)
        return self.last


class Planted(nn.Module):
    """Scores as features would that know their place: high where a ground cell's true point lies in an aerial cell.

    Truth comes from the camera model, the flat ground and the patch, not from the code under test.
    """

    def __init__(self, aerial_map, frame, pose, outliers):
        super().__init__()
        self.map, self.frame, self.pose, self.outliers = aerial_map, frame, pose, outliers
        self.pixels = None

    def forward(self, ground_tokens, aerial_tokens, mask, cells):
        frame, (east, north, yaw) = self.frame, self.pose
        rows, columns = ground_tokens.shape[2:]
        u, v = np.meshgrid((np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows)
        pixels = np.stack([u * frame.camera.width, v * frame.camera.height], -1).reshape(-1, 2)
        rays = frame.camera.unproject(pixels)[0] @ frame.T_base_camera[:3, :3].T
        height = frame.T_base_camera[2, 3]
        body = (frame.T_base_camera[:3, 3] + rays * (height / np.maximum(-rays[:, 2:], 1e-6)))[:, :2]
        c, s = math.cos(yaw), math.sin(yaw)
        used = mask[0].numpy()
        placed = body[used] @ np.array([[c, s], [-s, c]]) + [east, north]
        centres = (np.arange(cells) + 0.5) * self.map.last.size_px / cells
        aerial = self.map.last.pixel_to_map(np.stack(np.meshgrid(centres, centres), -1).reshape(-1, 2))
        dense = np.exp(-(torch.cdist(torch.from_numpy(aerial), torch.from_numpy(placed)).float().numpy() ** 2) / 2)
        if self.outliers:  # as much weight again on pairs drawn at random
            random = np.random.default_rng(4).uniform(size=dense.shape).astype(np.float32) ** 80
            dense = dense + random * (dense.sum() / random.sum())
        score = np.zeros((len(aerial), len(body)), np.float32)
        score[:, used] = dense
        return torch.from_numpy(score)[None]


def planted(variant, camera, quirks, pose, prior, outliers=False, seed=0):
    frame = frame_of(camera, xyz=(1.3, -0.4, 1.65), yaw_rad=0.5 if variant == "vigor" else 0.1)
    aerial_map = BlankMap()
    network = Planted(aerial_map, frame, pose, outliers)
    spec = replace(specification(variant).with_quirks(quirks), matches=1024)  # VIGOR's 8192 only take longer
    matcher = Loc2Matcher(network, spec, ModuleBackbone(nn.AvgPool2d(14)))
    estimate = locate_loc2([frame], prior, aerial_map, matcher, FlatGround(), Loc2Settings(seed=seed))
    return estimate, matcher, aerial_map, frame


@pytest.mark.parametrize("quirks", [Quirks(), PLAIN])
@pytest.mark.parametrize("variant, camera", CASES)
@pytest.mark.parametrize("yaw, known", [(2.1, True), (-0.7, True), (-2.5, False)])
def test_a_planted_pose_is_found(variant, camera, quirks, yaw, known):
    pose = (103.2, -47.9, yaw)
    reach = math.radians(10) if known else math.pi
    prior = Prior(5, 98.0, -41.0, 20.0, yaw + 0.1 if known else 0.0, reach)
    estimate, _, aerial_map, _ = planted(variant, camera, quirks, pose, prior)
    turn = math.degrees(abs(math.remainder(estimate.yaw_rad - yaw, 2 * math.pi)))
    plain = quirks == PLAIN  # the quirks shift points, and with them the pose, by up to half an aerial cell
    assert math.hypot(estimate.east_m - pose[0], estimate.north_m - pose[1]) < (0.3 if plain else 1.22)
    assert turn < (0.7 if plain else 1.5)
    assert estimate.accepted and estimate.stamp_ns == 5 and estimate.inlier_ratio > 0.8
    if known:  # the vehicle heads up, or east in the tiles of KITTI
        heading = math.remainder(yaw + 0.1 - aerial_map.last.rotation_rad, 2 * math.pi)
        turned = (0.0, 0.5) if variant == "vigor" else (-math.pi / 2, 0.1)
        assert abs(math.remainder(heading + turned[1] - turned[0], 2 * math.pi)) < math.radians(2.6)
    else:
        assert aerial_map.last.rotation_rad == pytest.approx(math.pi / 2)


def test_matches_are_deterministic_distinct_and_explained():
    pose, prior = (3.0, 4.0, 0.2), Prior(5, 0.0, 0.0, 20.0, 0.2, 0.2)
    first, matcher, aerial_map, frame = planted("kitti", KITTI_CAMERA, PLAIN, pose, prior)
    again = locate_loc2([frame], prior, aerial_map, matcher, FlatGround())
    assert (first.east_m, first.north_m, first.yaw_rad) == (again.east_m, again.north_m, again.yaw_rad)
    assert aerial_map.asked == 1  # the tile's tokens were kept
    found = matcher.match([frame], FlatGround(), aerial_map, prior, torch.Generator().manual_seed(1))
    pairs = {(int(g), *p.tolist()) for g, p in zip(found.cells.ground_index, found.cells.points_patch, strict=True)}
    assert len(pairs) == len(found.cells.weight) == 1024
    assert len(first.matches) == 200
    for match in first.matches[:20]:
        c, s = math.cos(0.2), math.sin(0.2)
        x, y = match.point_body
        assert match.point_map == pytest.approx((3 + c * x - s * y, 4 + s * x + c * y), abs=4.5)
        ray = frame.camera.unproject(np.array(match.pixel))[0] @ frame.T_base_camera[:3, :3].T
        x, y = np.array(match.point_body) - [1.3, -0.4]
        assert math.atan2(y, x) == pytest.approx(math.atan2(ray[1], ray[0]), abs=1e-3)
    with pytest.raises(InputError, match="one camera image"):
        locate_loc2([frame, frame], prior, aerial_map, matcher, FlatGround())


def test_draws_follow_the_score():
    """Without replacement and in proportion: a pair of double score comes first about twice as often."""
    _, matcher, _, _ = planted("kitti", KITTI_CAMERA, PLAIN, (0, 0, 0), Prior(5, 0.0, 0.0, 20.0, 0.0, 0.2))
    matcher.spec = replace(matcher.spec, matches=1)
    ground = lift_ground(frame_of(KITTI_CAMERA), matcher.spec, FlatGround())
    score = torch.zeros(20, 10)
    score[5, 7], score[9, 3] = 0.2, 0.1
    generator = torch.Generator().manual_seed(0)
    drawn = [int(matcher.draw(score, ground, generator).ground_index[0]) for _ in range(300)]
    assert 0.55 < drawn.count(7) / 300 < 0.78 and set(drawn) == {3, 7}
    assert len(matcher.draw(score * 0, ground, generator).weight) == 0


def test_the_robust_search_withstands_what_plain_procrustes_does_not():
    pose, prior = (6.0, -3.0, 0.9), Prior(5, 0.0, 0.0, 20.0, 0.8, 0.3)
    robust, matcher, aerial_map, frame = planted("vigor", PANORAMA, PLAIN, pose, prior, outliers=True)
    matcher.spec = replace(matcher.spec, robust=None)
    plain = locate_loc2([frame], prior, aerial_map, matcher, FlatGround())
    wrong, plainly = (math.hypot(each.east_m - 6.0, each.north_m + 3.0) for each in (robust, plain))
    assert wrong < 0.4 and robust.accepted
    assert plainly > 2 * wrong


def test_released_weights_run_through_to_an_estimate(checkpoint, tmp_path, monkeypatch):
    """Imported weights, a backbone, a half-covered map: stand-in weights know no place, and the estimate says so."""
    torch.manual_seed(0)
    backbone = ModuleBackbone(nn.Conv2d(3, 1024, 14, stride=14))
    monkeypatch.setattr(pipeline, "load_backbone", lambda name, device: backbone)
    matcher = Loc2Matcher.load(import_checkpoint(checkpoint, "kitti", tmp_path))
    rng = np.random.default_rng(0)
    camera = KITTI_CAMERA
    frame = replace(frame_of(camera), image=rng.integers(0, 255, (camera.height, camera.width, 3), dtype=np.uint8))
    prior = Prior(5, 0.0, 0.0, 20.0, 0.2, 0.2)
    aerial_map = BlankMap()
    matcher.aerial_features(aerial_map, prior, 0.0)
    aerial_map.last.image[:] = rng.integers(0, 255, aerial_map.last.image.shape, dtype=np.uint8)
    aerial_map.last.valid[:, :252] = False  # the left half has no imagery
    found = matcher.match([frame], FlatGround(), aerial_map, prior, torch.Generator().manual_seed(0))
    assert len(found.cells.weight) == 1024 and found.cells.points_patch[:, 0].min() > 0
    assert found.ground.usable[found.cells.ground_index.numpy()].all()
    estimate = locate_loc2([frame], prior, aerial_map, matcher, FlatGround())
    assert not estimate.accepted and estimate.reason
    assert np.isfinite(estimate.covariance).all() and np.linalg.eigvalsh(estimate.covariance)[0] > 0


def test_nothing_to_match_is_refused_not_raised():
    pose, prior = (0.0, 0.0, 0.0), Prior(5, 0.0, 0.0, 20.0, 0.0, 0.2)
    _, matcher, aerial_map, frame = planted("kitti", KITTI_CAMERA, PLAIN, pose, prior)
    nothing = locate_loc2([frame], prior, aerial_map, matcher, np.zeros((375, 1242)))
    assert not nothing.accepted and "no alignment" in nothing.reason
    elsewhere = replace(prior, east_m=8.0, radius_m=2.0)
    outside = locate_loc2([frame], elsewhere, aerial_map, matcher, FlatGround())
    assert not outside.accepted and "outside" in outside.reason
