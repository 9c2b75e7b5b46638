"""A search too wide for one patch: its parts tile it, and find what one patch would."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("warp", reason="the town needs the extra: pip install cross_view_loc[sim]")

from cross_view_loc.evaluation.town import make_bench
from cross_view_loc.localizer import Localizer, LocalizerSettings
from cross_view_loc.matching import search
from cross_view_loc.matching.aerial_cache import AerialFeatures
from cross_view_loc.matching.encoders import CELL_M
from cross_view_loc.types import Prior


@pytest.fixture(scope="module")
def bench():
    return make_bench(9004, 2, town_size_m=260.0)


@pytest.fixture(scope="module")
def localizer(bench):
    return Localizer(bench.orthophoto, LocalizerSettings(search_radius_m=60.0))


@pytest.mark.parametrize("is_disc", [False, True])
@pytest.mark.parametrize("radius_m", [41.0, 60.0, 100.0])
def test_lattices_of_the_parts_tile_the_search(radius_m, is_disc) -> None:
    """Every cell once, none twice, at one spacing; of a disc, what lies outside is masked in every part alike."""
    prior = Prior(0, 12.0, -7.0, radius_m, 0.4, math.pi if is_disc else 0.1)
    places = []
    for part in search.parts(prior, 0.4, is_disc):
        assert part.radius_m <= search.WIDEST_PATCH_RADIUS_M + CELL_M
        patch = SimpleNamespace(center_east_m=0.0, center_north_m=0.0, rotation_rad=search.snapped_heading(0.4))
        aerial = AerialFeatures(patch, torch.zeros(1), torch.zeros(1))
        lattice = search.make_lattice(aerial, part, [0.4], 0.01, is_disc, prior)
        shifts = lattice.shifts_m
        right = (lattice.prior[0] + shifts).expand(len(shifts), -1)
        up = (lattice.prior[1] + shifts)[:, None].expand(-1, len(shifts))
        kept = ~lattice.outside_disc() if is_disc else torch.ones_like(right, dtype=torch.bool)
        places.append(torch.stack([right[kept], up[kept]], -1))
    right_up = torch.cat(places).double().numpy()
    cells = np.rint((right_up - right_up.min(0)) / CELL_M).astype(int)
    np.testing.assert_allclose(right_up, right_up.min(0) + cells * CELL_M, atol=2e-3)
    assert len(np.unique(cells, axis=0)) == len(cells), "no pose is scored twice"
    area_m2 = len(cells) * CELL_M**2
    wanted_m2 = (math.pi if is_disc else 4.0) * radius_m**2
    assert wanted_m2 * 0.98 <= area_m2 <= wanted_m2 * 1.12


def test_a_wide_search_finds_the_place_far_from_its_prior(bench, localizer) -> None:
    """The vehicle is 45 m from the prior, in another patch than the middle one."""
    moment = bench.frames[0]
    near = localizer.locate(moment.frames, moment.prior)
    assert math.hypot(near.east_m - moment.truth.east_m, near.north_m - moment.truth.north_m) < 1.5
    toward_middle = -np.sign([moment.truth.east_m, moment.truth.north_m])
    far = replace(
        moment.prior,
        east_m=moment.truth.east_m + 32.0 * toward_middle[0],
        north_m=moment.truth.north_m + 32.0 * toward_middle[1],
        radius_m=60.0,
    )
    assert len(search.parts(far, far.yaw_rad, False)) == 4
    found = localizer.locate(moment.frames, far)
    assert math.hypot(found.east_m - near.east_m, found.north_m - near.north_m) < 0.8
