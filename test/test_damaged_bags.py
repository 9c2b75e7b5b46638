"""Real damage to real files: nothing lost passes as success, and what can be read is not thrown away."""

import json
from pathlib import Path

import numpy as np
import pytest
from bag_helpers import drive, write_bag2, write_map

from cross_view_loc import localizer
from cross_view_loc.bags.reader import Bag
from cross_view_loc.cli import main
from cross_view_loc.errors import InputError
from cross_view_loc.types import Estimate


class Believer:
    """A localizer that believes its prior."""

    def __init__(self, aerial_map, settings=None) -> None:
        self.threads = settings.threads

    def follow(self, frames) -> None:
        pass

    def locate(self, frames, prior) -> Estimate:
        covariance = np.diag([0.25, 0.25, 1e-4])
        return Estimate(frames[0].stamp_ns, prior.east_m, prior.north_m, prior.yaw_rad, covariance, accepted=True)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(localizer, "Localizer", Believer)
    monkeypatch.chdir(tmp_path)
    write_map(tmp_path / "map.mbtiles")
    return tmp_path


def run(bag: Path | str) -> int:
    return main(["run", str(bag), "--map", "map.mbtiles", "--out", "out"])


def summary() -> dict:
    return json.loads(Path("out/metrics.json").read_text())


@pytest.fixture(scope="module")
def long_mcap(tmp_path_factory) -> bytes:
    """Several chunks of a megabyte."""
    folder = write_bag2(tmp_path_factory.mktemp("long") / "long", drive(40.0))
    return next(folder.glob("*.mcap")).read_bytes()


def test_a_zeroed_block_is_not_passed_over_in_silence(long_mcap, capsys):
    middle, told = 300_000, []
    for length in range(200_000, 200_009):  # zeros read as empty records of nine bytes
        Path("holed.mcap").write_bytes(long_mcap[:middle] + bytes(length) + long_mcap[middle + length :])
        with Bag("holed.mcap") as bag, pytest.raises(InputError, match="damaged") as caught:
            list(bag.messages(["/odom"]))
        told.append(str(caught.value))
        if "of the 2001 messages on /odom" in told[-1]:
            break
    assert "of the 2001 messages on /odom" in told[-1], "one of the nine is what no library notices"
    assert run("holed.mcap") == 1
    assert "damaged: it gives" in summary()["partial"]
    assert "mcap recover holed.mcap" in capsys.readouterr().err
