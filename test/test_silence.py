"""One warning about inputs that never come, with the topics that could be meant."""

from cross_view_loc.node.health import Health
from cross_view_loc.node.silence import Silence

IMAGE, INFO, TEXT = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo", "std_msgs/msg/String"
PUBLISHED = {"/camera/front/image_raw": [IMAGE], "/camera/front/camera_info": [INFO], "/talk": [TEXT]}


def test_a_mistyped_topic_is_told_once_with_those_there_are():
    told: list[str] = []
    silence = Silence(told.append)
    for _ in range(3):
        silence.check({"image": "/camera/frnt/image_raw"}, PUBLISHED, 2.0)
    (sentence,) = told
    assert "/camera/frnt/image_raw (image, nobody publishes it)" in sentence
    assert "/camera/front/image_raw" in sentence and "camera_info" not in sentence and "/talk" not in sentence
    silence.begin()
    silence.check({"image": "/camera/frnt/image_raw"}, PUBLISHED, 2.0)
    assert len(told) == 2


def test_a_graph_that_is_empty_at_first_is_told_of_again_when_it_is_not():
    told: list[str] = []
    silence = Silence(told.append)
    silent = {"image": "/frnt", "left camera_info": "/info"}
    for published in ({}, {}, PUBLISHED, PUBLISHED):
        silence.check(silent, published, 2.0)
    assert len(told) == 2
    assert "there is no other topic of type sensor_msgs/Image or sensor_msgs/CompressedImage" in told[0]
    assert "left camera_info" in told[1] and "/camera/front/camera_info" in told[1]


def test_a_topic_of_another_type_is_said_to_be_that():
    told: list[str] = []
    Silence(told.append).check({"fix": "/talk"}, PUBLISHED, 2.0)
    assert "/talk (fix, published as std_msgs/String)" in told[0]


def test_only_what_has_never_come_is_silent_and_not_before_its_time():
    now = [100.0]
    health = Health({"image": "/image", "fix": "/fix"}, lambda: now[0])
    now[0] += 1.9
    assert health.never_arrived(2.0) == {}
    now[0] += 0.2
    health.arrived("fix")
    assert health.never_arrived(2.0) == {"image": "/image"}
    now[0] += 100.0
    assert health.never_arrived(2.0) == {"image": "/image"}
    health.begin()
    assert health.never_arrived(2.0) == {}
