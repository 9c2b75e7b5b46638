"""Declares the table of settings as ROS parameters, and lets the live ones change."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import rclpy.parameter
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterUninitializedException,
)
from rclpy.node import Node

from cross_view_loc.errors import InputError
from cross_view_loc.parameter import Parameter
from cross_view_loc.settings import PARAMETERS, Settings, belongs_to_ros, hint_for


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


def declare(node: Node) -> Settings:
    """Declare every parameter and read the settings; InputError for a value of the wrong type or out of range."""
    values = {}
    for parameter in PARAMETERS:
        # rclpy takes an empty list for bytes, so an array is declared by its type and stays unset when empty.
        is_array = parameter.kind == "double_array"
        default: Any = rclpy.parameter.Parameter.Type.DOUBLE_ARRAY if is_array else parameter.default
        try:
            value = node.declare_parameter(parameter.name, default, descriptor_of(parameter)).value
        except ParameterUninitializedException:
            value = None
        except InvalidParameterTypeException as error:
            hint = "write numbers with a decimal point" if parameter.kind.startswith("double") else "correct the file"
            raise InputError(
                f"parameter {parameter.name} must be of type {parameter.kind}; {hint} ({error})"
            ) from error
        except InvalidParameterValueException as error:
            raise InputError(f"parameter {parameter.name} must lie in {parameter.range_text()} ({error})") from error
        values[parameter.name] = parameter.default if value is None else value
    for sentence in unknown_parameters(getattr(node, "_parameter_overrides", {})):
        # A warning, not a refusal: a file under /**: may hold other nodes' parameters too.
        node.get_logger().warning(sentence)
    return Settings.from_mapping(values, f"node {node.get_name()}")


def unknown_parameters(given: Iterable[str]) -> list[str]:
    """One sentence for each given name that the table does not know, with the nearest name it knows."""
    known = {parameter.name for parameter in PARAMETERS}
    return [
        f"parameter '{name}' is not one of this node's and has no effect; {hint_for(name)}"
        for name in given
        if name not in known and not belongs_to_ros(name)
    ]


def follow_changes(node: Node, settings: Callable[[], Settings], apply: Callable[[Settings], None]) -> None:
    """Call `apply` with the new settings after every accepted change; bad ones are refused with the reason."""

    names = {parameter.name for parameter in PARAMETERS}

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

    node.add_on_set_parameters_callback(check)
    node.add_post_set_parameters_callback(take_over)
