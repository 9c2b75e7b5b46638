"""Models that others have released and this package can use: where they are, what they cost, under which licence.

Numbers of parameters and sizes of weights are those that the models' own pages state, None where none was found there;
what a fetch will bring, its server tells. Hashes are recorded at the first fetch and hold from then on (`lock.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

OPEN_LICENCES = ("Apache-2.0", "MIT", "BSD-3-Clause")
"""May be fetched without a question about the licence; the size is asked about all the same."""


@dataclass(frozen=True)
class RegisteredModel:
    """One released model."""

    name: str
    repository: str
    """On Hugging Face, `owner/name`."""
    licence: str
    role: str
    """ "depth" or "matcher"."""
    purpose: str
    millions: float | None = None
    """Parameters; None when its page does not say."""
    megabytes: float | None = None
    """Of the file of weights."""
    measure: str = ""
    """As in `depth/model.py`, where the files themselves do not say; empty: found by the configuration."""
    along: str = "z"
    package: str = "transformers"
    """The Python package that runs it."""
    revision: str = "main"
    sha256: tuple[tuple[str, str], ...] = ()
    """(file, hash) known beforehand; of other files the first fetch decides."""

    @property
    def must_accept(self) -> bool:
        """Whether its licence restricts use and has to be accepted before."""
        return self.licence not in OPEN_LICENCES


_NC = "CC-BY-NC-4.0"
_V2, _V2_OUTDOOR = "depth-anything/Depth-Anything-V2-{}-hf", "depth-anything/Depth-Anything-V2-Metric-Outdoor-{}-hf"
_SIZES = (("Small", 24.8, "Apache-2.0"), ("Base", 97.5, _NC), ("Large", 335.3, _NC))

_REGISTERED = (
    *(
        RegisteredModel(
            f"depth-anything-v2-metric-outdoor-{size.lower()}",
            _V2_OUTDOOR.format(size),
            licence,
            "depth",
            "metric depth of streets up to 80 m, trained on Virtual KITTI 2",
            millions,
            megabytes,
        )
        for (size, millions, licence), megabytes in zip(_SIZES, (99.2, 390.0, 1340.0), strict=True)
    ),
    *(
        RegisteredModel(
            f"depth-anything-v2-{size.lower()}",
            _V2.format(size),
            licence,
            "depth",
            "inverse depth of any picture; scale and shift come from the road",
            millions,
            megabytes=99.2 if size == "Small" else None,
        )
        for size, millions, licence in _SIZES
    ),
    RegisteredModel(
        "zoedepth-kitti",
        "Intel/zoedepth-kitti",
        "MIT",
        "depth",
        "metric depth of streets, trained on KITTI",
        megabytes=1380.0,
    ),
    RegisteredModel(
        "glpn-kitti",
        "vinvino02/glpn-kitti",
        "Apache-2.0",
        "depth",
        "metric depth of streets, trained on KITTI; small",
        megabytes=245.0,
    ),
    RegisteredModel(
        "dpt-large",
        "Intel/dpt-large",
        "Apache-2.0",
        "depth",
        "inverse depth of any picture (MiDaS 3.0)",
        megabytes=1370.0,
    ),
    RegisteredModel(
        "depth-pro",
        "apple/DepthPro-hf",
        "apple-amlr",
        "depth",
        "metric depth of any picture, sharp and slow; research licence",
        megabytes=1900.0,
    ),
    *(
        RegisteredModel(
            f"unik3d-{size}",
            f"lpiccinelli/unik3d-{size}",
            "CC-BY-NC-SA-4.0",
            "depth",
            "distance along the ray, which the published panorama weights were trained with",
            megabytes=142.0 if size == "vits" else None,
            measure="metric",
            along="range",
            package="unik3d",
        )
        for size in ("vits", "vitb", "vitl")
    ),
    RegisteredModel(
        "unidepth-v2-vitl",
        "lpiccinelli/unidepth-v2-vitl14",
        _NC,
        "depth",
        "metric depth of any picture",
        measure="metric",
        package="unidepth",
    ),
    RegisteredModel(
        "dinov2-large",
        "facebook/dinov2-large",
        "Apache-2.0",
        "matcher",
        "backbone of the published matcher (`models import loc2`)",
        304.0,
        1220.0,
    ),
    RegisteredModel(
        "dinov2-small",
        "facebook/dinov2-small",
        "Apache-2.0",
        "matcher",
        "backbone for `train matcher --backbone`",
        megabytes=88.2,
    ),
)

MODELS: dict[str, RegisteredModel] = {model.name: model for model in _REGISTERED}
DEPTH_MODELS: dict[str, RegisteredModel] = {name: model for name, model in MODELS.items() if model.role == "depth"}


def registered(name: str) -> RegisteredModel | None:
    """The registry's row of a name or of a repository; None for one that it does not know."""
    return MODELS.get(name) or next((model for model in MODELS.values() if model.repository == name), None)
