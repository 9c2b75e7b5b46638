"""`cross_view_loc doctor`: what is right and wrong with a recording, its map and this machine, and what to set."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

from cross_view_loc.bags.results import without_nan
from cross_view_loc.bags.topics import topics_text
from cross_view_loc.doctor.examine import Examination, examine
from cross_view_loc.doctor.findings import Finding, Group, Level, as_text
from cross_view_loc.errors import CrossViewError, InputError
from cross_view_loc.settings import Settings

EXAMPLES = """examples:
  cross_view_loc doctor                                  this machine: weights, GPU, memory, versions
  cross_view_loc doctor my_drive/ --map area.mbtiles     a recording with its map
  cross_view_loc doctor my_drive/ --map area.mbtiles --config my_car.yaml
  cross_view_loc doctor my_drive/ --map area.mbtiles --yaml my_car.yaml
  cross_view_loc doctor my_drive/ --json
  cross_view_loc doctor --live 20 --map area.mbtiles     the running ROS 2 graph, drivers started, driving if you can

Findings are OK, WARN (works, but worse than it could) or FAIL (no pose, or a wrong one); each says what was measured,
what to do and which parameter to set. At the end comes the parameter file to start from. The exit status is 0 when
nothing is FAIL. Needs no network, and ROS only for --live.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("bag", type=Path, nargs="?", metavar="BAG", help="a recording; without one, only the machine")
    parser.add_argument(
        "--live", type=float, nargs="?", const=10.0, metavar="S", help="listen to the running ROS 2 graph (%(const)s s)"
    )
    parser.add_argument("--map", metavar="MAP", help=".mbtiles, GeoTIFF or a source's YAML; default: map_path")
    parser.add_argument(
        "--config", type=Path, metavar="YAML", help="the node's parameter file; topics it does not name are guessed"
    )
    parser.add_argument("--yaml", type=Path, metavar="FILE", help="write the parameter file to start from")
    parser.add_argument("--quick", action="store_true", help="do not localize an image to see how long it takes")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def execute(options: argparse.Namespace) -> int:
    """Examine, print, and say by the exit status whether anything fails."""
    refusal: Finding | None = None
    configured = None
    if options.config is not None:
        try:
            configured = Settings.from_yaml(options.config)
        except CrossViewError as error:
            refusal = Group("configuration").fail(
                "config.valid", f"{error}.", "Correct it; topics are guessed meanwhile."
            )
    with tempfile.TemporaryDirectory() as folder:
        bag = options.bag if options.live is None else _listened(Path(folder) / "live", options)
        examination = examine(bag, options.map, configured, options.quick)
    if refusal is not None:
        examination.findings.insert(0, refusal)
    if examination.topics is not None:
        print(topics_text(dataclasses.asdict(examination.topics)), file=sys.stderr)
    given = [str(options.bag)] if options.live is None else ["--live"]
    what = " ".join([*given, *(["--map", str(options.map)] if options.map else [])])
    text = examination.parameter_file(what) if bag is not None else ""
    if options.yaml is not None and text:
        options.yaml.write_text(text, encoding="utf-8")
    if options.json:
        print(json.dumps(without_nan(_summary(examination, text))))
    else:
        _print(examination, text)
    return 0 if examination.is_ok else 1


def _listened(path: Path, options: argparse.Namespace) -> Path:
    """A bag of what the graph publishes. Raises InputError when it cannot be listened to or is silent."""
    if options.bag is not None:
        raise InputError("both BAG and --live are given; give one of them")
    if not 1.0 <= options.live <= 600.0:
        raise InputError(f"--live is {options.live:g}; give 1 to 600 seconds")
    missing = next((name for name in ("rclpy", "tf2_msgs", "sensor_msgs") if find_spec(name) is None), None)
    if missing is not None:
        raise InputError(
            f"--live needs ROS 2, but there is no {missing} here; source it, or record a bag and give that"
        )
    from cross_view_loc.node.graph_recording import record_graph

    print(f"listening for {options.live:g} s …", file=sys.stderr)
    record_graph(path, options.live)
    return path


def _summary(examination: Examination, text: str) -> dict[str, object]:
    return {
        "ok": examination.is_ok,
        "counts": _counts(examination),
        "findings": [finding.as_json() for finding in examination.findings],
        "topics": dataclasses.asdict(examination.topics) if examination.topics else None,
        "parameters": text or None,
    }


def _counts(examination: Examination) -> dict[str, int]:
    counts = Counter(finding.level for finding in examination.findings)
    return {level.name: counts[level] for level in Level}


def _print(examination: Examination, text: str) -> None:
    print(as_text(examination.findings))
    counts = _counts(examination)
    print(f"\n{counts['FAIL']} FAIL, {counts['WARN']} WARN, {counts['OK']} OK")
    if text:
        print("\n--- the parameter file to start from (also by --yaml FILE) ---")
        print(text, end="")
