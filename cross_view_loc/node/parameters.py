"""Declares the table of settings as ROS parameters, and lets the live ones change."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import rclpy.parameter
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterException, ParameterUninitializedException
from rclpy.node import Node

from cross_view_loc.errors import InputError
from cross_view_loc.settings import PARAMETERS, Settings, belongs_to_ros, camera_rows, hint_for
from cross_view_loc.settings.parameter import Parameter, Value

ARRAY_TYPES = {
    "double_array": rclpy.parameter.Parameter.Type.DOUBLE_ARRAY,
    "string_array": rclpy.parameter.Parameter.Type.STRING_ARRAY,
}


def descriptor_of(parameter: Parameter) -> ParameterDescriptor:
    """What `ros2 param describe` shows: description, range or choices, whether it is fixed."""
    descriptor = ParameterDescriptor(
        name=parameter.name, description=parameter.description, read_only=parameter.read_only
    )
    if parameter.choices:
        descriptor.additional_constraints = f"one of: {', '.join(parameter.choices)}"
    if parameter.minimum is not None and parameter.maximum is not None:
        if parameter.kind == "integer":
            limits = IntegerRange(from_value=int(parameter.minimum), to_value=int(parameter.maximum), step=1)
            descriptor.integer_range = [limits]
        else:
            limits = FloatingPointRange(from_value=parameter.minimum, to_value=parameter.maximum, step=0.0)
            descriptor.floating_point_range = [limits]
    return descriptor


class Declared:
    """The table, declared on a node; what was given that cannot be is said by `settings`, not while declaring.

    So a managed node with a bad parameter exists, and tells its manager when it is told to configure.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._refusals: list[str] = []
        given: Mapping[str, Any] = getattr(node, "_parameter_overrides", {})
        names = given["cameras"].value if "cameras" in given else None
        cameras = names if isinstance(names, (list, tuple)) else ()  # else refused below
        self._rows = [*PARAMETERS, *(row for camera in dict.fromkeys(cameras) for row in camera_rows(str(camera)))]
        for parameter in self._rows:
            value = self._checked(parameter, given[parameter.name].value if parameter.name in given else None)
            # rclpy takes an empty list for bytes, so an array is declared by its type and stays unset when empty.
            default: Any = value if value != () else ARRAY_TYPES[parameter.kind]
            with contextlib.suppress(ParameterUninitializedException, InvalidParameterException):
                node.declare_parameter(parameter.name, default, descriptor_of(parameter), ignore_override=True)
        for sentence in unknown_parameters(given, self._rows):
            # A warning, not a refusal: a file under /**: may hold other nodes' parameters too.
            node.get_logger().warning(sentence)

    def value(self, name: str) -> Any:
        """The present value of one parameter."""
        return self._node.get_parameter_or(name).value

    def settings(self) -> Settings:
        """The settings as the parameters are now; InputError for one of the wrong type, out of range or at odds."""
        if self._refusals:
            raise InputError(self._refusals[0])
        values = {parameter.name: self.value(parameter.name) for parameter in self._rows}
        known = {name: value for name, value in values.items() if value is not None}
        return Settings.from_mapping(known, f"node {self._node.get_name()}")

    def _checked(self, parameter: Parameter, given: Any) -> Value:
        """The given value in the parameter's type (an integer will do for a double), or its default."""
        if given is None or (parameter.kind in ARRAY_TYPES and given != "" and not given):
            return parameter.default
        try:
            return parameter.checked(given)
        except InputError as error:
            self._refusals.append(str(error))
            return parameter.default


def unknown_parameters(given: Iterable[str], rows: Iterable[Parameter] = PARAMETERS) -> list[str]:
    """One sentence for each given name that the table does not know, with the nearest name it knows."""
    known = {parameter.name for parameter in rows}
    return [
        f"parameter '{name}' is not one of this node's and has no effect; {hint_for(name)}"
        for name in given
        if name not in known and not belongs_to_ros(name)
    ]


def follow_changes(node: Node, settings: Callable[[], Settings], apply: Callable[[Settings], None]) -> None:
    """Call `apply` with the new settings after every accepted change; bad ones are refused with the reason.

    An integer is taken for a double, as when the node starts: `ros2 param set` makes an integer of "15".
    """

    names = {parameter.name for parameter in PARAMETERS}
    kinds = {parameter.name: parameter.kind for parameter in PARAMETERS}

    def widened(parameter: rclpy.parameter.Parameter) -> rclpy.parameter.Parameter:
        types = rclpy.parameter.Parameter.Type
        kind = kinds.get(parameter.name)
        if kind == "double" and parameter.type_ == types.INTEGER:
            return rclpy.parameter.Parameter(parameter.name, value=float(parameter.value))
        if kind == "double_array" and parameter.type_ == types.INTEGER_ARRAY:
            return rclpy.parameter.Parameter(parameter.name, value=[float(number) for number in parameter.value])
        return parameter

    def changed(parameters: Sequence[rclpy.parameter.Parameter]) -> Settings:
        values = {each.name: each.value for each in parameters if each.name in names}
        return dataclasses.replace(settings(), **values)

    def check(parameters: Sequence[rclpy.parameter.Parameter]) -> SetParametersResult:
        try:
            changed(parameters)
        except InputError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def take_over(parameters: Sequence[rclpy.parameter.Parameter]) -> None:
        # ROS's own parameters (use_sim_time, qos_overrides) pass here too.
        if any(each.name in names for each in parameters):
            apply(changed(parameters))

    node.add_pre_set_parameters_callback(lambda parameters: list(map(widened, parameters)))
    node.add_on_set_parameters_callback(check)
    node.add_post_set_parameters_callback(take_over)
