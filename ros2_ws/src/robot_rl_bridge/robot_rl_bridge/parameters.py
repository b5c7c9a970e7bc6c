"""Parameters of a node as a table: name, default, description, range or choices; everything else follows from it.

    PARAMETERS = (Declared("rate_hz", 100.0, "of the control loop", low=20.0, high=500.0), ...)
    values = declare(node, PARAMETERS)

The table of a node is the constant PARAMETERS of its module: tests hold parameter files and launch files against it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from robot_rl.errors import ConfigError, valid_choices

Value = bool | int | float | str | list[float] | list[str]


@dataclass(frozen=True)
class Declared:
    """One parameter; its type is that of ``default`` (an empty list: of strings). Read-only unless ``settable``."""

    name: str
    default: Value
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    settable: bool = False

    @property
    def descriptor(self) -> ParameterDescriptor:
        """As ROS shows it; ROS itself refuses what is outside of the range."""
        described = ParameterDescriptor(description=self.description, read_only=not self.settable)
        if self.choices:
            described.additional_constraints = "one of " + ", ".join(repr(choice) for choice in self.choices)
        if self.low is not None and self.high is not None:
            if isinstance(self.default, float):
                described.floating_point_range = [FloatingPointRange(from_value=self.low, to_value=self.high)]
            else:
                described.integer_range = [IntegerRange(from_value=int(self.low), to_value=int(self.high))]
        return described


def declare(node: Node, table: Iterable[Declared]) -> dict[str, Any]:
    """Declare them; returns their values by name. Raises ConfigError for one that is outside of its range or choices,
    or of another type."""
    values: dict[str, Any] = {}
    for entry in table:
        default: Any = Parameter.Type.STRING_ARRAY if entry.default == [] else entry.default
        try:
            given = node.declare_parameter(entry.name, default, entry.descriptor).value
        except Exception as error:  # rclpy's own kinds
            limit = "" if entry.low is None else f"{entry.low} to {entry.high}"
            raise ConfigError(f"parameter {entry.name}: {error}", limit=limit, remedy=entry.description) from error
        if entry.choices and given not in entry.choices:
            raise ConfigError(f"parameter {entry.name} is '{given}'", remedy=valid_choices(str(given), entry.choices))
        values[entry.name] = [] if given is None else given
    return values
