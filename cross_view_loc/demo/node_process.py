"""The localizer as the process a vehicle would run: started, watched, stopped, and quoted when it dies."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import cross_view_loc
from cross_view_loc.errors import CrossViewError, MissingInputError

NODE_NAME = "localizer"
LOG_TAIL_LINES = 15


class NodeError(CrossViewError):
    """The node died or kept silent; the text ends with the tail of its log."""


def shared_file(relative: str) -> Path:
    """A file of the package that is no Python: in the checkout, in a ROS prefix or in the Python environment.

    Raises MissingInputError when it is nowhere.
    """
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    places = [Path(cross_view_loc.__file__).resolve().parents[1] / relative]
    places += [Path(prefix) / "share" / "cross_view_loc" / relative for prefix in prefixes if prefix]
    for place in places:
        if place.is_file():
            return place
    raise MissingInputError(
        f"{relative} of cross_view_loc is in none of {', '.join(map(str, places))}; install it again"
    )


@contextlib.contextmanager
def private_ros_network() -> Iterator[None]:
    """Settings of ROS for this process and those it starts: this machine only, a domain nobody else uses.

    Must be entered before rclpy starts up.
    """
    before = dict(os.environ)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(shared_file("config/fastdds_profile.xml"))
    with contextlib.ExitStack() as stack:
        if "ROS_DOMAIN_ID" not in os.environ:
            # Absent from some ROS installations; then the default domain, still on this machine only.
            with contextlib.suppress(ImportError):
                from domain_coordinator import domain_id

                os.environ["ROS_DOMAIN_ID"] = str(stack.enter_context(domain_id()))
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


class NodeProcess:
    """`python -m cross_view_loc.node.main` with a parameter file; use it in a `with` statement, which ends it.

    `module` and the `words` before --ros-args are for another program around the node.
    """

    def __init__(
        self,
        parameters: Path,
        overrides: Mapping[str, str | float],
        log: Path,
        module: str = "cross_view_loc.node.main",
        words: Sequence[str] = (),
    ) -> None:
        words = [sys.executable, "-m", module, *words, "--ros-args", "-r", f"__node:={NODE_NAME}"]
        words += ["--params-file", str(parameters)]
        for name, value in overrides.items():
            words += ["-p", f"{name}:={value}"]
        root = str(Path(cross_view_loc.__file__).resolve().parents[1])
        python_path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
        environment = os.environ | {"PYTHONPATH": python_path, "PYTHONUNBUFFERED": "1"}
        self.log = log
        self.exit_status: int | None = None
        with log.open("wb") as sink:
            # A session of its own: Ctrl-C reaches this process alone, which then ends the node in an orderly way.
            self._process = subprocess.Popen(
                words, stdout=sink, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )

    @property
    def pid(self) -> int:
        """Of the node's process."""
        return self._process.pid

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def check_alive(self) -> None:
        """Raise NodeError with the tail of the log when the node has ended by itself."""
        status = self._process.poll()
        if status is not None:
            raise self.failure(f"the node ended with status {status}")

    def failure(self, what: str) -> NodeError:
        """An error that quotes the end of the node's log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
        quoted = "\n".join(f"  | {line}" for line in lines) or "  | (it wrote nothing)"
        return NodeError(f"{what}; the end of its log {self.log}:\n{quoted}")

    def stop(self, patience_s: float = 10.0) -> int:
        """Interrupt the node as Ctrl-C would, wait, and return its exit status; killed when it does not end."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience_s)
        if self._process.poll() is None:
            self._process.kill()
        self.exit_status = self._process.wait()
        return self.exit_status


def wait_until(ready: Callable[[], bool], node: NodeProcess, at_most_s: float, what: str) -> None:
    """Wait until `ready()` is true; NodeError when the node ends before or it takes too long."""
    end = time.monotonic() + at_most_s
    while not ready():
        node.check_alive()
        if time.monotonic() > end:
            raise node.failure(f"{what} within {at_most_s:.0f} s")
        time.sleep(0.1)
