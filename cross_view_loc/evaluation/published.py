"""What others have published on KITTI and VIGOR, to be read beside our own figures.

Every figure is that of the benchmark's test split, images as published, trained on its training split unless the
method's name says otherwise. A figure nobody printed is None.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Published:
    """One method on one split."""

    method: str
    dataset: str
    variant: str
    """As in `kitti.VARIANTS`, or VIGOR's heading: known or unknown."""
    area: str
    position_mean_m: float
    position_median_m: float | None
    heading_mean_deg: float
    heading_median_deg: float | None
    source: str


_LOC2 = "Loc², arXiv 2509.09792"
_HC_NET = "HC-Net, arXiv 2308.16906"
_VIEWBRIDGE = "ViewBridge, arXiv 2508.10716"
_PI3 = "as others quote it, means only"
_OPENCVL = "OpenCVL's paper"

FIGURES = (
    Published("Loc²", "kitti", "10", "same", 1.13, 0.77, 1.97, 1.43, _LOC2),
    Published("ViewBridge", "kitti", "10", "same", 0.68, 0.46, 1.10, 0.72, _VIEWBRIDGE),
    Published("HC-Net", "kitti", "10", "same", 0.80, 0.50, 0.45, 0.33, _HC_NET),
    Published("π³ + satellite", "kitti", "10", "same", 0.73, None, 0.43, None, _PI3),
    Published("Loc² pre-trained on OpenCVL", "kitti", "10", "same", 0.93, 0.61, 1.62, 1.19, _OPENCVL),
    Published("Loc²", "kitti", "10", "cross", 5.60, 3.01, 3.32, 2.12, _LOC2),
    Published("ViewBridge", "kitti", "10", "cross", 6.70, 3.27, 3.15, 1.99, _VIEWBRIDGE),
    Published("HC-Net", "kitti", "10", "cross", 8.47, 4.57, 3.22, 1.63, _HC_NET),
    Published("π³ + satellite", "kitti", "10", "cross", 5.75, None, 0.52, None, _PI3),
    Published("Loc² pre-trained on OpenCVL", "kitti", "10", "cross", 5.07, 2.84, 3.30, 2.15, _OPENCVL),
    Published("Loc²", "vigor", "unknown", "same", 3.94, 1.78, 9.54, 2.00, _LOC2),
    Published("GS-ViewBridge", "vigor", "unknown", "same", 2.57, 1.57, 3.72, 0.78, _VIEWBRIDGE),
    Published("Loc²", "vigor", "unknown", "cross", 4.23, 2.09, 11.67, 2.21, _LOC2),
    Published("GS-ViewBridge", "vigor", "unknown", "cross", 3.29, 2.04, 6.66, 0.99, _VIEWBRIDGE),
)


def published_rows(dataset: str, variant: str, areas: tuple[str, ...]) -> list[dict[str, object]]:
    """The figures of a setting, area by area in the order asked for; none when nobody's are known."""
    return [
        asdict(figure)
        for area in areas
        for figure in FIGURES
        if (figure.dataset, figure.variant, figure.area) == (dataset, variant, area)
    ]
