"""`cross_view_loc models`: which weights this installation has and what made them; import of released ones."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

EXAMPLES = """examples:
  cross_view_loc models list
  cross_view_loc models list --json
  cross_view_loc models import loc2 loc2_vigor.pth --variant vigor
  cross_view_loc models import loc2 loc2_kitti.pth --variant kitti --out weights/loc2_kitti.safetensors
"""
IMPORT_EXAMPLES = """examples:
  cross_view_loc models import loc2 loc2_kitti.pth --variant kitti

The released weights are not ours: their code is AGPL-3.0. The file keeps saying so.
Images of two kinds were trained on: vigor (panoramas) and kitti (pinhole, looking ahead).
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Actions `list` and `import`; neither downloads anything."""
    raw = argparse.RawDescriptionHelpFormatter
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="weights that ship and weights that were imported")
    listing.add_argument("--folder", type=Path, help="where imported weights are; default the user's data folder")
    importing = actions.add_parser(
        "import", help="convert released weights of another project", epilog=IMPORT_EXAMPLES, formatter_class=raw
    )
    importing.add_argument("project", choices=("loc2",), help="whose weights (arXiv 2509.09792)")
    importing.add_argument("file", type=Path, help=".pt, .pth, .ckpt or .safetensors with the matcher's state dict")
    importing.add_argument("--variant", choices=("vigor", "kitti"), required=True, help="what they were trained on")
    importing.add_argument("--out", type=Path, help="folder or .safetensors file; default the user's data folder")
    for action in (listing, importing):
        action.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def execute(options: argparse.Namespace) -> int:
    """List or import."""
    if options.action == "import":
        from cross_view_loc.matching.loc2.convert import import_checkpoint

        rows = [describe("matcher", import_checkpoint(options.file, options.variant, options.out))]
    else:
        rows = list_models(options.folder)
    if options.json:
        print(json.dumps({"results": rows}))
    else:
        for row in rows:
            print(
                f"{row['role']:8s} {row['millions']:5.2f} M parameters  {row['megabytes']:5.2f} MB  "
                f"{row['licence']:10s}  {row['file']}"
            )
    return 0


def list_models(folder: Path | None) -> list[dict[str, object]]:
    """The weights that ship, then the imported ones of a folder (default: the user's data folder)."""
    from cross_view_loc.matching.loc2.convert import models_folder
    from cross_view_loc.networks.weights import DEPTH_FILE, MATCHER_FILE, SHIPPED

    rows = [describe("matcher", SHIPPED / MATCHER_FILE), describe("depth", SHIPPED / DEPTH_FILE)]
    rows += [describe("matcher", path) for path in sorted((folder or models_folder()).glob("*.safetensors"))]
    return rows


def describe(role: str, path: Path) -> dict[str, object]:
    """One row: what is in a file of weights. Raises ModelError."""
    from cross_view_loc.networks.weights import load_weights

    weights = load_weights(path)
    return {
        "role": role,
        "file": str(weights.path),
        "megabytes": round(weights.path.stat().st_size / 1e6, 2),
        "millions": round(sum(t.numel() for t in weights.tensors.values() if t.is_floating_point()) / 1e6, 2),
        "licence": weights.metadata.get("licence", "Apache-2.0"),
        "metadata": weights.metadata,
    }
