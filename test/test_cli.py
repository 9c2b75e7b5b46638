"""The command line: help with examples, exit status 0 only on success, errors in one sentence."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from bag_helpers import drive, write_bag2, write_map

from cross_view_loc import __version__, localizer
from cross_view_loc.cli import COMMANDS, main
from cross_view_loc.types import Estimate, Frame, Prior


class Believer:
    """A localizer that believes its prior, on the real map."""

    def __init__(self, aerial_map, settings=None) -> None:
        self.aerial_map, self.settings = aerial_map, settings

    def locate(self, frames: Sequence[Frame], prior: Prior) -> Estimate:
        self.aerial_map.patch(prior.east_m, prior.north_m, 64, 0.5, prior.yaw_rad)
        covariance = np.diag([0.25, 0.25, 1e-4])
        return Estimate(prior.stamp_ns, prior.east_m, prior.north_m, prior.yaw_rad, covariance, accepted=True)

    def follow(self, frames: Sequence[Frame]) -> None:
        pass


@pytest.fixture
def inputs(tmp_path, monkeypatch) -> dict[str, str]:
    monkeypatch.setattr(localizer, "Localizer", Believer)
    monkeypatch.chdir(tmp_path)
    return {"bag": str(write_bag2(tmp_path / "bag", drive())), "map": str(write_map(tmp_path / "map.mbtiles"))}


def refusal(words: Sequence[object], capsys) -> str:
    """The sentence a command refuses with."""
    assert main([str(word) for word in words]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    (sentence,) = [line for line in captured.err.splitlines() if not line.startswith(("topics, ", "  "))]
    assert sentence.startswith(f"cross_view_loc {words[0]}: ")
    return sentence


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_worked_examples(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"cross_view_loc {command}" in capsys.readouterr().out.split("examples", 1)[1]


def test_version_and_unknown_commands(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.strip() == __version__
    with pytest.raises(SystemExit) as ended:
        main(["fly"])
    assert ended.value.code == 2


def test_the_module_runs_as_a_program_without_importing_torch():
    code = "import sys, cross_view_loc.cli as c; c.build_parser('run'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_run_writes_results_and_one_json_object(inputs, capsys):
    assert main(["run", inputs["bag"], "--map", inputs["map"], "--out", "out", "--json"]) == 0
    captured = capsys.readouterr()
    summary = json.loads(captured.out)
    (row,) = summary["results"]
    assert row["frames"] == 5
    assert row["accepted"] == 0.8, "the first waits for a second one to confirm it"
    assert row["position_median_m"] < 1e-3
    assert row["prior_position_median_m"] < 1e-3
    assert summary["map_origin"]["from"] == "map"
    assert "/cam/image" in captured.err, "guessed topics are shown"
    names = {path.name for path in Path("out").iterdir()}
    assert names == {"estimates.tum", "estimates.csv", "estimates.geojson", "estimates.gpx", "estimates_bag",
                     "timings.csv", "metrics.json", "localizer.yaml", "report.html"}  # fmt: skip


def test_run_again_with_what_it_used_gives_the_same(inputs, capsys):
    assert main(["run", inputs["bag"], "--map", inputs["map"], "--out", "first"]) == 0
    assert main(["run", inputs["bag"], "--config", "first/localizer.yaml", "--out", "second"]) == 0
    assert "5 images: 4 accepted" in capsys.readouterr().out
    for name in ("estimates.tum", "estimates.csv"):
        assert Path("first", name).read_bytes() == Path("second", name).read_bytes()


def test_run_without_out_links_the_latest(inputs):
    assert main(["run", inputs["bag"], "--map", inputs["map"], "--stride", "2"]) == 0
    assert len(Path("results/latest/estimates.tum").read_text().splitlines()) == 2, "of 3, one to confirm"


def test_run_takes_the_first_fix_as_origin_and_then_claims_no_errors(inputs, tmp_path, capsys):
    anywhere = write_map(tmp_path / "anywhere.mbtiles", with_origin=False)
    assert main(["run", inputs["bag"], "--map", str(anywhere), "--out", "out", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["map_origin"]["from"] == "first fix"
    assert summary["results"][0]["position_median_m"] is None


def test_run_refuses_in_one_sentence(inputs, tmp_path, capsys):
    bag, aerial = inputs["bag"], inputs["map"]
    empty = write_bag2(tmp_path / "empty", [])
    (tmp_path / "broken.yaml").write_text("/**:\n  ros__parameters:\n    serach_radius_m: 3.0\n")
    (tmp_path / "topics.yaml").write_text("/**:\n  ros__parameters:\n    fix_topic: nowhere\n")
    guesses = main(["run", bag, "--map", aerial, "--out", "out"])
    assert guesses == 0
    capsys.readouterr()
    config = ["--config", "out/localizer.yaml"]
    assert "there is no bag" in refusal(["run", "nothing"], capsys)
    assert "empty" in refusal(["run", empty], capsys)
    assert "map.png" in refusal(["run", bag, *config, "--map", "map.png"], capsys)
    assert "search_radius_m" in refusal(["run", bag, "--config", "broken.yaml"], capsys)
    assert "/gps/fix" in refusal(["run", bag, "--config", "topics.yaml"], capsys)
    assert "--stride" in refusal(["run", bag, *config, "--stride", "0"], capsys)
    assert "--start" in refusal(["run", bag, *config, "--start", "-1"], capsys)
    assert "--start" in refusal(["run", bag, *config, "--start", "1000"], capsys)
    assert "--duration" in refusal(["run", bag, *config, "--duration", "0"], capsys)


def test_run_says_where_the_map_ends(inputs, tmp_path, capsys):
    main(["run", inputs["bag"], "--map", inputs["map"], "--out", "out"])
    text = Path("out/localizer.yaml").read_text()
    lines = ["    map_origin: [48.01, 11.0, 500.0]" if "map_origin:" in line else line for line in text.splitlines()]
    Path("away.yaml").write_text("\n".join(lines))
    capsys.readouterr()
    # Another origin only shifts coordinates: the fixes still say where the car is.
    assert main(["run", inputs["bag"], "--config", "away.yaml", "--out", "away"]) == 0
    elsewhere = drive()
    for topic, _, message in elsewhere:
        if topic == "/gps/fix":
            message.latitude += 1.0
    capsys.readouterr()
    sentence = refusal(["run", write_bag2(tmp_path / "far", elsewhere), "--config", "out/localizer.yaml"], capsys)
    assert "no imagery" in sentence


def test_demo_names_what_is_not_installed(monkeypatch, tmp_path, capsys):
    from cross_view_loc.commands import demo

    monkeypatch.setattr(demo, "NEEDED", {"a_module_that_nobody_has": "pip install it"})
    assert "pip install it" in refusal(["demo", "--out", tmp_path], capsys)


def test_demo_reuses_only_what_is_there(tmp_path, capsys):
    pytest.importorskip("rclpy")
    assert main(["demo", "--reuse", "--out", str(tmp_path)]) == 1
    assert "--reuse" in capsys.readouterr().err


def test_a_node_that_dies_is_quoted(tmp_path):
    pytest.importorskip("rclpy")
    from cross_view_loc.demo.node_process import NodeError, NodeProcess, wait_until

    parameters = tmp_path / "p.yaml"
    parameters.write_text('/**:\n  ros__parameters:\n    map_path: "/no/such/map.mbtiles"\n')
    with (
        NodeProcess(parameters, {}, tmp_path / "node.log") as node,
        pytest.raises(NodeError, match=r"ended with status 1; .*node\.log:[\s\S]*/no/such/map\.mbtiles"),
    ):
        wait_until(lambda: False, node, 60.0, "the node did nothing")


def test_table_of_the_demo_is_aligned_and_shows_gaps():
    from cross_view_loc.demo.table import error_rows, table_text
    from cross_view_loc.evaluation.metrics import FrameError

    error = FrameError(2.0, -1.0, 1.5, float("nan"), 1.0, True)
    rows = error_rows([error], [dataclasses.replace(error, position_m=0.25, heading_deg=-0.5)] * 3)
    assert rows[0]["gnss_median"] == 2.0
    assert rows[1]["ours_mean"] == 1.0
    assert rows[3]["gnss_p95"] is None
    assert rows[3]["ours_p95"] == 0.5
    lines = table_text(rows).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[-1].count("–") == 3


def test_a_folder_that_cannot_be_written_is_one_sentence(monkeypatch, capsys):
    from cross_view_loc.commands import models

    def fails(options):
        raise FileNotFoundError(2, "No such file or directory", "/proc/results")

    monkeypatch.setattr(models, "execute", fails)
    assert main(["models", "list"]) == 1
    error = capsys.readouterr().err
    assert "/proc/results: No such file or directory" in error and "Traceback" not in error


def test_benchmark_without_frames_is_refused(capsys):
    assert main(["benchmark", "--frames", "0"]) == 1
    assert "--frames is 0" in capsys.readouterr().err


def test_run_refuses_a_full_folder_before_it_works(tmp_path, capsys):
    """The bag is missing too, which would be found out first if the folder were looked at only at the end."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "theirs.txt").write_text("kept")
    assert main(["run", str(tmp_path / "no_bag"), "--out", str(tmp_path / "out")]) == 1
    assert "out is not an empty folder; name another with --out" in capsys.readouterr().err


def test_the_package_is_the_command_too():
    told = subprocess.run(
        [sys.executable, "-m", "cross_view_loc", "--version"], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == __version__
