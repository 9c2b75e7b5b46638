"""`cross_view_loc models list`: which weights this installation has, and what made them."""

from __future__ import annotations

import argparse
import json

EXAMPLES = """examples:
  cross_view_loc models list
  cross_view_loc models list --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Only `list` so far: nothing is downloaded."""
    parser.add_argument("action", choices=("list",))
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def execute(options: argparse.Namespace) -> int:
    """List the weights that ship."""
    from cross_view_loc.networks.weights import DEPTH_FILE, MATCHER_FILE, SHIPPED, load_weights

    rows: list[dict[str, object]] = []
    for role, name in (("matcher", MATCHER_FILE), ("depth", DEPTH_FILE)):
        weights = load_weights(SHIPPED / name)
        rows.append(
            {
                "role": role,
                "file": str(weights.path),
                "megabytes": round(weights.path.stat().st_size / 1e6, 2),
                "millions": round(sum(t.numel() for t in weights.tensors.values() if t.is_floating_point()) / 1e6, 2),
                "licence": "Apache-2.0",
                "metadata": weights.metadata,
            }
        )
    if options.json:
        print(json.dumps({"results": rows}))
    else:
        for row in rows:
            print(f"{row['role']:8s} {row['millions']:5.2f} M parameters  {row['megabytes']:5.2f} MB  {row['file']}")
    return 0
