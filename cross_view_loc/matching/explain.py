"""What an estimate rests on: its strongest matches, in the image, the body and the map."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from cross_view_loc.matching.aerial_cache import AerialFeatures
from cross_view_loc.matching.ground import GroundObservation
from cross_view_loc.matching.matches import CellMatches
from cross_view_loc.types import Frame, Match

EXPLAINED = 200


def explain(
    frames: Sequence[Frame], ground: GroundObservation, aerial: AerialFeatures, matches: CellMatches
) -> tuple[Match, ...]:
    """The EXPLAINED strongest matches, strongest first; those of earlier moments are in no picture and left out."""
    of_now = torch.from_numpy(ground.frame_index >= 0).to(matches.weight.device)[matches.ground_index]
    kept = ((matches.weight > 0) & of_now).nonzero()[:, 0]
    kept = kept[matches.weight[kept].argsort(descending=True)][:EXPLAINED]
    axes, patch = aerial.patch_axes(), aerial.patch
    points_map = matches.points_patch[kept].double().cpu().numpy() @ axes.T + [
        patch.center_east_m,
        patch.center_north_m,
    ]
    body = matches.points_body[kept].double().cpu().numpy()
    index = matches.ground_index[kept].cpu().numpy()
    weight = matches.weight[kept].cpu().numpy()
    return tuple(
        Match(
            (float(ground.pixels[i, 0]), float(ground.pixels[i, 1])),
            (float(b[0]), float(b[1])),
            (float(m[0]), float(m[1])),
            float(w),
            frames[int(ground.frame_index[i])].name,
        )
        for i, b, m, w in zip(index, body, points_map, weight, strict=True)
    )
