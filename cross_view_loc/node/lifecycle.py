"""A managed node whose four steps are plain methods: what they refuse with is kept as a sentence, and nothing escapes.

configure
    reads what is expensive and everything that can be wrong; unconfigured → inactive
activate
    begins to work; inactive → active
deactivate
    stops working, keeps what was read; active → inactive
cleanup
    gives everything back; inactive → unconfigured

A step that raises `CrossViewError` is a FAILURE of its transition: the node stays where it was, and a manager (or a
person with `ros2 lifecycle set`) may try again. Any other exception is a defect: it is logged with its traceback, the
node cleans up and is unconfigured again.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from cross_view_loc.errors import CrossViewError


class ManagedNode(LifecycleNode):
    """Override the four steps; `_deactivate` and `_cleanup` must bear being called when there is nothing to undo."""

    def __init__(self, name: str, **node_arguments: Any) -> None:
        super().__init__(name, **node_arguments)
        self.refusal = ""
        """Why the last transition failed; empty when it did not."""
        self._answer_only_possible_transitions()

    def _configure(self) -> None:
        """Read and check everything. Raises CrossViewError when something is unusable."""

    def _activate(self) -> None:
        """Begin to work. Raises CrossViewError when that is impossible."""

    def _deactivate(self) -> None:
        """Stop working."""

    def _cleanup(self) -> None:
        """Give everything back."""

    def bring_up(self) -> bool:
        """Configure and activate without a manager; False, and `refusal` tells why, when that failed."""
        done = TransitionCallbackReturn.SUCCESS
        return self.trigger_configure() == done and self.trigger_activate() == done

    @property
    def lifecycle_state(self) -> str:
        """unconfigured, inactive, active or finalized; of a transition, its name."""
        return str(self._state_machine.current_state[1])

    # --- rclpy's callbacks ---

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._step("configure", self._configure, undo=self._cleanup)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._step("activate", self._activate, undo=self._deactivate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._step("deactivate", self._deactivate)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._step("cleanup", self._cleanup)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._step("shutdown", self._end)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        refusal = self.refusal
        outcome = self._step("clean up after the error", self._end)
        self.refusal = refusal
        return outcome

    def _end(self) -> None:
        self._deactivate()
        self._cleanup()

    def _step(
        self, name: str, step: Callable[[], None], undo: Callable[[], None] = lambda: None
    ) -> TransitionCallbackReturn:
        self.refusal = ""
        try:
            step()
        except CrossViewError as error:
            self.refusal = str(error)
            self.get_logger().error(f"cannot {name}: {error}")
            undo()
            return TransitionCallbackReturn.FAILURE
        except Exception as error:
            if not self.context.ok():
                raise  # shut down in the middle of it: nothing is wrong, and nobody listens
            self.refusal = f"internal error {type(error).__name__}: {error}; please report it"
            self.get_logger().fatal(f"cannot {name}: {self.refusal}\n{traceback.format_exc()}")
            return TransitionCallbackReturn.ERROR
        return TransitionCallbackReturn.SUCCESS

    def _answer_only_possible_transitions(self) -> None:
        """rclpy raises into the executor, and so ends the node, when asked for a transition the state does not have."""
        change_state = self._service_change_state.callback

        def answer(request: Any, response: Any) -> Any:
            try:
                return change_state(request, response)
            except rclpy_implementation.RCLError:
                wanted = request.transition.label or request.transition.id
                self.get_logger().warning(f"there is no transition '{wanted}' from state {self.lifecycle_state}")
                response.success = False
                return response

        self._service_change_state.callback = answer
