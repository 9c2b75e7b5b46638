"""How wide a mode is said to be."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cross_view_loc.matching import modes
from cross_view_loc.matching.modes import mode_covariance

LAYERS = [SimpleNamespace(aerial=torch.zeros(1))]
TOP = torch.tensor([3.0, -2.0, 0.1, 0.02])


def covariance_of(monkeypatch, score):
    """What is said of a score that is a function of the offset from its top."""
    monkeypatch.setattr(modes, "score_poses", lambda layers, poses, patch_m, log_scale_std: score(poses - TOP))
    return mode_covariance(LAYERS, TOP, 70.0, 0.1)


@given(
    st.lists(st.floats(0.03, 1.0), min_size=2, max_size=2),
    st.floats(0.05, 3.0),
    st.floats(0.005, 0.05),
    st.floats(-0.6, 0.6),
)
@settings(max_examples=40, deadline=None)
def test_the_covariance_of_a_gaussian_is_its_own(std_m, std_deg, std_log_scale, correlation):
    std = torch.tensor([*std_m, math.radians(std_deg), std_log_scale])
    unit = torch.eye(4)
    unit[0, 2] = unit[2, 0] = correlation
    unit[1, 3] = unit[3, 1] = -correlation / 2
    wanted = unit * std[:, None] * std
    information = torch.linalg.inv(wanted.double()).float()
    with pytest.MonkeyPatch.context() as patch:
        found = covariance_of(patch, lambda d: -0.5 * torch.einsum("ni,ij,nj->n", d, information, d))
    assert torch.allclose(found / torch.outer(std, std), unit, atol=0.02)


def test_a_sharp_mode_with_kinks_is_sharp_whatever_the_grid(monkeypatch):
    """A cusp on a flat surrounding bends nowhere as a parabola does, and no stencil of one size finds it concave."""
    scale = torch.tensor([0.1, 0.1, math.radians(0.3), 0.01])
    found = covariance_of(monkeypatch, lambda d: -8.0 * (1.0 - torch.exp(-(d / scale).abs().sum(1))))
    std = found.diagonal().sqrt()
    assert (std < scale).all() and (std > scale / 10).all()


def test_no_direction_is_much_longer_than_its_axes(monkeypatch):
    """A ridge that falls along both axes but not between them is no infinitely long one."""
    found = covariance_of(monkeypatch, lambda d: -50.0 * (d[:, 0] - d[:, 1]) ** 2 - (d[:, 2:] * 100).square().sum(1))
    alone = 1 / math.sqrt(100.0)
    longest = float(torch.linalg.eigvalsh(found[:2, :2])[-1].sqrt())
    assert alone < longest < alone * 3.2


def test_what_never_falls_is_wide_but_finite(monkeypatch):
    found = covariance_of(monkeypatch, lambda d: torch.zeros(len(d)))
    assert torch.isfinite(found).all()
    assert float(found[0, 0]) > 5.0**2
