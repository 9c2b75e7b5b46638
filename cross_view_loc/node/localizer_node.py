"""The ROS 2 node: sensor topics in, poses and TF out (`outputs.py`), /diagnostics once a second (`health.py`).

A managed node (`ros2 lifecycle`) that brings itself up with `autostart`:

    configure   the parameters are checked, the map is opened, the networks are loaded and warmed up
    activate    it subscribes (`subscriptions.py`) and works on images (`pipeline.py`)
    deactivate  it finishes the present image and hears nothing more
    cleanup     the networks and their GPU memory are given back, the map is closed

While configured it can be asked for what stands in `controls.py`.
"""

from __future__ import annotations

import time
from typing import Any

from cross_view_loc.errors import InputError
from cross_view_loc.inputs.assembler import FrameAssembler
from cross_view_loc.node import parameters, start
from cross_view_loc.node.controls import Controls
from cross_view_loc.node.diagnostics import Diagnostics
from cross_view_loc.node.health import ERROR, OK, Health, Verdict, tracker_verdict
from cross_view_loc.node.lifecycle import ManagedNode
from cross_view_loc.node.machine import Machine
from cross_view_loc.node.pipeline import Pipeline
from cross_view_loc.node.silence import Silence
from cross_view_loc.settings import Settings
from cross_view_loc.settings.contradictions import ignored_settings


class LocalizerNode(ManagedNode):
    """See the module's text; `make_localizer` lets tests replace the real localizer."""

    def __init__(self, make_localizer: start.MakeLocalizer = start.build_localizer, **node_arguments: Any) -> None:
        """Declare the parameters; everything else waits for `configure`."""
        super().__init__("localizer", **node_arguments)
        self._make_localizer = make_localizer
        self._declared = parameters.Declared(self)
        self.settings = Settings()
        self.health = Health({})
        self.map_file = start.MapFile("")
        self.pipeline: Pipeline | None = None
        self._controls: Controls | None = None
        self._machine = Machine()
        self._silence = Silence(self.get_logger().warning)
        self._diagnostics = Diagnostics(self, self._verdicts, self._declared.value("image_topic"))
        parameters.follow_changes(self, lambda: self.settings, self._apply)

    @property
    def autostart(self) -> bool:
        """Whether the node shall bring itself up."""
        return bool(self._declared.value("autostart"))

    def close(self) -> None:
        """Finish the present image, then take the node down."""
        self._end()
        self.destroy_node()

    def _configure(self) -> None:
        log = self.get_logger()
        self.settings = settings = self._declared.settings()
        self.health = Health(start.watched_topics(settings))
        self.map_file = start.MapFile(settings.map_path, settings.map_cache, settings.map_offline)
        FrameAssembler(settings)  # a calibration file that is none shall not be noticed after loading networks only
        origin = start.configured_origin(settings, self.map_file)
        if origin is not None:
            start.refuse_origin_elsewhere(origin, settings, self.map_file)
        elif not settings.fix_topic:
            raise InputError("parameter map_origin is empty and no fix_topic can give it; set one of them")
        log.info(f"loading the networks (device {settings.device})")
        began = time.perf_counter()
        localizer = self._make_localizer(settings, self.map_file)
        loaded_s = time.perf_counter() - began
        for notice in filter(None, [getattr(localizer, "depth_notice", ""), *ignored_settings(settings)]):
            log.warning(notice)
        log.info(f"networks loaded in {loaded_s:.1f} s; warming up")
        warm_s = start.warm_up(localizer, settings.device)
        log.info(f"localizer loaded in {loaded_s:.1f} s, warmed up in {warm_s:.1f} s")
        self.pipeline = Pipeline(self, settings, self.health, self.map_file, localizer)
        self._controls = Controls(self, self.pipeline, self.map_file)
        if origin is not None:
            self.pipeline.set_origin(origin)

    def _activate(self) -> None:
        assert self.pipeline is not None
        self.health.begin()
        self._silence.begin()
        self.pipeline.start()
        settings, waits_for = self.settings, self.pipeline.waits_for
        if waits_for:
            self.get_logger().info(waits_for)
        self.get_logger().info(f"ready: images from {settings.image_topic}, poses of {settings.base_frame} on ~/pose")

    def _deactivate(self) -> None:
        if self.pipeline is not None:
            self.pipeline.stop()

    def _cleanup(self) -> None:
        if self._controls is not None:
            self._controls.close()
        if self.pipeline is not None:
            self.pipeline.close()
        self._controls = self.pipeline = None
        self.map_file.close()
        start.release_memory()

    def _apply(self, settings: Settings) -> None:
        self.settings = settings
        if self.pipeline is not None:
            self.pipeline.apply(settings)
        self.get_logger().info("parameters changed")

    def _verdicts(self) -> list[Verdict]:
        state = self.lifecycle_state
        level, sentence = (ERROR, self.refusal) if self.refusal else (OK, f"the node is {state}")
        lifecycle = Verdict("lifecycle", level, sentence, {"lifecycle state": state})
        if state != "active" or self.pipeline is None:
            return [lifecycle]
        pipeline, tracker, timeout_s = self.pipeline, self.pipeline.tracker, self.settings.input_timeout_s
        self._tell_of_silence(timeout_s)
        verdicts = self.health.verdicts(
            timeout_s,
            pipeline.assumptions(),
            self.map_file.problems(),
            pipeline.counts(),
            is_tracking=tracker is not None and tracker.state == "tracking",
            coverage=pipeline.coverage,
        )
        if tracker is not None:
            verdicts.append(tracker_verdict(tracker.state, tracker.reason))
        return [lifecycle, *verdicts, self._machine.verdict(self.settings.device)]

    def _tell_of_silence(self, timeout_s: float) -> None:
        silent = self.health.never_arrived(timeout_s)
        if not silent:
            return
        own = f"{self.get_fully_qualified_name()}/"
        published = {
            name: types
            for name, types in self.get_topic_names_and_types()
            if not name.startswith(own) and self.count_publishers(name)
        }
        resolved = {key: self.resolve_topic_name(topic) for key, topic in silent.items()}
        self._silence.check(resolved, published, timeout_s)
