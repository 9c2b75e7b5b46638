"""The benchmark of the node: stamps in bytes, the clock's arithmetic, the process's figures, and one short run."""

import json
import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: the node's tests need ROS or `pip install .[ros]`")
pytest.importorskip("tf2_msgs.msg", reason="tf2_msgs is not installed: see resource/tf2_msgs")

from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from cross_view_loc.evaluation.node_load import HEIGHT, WIDTH, Load, drive, measure, rig
from cross_view_loc.node.load import ProcessWatch, stamped
from cross_view_loc.node.timed import STAGES, StageClock

KINDS = {"compressed": CompressedImage, "raw": Image}


@pytest.mark.parametrize("transport", ["compressed", "raw"])
@pytest.mark.parametrize("count", [1, 4])
def test_the_load_is_what_it_says(transport, count):
    load = Load(count, transport, 10.0, 0.5)
    sent = list(drive(load, rig(count)))
    assert [message.at_s for message in sent] == sorted(message.at_s for message in sent)
    images = [message for message in sent if message.topic.endswith("/image")]
    assert len(images) == 5 * count
    assert len({message.topic for message in images}) == count
    stamp = 1_700_000_001_234_567_890
    for message, kind in ((images[0], KINDS[transport]), (sent[sent.index(images[0]) - 1], CameraInfo)):
        read = deserialize_message(stamped(message.data, stamp), kind)
        assert (read.header.stamp.sec, read.header.stamp.nanosec) == divmod(stamp, 10**9)
        assert read.header.frame_id == "camera_front_optical"
    if transport == "raw":
        image = deserialize_message(images[0].data, Image)
        assert (image.width, image.height, len(image.data)) == (WIDTH, HEIGHT, WIDTH * HEIGHT * 3)
    assert images[0].data != images[count].data  # not one picture again and again


def test_stages_add_up_to_the_whole():
    clock = StageClock()
    stamp = time.time_ns() - 50_000_000
    clock.arrive(stamp)
    clock.begin()
    clock.is_of(stamp)
    time.sleep(0.02)
    for stage, seconds in (("decode", 0.002), ("locate", 0.01), ("patch", 0.004), ("publish", 0.001)):
        clock.add(stage, seconds)
    clock.left()
    (row,) = clock.rows
    assert row["inference"] == pytest.approx(6.0)
    assert row["transport"] >= 50.0 and row["total"] >= 70.0
    assert sum(row[stage] for stage in STAGES[:-1]) == pytest.approx(row["total"], abs=0.01)
    clock.left()  # a pose of an image that nobody saw come in counts for nothing
    clock.add("decode", 1.0)
    assert len(clock.rows) == clock.received == 1


def test_memory_that_grows_has_a_slope():
    watch = ProcessWatch(0)
    watch.samples = [(float(t), 0.25 * t, 100.0 + 0.1 * t) for t in range(120)]
    assert watch.rss_slope_mb_per_min == pytest.approx(6.0)
    assert watch.cpu_percent == pytest.approx(25.0)
    watch.samples = [(float(t), 0.0, 500.0 if t < 30 else 600.0) for t in range(120)]
    assert watch.rss_slope_mb_per_min == pytest.approx(0.0)  # what is filled in the first half is no leak
    watch.samples = watch.samples[:20]
    assert np.isnan(watch.rss_slope_mb_per_min)


def test_a_short_run_over_dds(tmp_path):
    row = measure(Load(1, "compressed", 5.0, 3.0, is_stand_in=True), tmp_path)
    assert row["images_sent"] == 15
    assert 0 < row["moments_processed"] <= row["images_received"] <= 15
    assert row["node_exit_status"] == 0
    assert row["total_ms_p50"] >= row["decode_ms_p50"] > 0.0
    assert row["inference_ms_p50"] < row["total_ms_p50"]
    json.dumps(row)
