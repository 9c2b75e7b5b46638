"""The examination from beginning to end: every check by itself, so that one that cannot be made stops no other."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from cross_view_loc.aerial.ahead import online_store
from cross_view_loc.aerial.sources import AerialSource
from cross_view_loc.bags.offline import map_origin
from cross_view_loc.bags.reader import Bag, BagTopics
from cross_view_loc.bags.runner import with_topics
from cross_view_loc.doctor import (
    cameras,
    contents,
    depths,
    gnss,
    headings,
    imagery,
    joined,
    machine,
    maps,
    motion,
    transforms,
)
from cross_view_loc.doctor.advice import advised_settings, parameter_file
from cross_view_loc.doctor.findings import Finding, Group, Level, worst
from cross_view_loc.doctor.stamps import clock_findings
from cross_view_loc.doctor.survey import Survey, survey
from cross_view_loc.errors import CrossViewError, InputError
from cross_view_loc.geometry.geodesy import MapProjection
from cross_view_loc.geometry.transforms import Matrix
from cross_view_loc.inputs.stamps import NS_PER_S, Timeline
from cross_view_loc.settings import Settings
from cross_view_loc.settings.cameras import CameraSettings

T = TypeVar("T")


@dataclass
class Examination:
    """Findings as they come, and the settings they lead to."""

    settings: Settings
    findings: list[Finding] = field(default_factory=list)
    topics: BagTopics | None = None

    @property
    def is_ok(self) -> bool:
        """No FAIL."""
        return worst(self.findings) < Level.FAIL

    @property
    def is_curable(self) -> bool:
        """Whether every FAIL comes with a value to set, so that images can be tried with those set."""
        return all(finding.value is not None for finding in self.findings if finding.level == Level.FAIL)

    def parameter_file(self, what: str) -> str:
        """The YAML to start from."""
        settings, notes = advised_settings(self.settings, self.findings)
        return parameter_file(settings, notes, what, self.is_ok)

    def advised(self) -> Settings:
        """The settings so far with what the findings so far say to set."""
        return advised_settings(self.settings, self.findings)[0]

    def check(self, group: str, make: Callable[[], list[Finding]]) -> None:
        """Add what `make` finds; an error of the check itself becomes a finding."""
        try:
            self.findings += make()
        except Exception as error:  # a damaged recording may break a check in any way
            self._broken(group, error)

    def attempt(self, group: str, make: Callable[[], tuple[list[Finding], T]], otherwise: T) -> T:
        """As `check`, for a check that also gives something."""
        try:
            findings, result = make()
        except Exception as error:  # as above
            self._broken(group, error)
            return otherwise
        self.findings += findings
        return result

    def _broken(self, group: str, error: Exception) -> None:
        reason = " ".join(str(error).split()) or type(error).__name__
        self.findings.append(
            Group(group).warn(
                "check.broken", f"A check could not be made ({type(error).__name__}: {reason[:200]}).",
                "The recording holds something unforeseen; the other findings stand.",
            )
        )  # fmt: skip


def examine(bag_path: Path | None, map_path: str | None, configured: Settings | None, is_quick: bool) -> Examination:
    """Look at a bag with its map, or at the machine alone without a bag. Raises nothing for what is wrong with them.

    `is_quick` leaves out what loads the networks to localize an image.
    """
    examination = Examination(configured or Settings())
    example = None
    with ExitStack() as open_things:
        if bag_path is not None:
            example = _recording(examination, bag_path, map_path, configured, open_things)
        elif map_path or examination.settings.map_path:
            _map(examination, map_path, Survey(), open_things)
        examination.check("machine", lambda: machine.machine_findings(examination.settings))
        if example is not None and not is_quick:
            examination.check("machine", example)
    return examination


def _recording(
    examination: Examination, bag_path: Path, map_path: str | None, configured: Settings | None, open_things: ExitStack
) -> Callable[[], list[Finding]] | None:
    """All that concerns the bag; what localizes one of its images, when that is possible."""
    try:
        bag = open_things.enter_context(Bag(bag_path))
    except CrossViewError as error:
        examination.findings.append(
            contents.GROUP.fail("bag.opens", f"{error}.", "")  # the sentence ends in its remedy
        )
        _map(examination, map_path, Survey(), open_things)
        return None
    examination.check("bag", lambda: contents.bag_findings(bag))
    topics = examination.attempt("bag", lambda: contents.choose(bag, configured)[::-1], BagTopics("", "", ""))
    examination.topics = topics
    examination.settings = _with_known_topics(examination.settings, topics)
    found = _surveyed(bag, topics)
    if found.broke_off:
        examination.findings.append(
            contents.GROUP.fail("bag.whole", f"{found.broke_off}; what follows is about the part before.",
                                "Repair it with `ros2 bag reindex` or `mcap recover`.")
        )  # fmt: skip
    for topic, count in found.undecodable.items():
        examination.findings.append(
            contents.GROUP.warn("bag.undecodable", f"{count} messages on {topic} do not follow their type "
                                f"{bag.topics[topic].type}.", "Record again with the message package's own version.")
        )  # fmt: skip
    T_base_camera, track = _inputs(examination, bag, topics, found)
    source = _map(examination, map_path, found, open_things)
    projection, origin_from = _projection(examination, source, bag, topics, found)
    if projection is None:
        return None
    return _frames(examination, bag, topics, found, projection, origin_from, source, T_base_camera, track)


def _with_known_topics(settings: Settings, topics: BagTopics) -> Settings:
    """The settings with the bag's names; what the bag lacks keeps its name, as settings cannot be without."""
    if settings.cameras:
        rig = tuple(
            dataclasses.replace(
                found,
                image_topic=found.image_topic or wanted.image_topic,
                camera_info_topic=found.camera_info_topic or wanted.camera_info_topic,
            )
            for found, wanted in zip(topics.rig, settings.rig, strict=False)
        )
        rig += settings.rig[len(rig) :]
        return with_topics(settings, dataclasses.replace(topics, rig=rig, fix=topics.fix or settings.fix_topic))
    image, info = topics.image or settings.image_topic, topics.camera_info or settings.camera_info_topic
    fix = topics.fix or settings.fix_topic
    return with_topics(settings, dataclasses.replace(topics, image=image, camera_info=info, fix=fix))


def _surveyed(bag: Bag, topics: BagTopics) -> Survey:
    seconds = (bag.end_ns - bag.start_ns) / NS_PER_S
    with tqdm(total=round(seconds, 1), unit="s", desc="reading", file=sys.stderr, disable=None) as bar:

        def advance(time_ns: int) -> None:
            done = (time_ns - bag.start_ns) / NS_PER_S
            if done - bar.n > 1.0:
                bar.update(done - bar.n)

        return survey(bag, topics, advance)


def _inputs(
    examination: Examination, bag: Bag, topics: BagTopics, found: Survey
) -> tuple[Matrix | None, Timeline[Matrix] | None]:
    """Checks of every input by itself and against the others."""
    check, settings = examination.check, examination.settings
    check("bag", lambda: contents.input_findings(bag, topics, found.stamps, settings))
    used = {getattr(topics, part.name) for part in contents.PARTS}
    used |= {name for camera in topics.cameras for name in _topics_of(camera)}
    check("clocks", lambda: clock_findings({t: r for t, r in found.stamps.items() if t in used}, settings))
    mounts = [_camera(examination, camera, found) for camera in topics.cameras]
    T_base_camera, settings = mounts[0], examination.settings
    if topics.fix in found.stamps:
        check("transforms", lambda: transforms.antenna_findings(found, settings, found.stamps[topics.fix].frame_id))
    check("transforms", lambda: transforms.conflict_findings(found))
    track, imu_topic = None, topics.imu
    if found.imu:
        frame = found.imu[0].header.frame_id
        loose = transforms.sensor_findings(found, settings, frame, "Imu", "imu_topic", topics.imu)
        examination.findings += loose
        imu_topic = "" if loose else topics.imu
    if topics.fix:
        check("GNSS", lambda: gnss.fix_findings(found, topics.fix, settings))
    if found.odometry:
        child = str(found.odometry[0].child_frame_id)
        loose = transforms.sensor_findings(found, settings, child, "odometry", "odometry_topic", topics.odometry)
        examination.findings += loose
        if not loose:
            track = motion.base_track(found.odometry, found, settings)
            check("odometry", lambda: motion.odometry_findings(found, topics.odometry, settings, track))
    if found.fixes:
        check("heading", lambda: headings.heading_findings(found, imu_topic, settings, track))
    return T_base_camera, track


def _topics_of(camera: CameraSettings) -> tuple[str, str, str]:
    return camera.image_topic, camera.camera_info_topic, camera.depth_topic


def _camera(examination: Examination, camera: CameraSettings, found: Survey) -> Matrix | None:
    """Images, calibration and mount of one camera; its pose (4, 4) in the base frame when TF knows it."""
    image, info = camera.image_topic, camera.camera_info_topic
    if image:
        examination.check("images", lambda: cameras.image_findings(found, image))
    if info:
        examination.check(
            "camera calibration", lambda: cameras.calibration_findings(found, info, image, camera.is_rectified)
        )
    if not image:
        return None
    frames = [found.stamps[topic].frame_id for topic in (image, info) if topic in found.stamps]
    frame = camera.camera_frame or examination.settings.camera_frame or next(filter(None, frames), "")
    T_base_camera = examination.attempt(
        "transforms", lambda: transforms.camera_findings(found, examination.settings, frame), None
    )
    infos = found.camera_infos.get(info, [])
    examination.check(
        "depth", lambda: depths.depth_findings(found.depth, camera, infos, T_base_camera, examination.settings)
    )
    better = examination.advised().base_frame
    if better != examination.settings.base_frame:  # the other sensors are not to be blamed for the same
        examination.settings = dataclasses.replace(examination.settings, base_frame=better)
    return T_base_camera


def _map(examination: Examination, map_path: str | None, found: Survey, open_things: ExitStack) -> AerialSource | None:
    """The map, if there is one that opens, with its findings noted."""
    where, settings = map_path or examination.settings.map_path, examination.settings
    source = examination.attempt("map", lambda: maps.open_map(where, settings)[::-1], None)
    if source is None:
        return None
    store = online_store(source)
    if store is not None:
        open_things.callback(store.close)
    examination.settings = dataclasses.replace(settings, map_path=str(Path(where).expanduser().resolve()))
    examination.check("map", lambda: maps.map_findings(source, where, found, settings))
    return source


def _projection(
    examination: Examination, source: AerialSource | None, bag: Bag, topics: BagTopics, found: Survey
) -> tuple[MapProjection | None, str]:
    """The map frame as `run` would choose it; about the first fix where there is no map."""
    settings = examination.settings
    try:
        if source is not None and topics.fix and found.fixes:
            origin, origin_from = map_origin(settings, source, bag, topics)
            examination.findings += maps.origin_findings(origin, origin_from, settings)
        elif found.fixes:
            origin, origin_from = found.fixes[0].origin, "first fix"
        else:
            return None, ""
        return MapProjection(origin, settings.map_projection), origin_from
    except InputError as error:
        examination.findings.append(
            maps.GROUP.fail("map.origin", f"{error}", "Correct map_origin.", parameter="map_origin")
        )
        return None, ""


def _frames(
    examination: Examination,
    bag: Bag,
    topics: BagTopics,
    found: Survey,
    projection: MapProjection,
    origin_from: str,
    source: AerialSource | None,
    T_base_camera: Matrix | None,
    track: Timeline[Matrix] | None,
) -> Callable[[], list[Finding]] | None:
    """Truth, whole frames, the road's plane."""
    settings = examination.settings
    is_elsewhere = any(each.check == "map.elsewhere" for each in examination.findings)
    if topics.truth and found.fixes and origin_from != "first fix" and not (is_elsewhere and origin_from == "map"):
        examination.check("GNSS", lambda: gnss.truth_findings(found, topics.truth, settings, projection))
    if not topics.image or T_base_camera is None or not examination.is_curable:
        return None
    advised = joined.with_known_origin(examination.advised(), projection)
    base_motion = joined.base_motion(
        track if _is_trusted(examination, "odometry.scale") else None, found.fixes, settings
    )
    rate_hz = found.stamps[topics.image].rate_hz if topics.image in found.stamps else float("nan")
    with tqdm(unit="image", desc="joining", file=sys.stderr, disable=None) as bar:

        def join() -> tuple[list[Finding], joined.JoinedFrames]:
            frames = joined.join_frames(bag, topics, advised, projection, base_motion, rate_hz, lambda: bar.update(1))
            return joined.join_findings(frames), frames

        frames = examination.attempt("joined inputs", join, joined.JoinedFrames())
    examination.check(joined.MOUNT.name, lambda: joined.mount_findings(frames.road, T_base_camera, settings))
    if source is None or frames.example is None:
        return None
    frame, prior = frames.example
    fix_std_m = gnss.reported_std_m(found.fixes)

    def localized() -> list[Finding]:
        timed = machine.timed_frame(source, projection, advised, frame, prior)
        use_truth = origin_from != "first fix"
        return [
            timed,
            *imagery.offset_findings(bag, topics, source, projection, advised, fix_std_m, use_truth),
        ]

    return localized


def _is_trusted(examination: Examination, check: str) -> bool:
    return not any(each.check == check and each.level > Level.OK for each in examination.findings)
