"""A folder of recordings is as good as their names one by one."""

import json
import shutil
from pathlib import Path

import pytest
from bag_helpers import drive, write_bag2, write_map

from cross_view_loc.bags.formats import bags_in
from cross_view_loc.bags.reader import Bag
from cross_view_loc.cli import main
from cross_view_loc.commands import run as run_command
from cross_view_loc.commands import run_many
from cross_view_loc.errors import InputError


@pytest.fixture
def day(tmp_path, monkeypatch) -> Path:
    """Three recordings of different kinds, written in another order than that of their names."""
    monkeypatch.chdir(tmp_path)
    write_map(tmp_path / "map.mbtiles")
    folder = tmp_path / "day"
    folder.mkdir()
    whole = write_bag2(folder / "noon", drive())
    shutil.copy(next(whole.glob("*.mcap")), folder / "morning.mcap")
    (folder / "evening.bag").write_bytes(b"#ROSBAG V2.0\n")
    (folder / "notes.txt").write_text("rain")
    (folder / "results").mkdir()
    return folder


def test_a_folder_is_its_recordings_in_order_of_name(day, monkeypatch, capsys):
    given = []
    monkeypatch.setattr(run_many, "run_many", lambda options: given.extend(options.bags) or 0)
    assert main(["run", "day", "other.mcap", "--map", "map.mbtiles"]) == 0
    assert given == [Path("day/evening.bag"), Path("day/morning.mcap"), Path("day/noon"), Path("other.mcap")]
    assert "day holds 3: evening.bag, morning.mcap, noon" in capsys.readouterr().err


def test_a_folder_with_one_recording_is_that_recording(day, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(
        run_command, "run_bag", lambda bag, options: seen.append(bag) or (_ for _ in ()).throw(InputError("stop"))
    )
    shutil.rmtree(day / "noon")
    (day / "evening.bag").unlink()
    assert main(["run", "day", "--map", "map.mbtiles"]) == 1
    assert seen == [Path("day/morning.mcap")]
    with Bag(day) as bag:
        assert bag.topics["/cam/image"].count == 5


def test_a_rosbag2_folder_is_one_recording_however_many_files_it_has(day):
    shutil.copy(day / "morning.mcap", day / "noon" / "noon_1.mcap")
    assert bags_in(day / "noon") == []


def test_other_commands_name_the_recordings_to_choose_from(day):
    with pytest.raises(InputError, match=r"several recordings: give one of them \(evening.bag, morning.mcap, noon\)"):
        Bag(day)
    with pytest.raises(InputError, match="no recording lies in it"):
        Bag(day / "results")


def test_each_recording_of_a_folder_has_its_results(day, monkeypatch, capsys):
    from test_damaged_bags import Believer
    from test_run import Inline

    from cross_view_loc import localizer

    monkeypatch.setattr(localizer, "Localizer", Believer)
    monkeypatch.setattr(run_many, "ProcessPoolExecutor", Inline)
    (day / "evening.bag").unlink()
    assert main(["run", "day", "--map", "map.mbtiles", "--out", "out", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["bags"]
    assert [Path(bag).name for bag in rows] == ["morning.mcap", "noon"]
    assert sorted(path.name for path in Path("out").iterdir()) == ["morning", "noon"]
