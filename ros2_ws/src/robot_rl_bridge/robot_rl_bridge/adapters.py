"""Optional parts of an arm by name, whose message packages are imported only when the description names them.

    adapters:
      fault: {use: string_topic, topic: fault}

Each role has a small interface: ``missing()`` says what keeps it from working, and a fault source, a recovery, a
gripper and a switch of controllers do what their names say. A package that is not installed is told at activation.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from rclpy.action.client import ActionClient
from rclpy.node import Node
from std_msgs.msg import String
from std_srvs.srv import Trigger

from robot_rl.errors import ConfigError, valid_choices
from robot_rl_bridge.spinning import EVENTS, LATCHED

_GRIPPER_CHANGE = 0.02  # of the opening, until a new goal is sent
_GRIPPER_S = 0.1
_MANAGER_S = 3.0  # it is asked every second


class Adapter(Protocol):
    """What all of them have."""

    def missing(self) -> str:
        """What keeps it from working; empty where nothing does."""
        ...


class Unavailable:
    """An adapter whose package is not installed: it is missing, and does nothing."""

    def __init__(self, what: str) -> None:
        self._what = what

    def missing(self) -> str:
        return self._what

    def fault(self) -> str:
        return ""

    def recover(self) -> None: ...

    def command(self, opening: float) -> None: ...


# --- fault sources --------------------------------------------------------------------------------------------------


class Told:
    """The newest that a source said, and whether it still says so: renewed within ``timeout_s`` (0: it tells of changes
    only), by somebody who is still there."""

    def __init__(self, node: Node, topic: str, timeout_s: float) -> None:
        self.topic, self._node, self._timeout_s = topic, node, timeout_s
        self.value: Any = None
        self._heard_s = 0.0

    def hear(self, value: Any) -> None:
        """Take the newest."""
        self.value, self._heard_s = value, time.monotonic()

    def missing(self) -> str:
        """Nothing was heard, it is silent, or nobody is there any more."""
        if self.value is None:
            return f"nothing was heard on '{self.topic}'"
        if self.silent() or self._node.count_publishers(self.topic):
            return self.silent()
        return f"'{self.topic}' has no publisher any more"

    def silent(self) -> str:
        """It was heard, and not within its time limit."""
        age_s = time.monotonic() - self._heard_s
        late = self.value is not None and 0.0 < self._timeout_s < age_s
        return f"'{self.topic}' is silent for {age_s:.1f} s" if late else ""


class StringFault:
    """A std_msgs/String that is empty while nothing is wrong."""

    def __init__(self, node: Node, topic: str, timeout_s: float = 0.0) -> None:
        self._told = Told(node, topic, timeout_s)
        node.create_subscription(String, topic, self._hear, LATCHED)
        node.create_subscription(String, topic, self._hear, EVENTS)  # of publishers that keep nothing

    def _hear(self, message: String) -> None:
        self._told.hear(message.data)

    def missing(self) -> str:
        return self._told.missing()

    def fault(self) -> str:
        """What it says; silence is a fault as well where there is a time limit."""
        return self._told.value or self._told.silent()


class ModeFault:
    """A message with a number that is one of ``healthy`` while nothing is wrong, e.g. a robot or safety mode."""

    def __init__(
        self, node: Node, message: Any, topic: str, field: str, healthy: Sequence[int], timeout_s: float
    ) -> None:
        self._told, self._field, self._healthy = Told(node, topic, timeout_s), field, set(healthy)
        self._names = {value: name for name, value in vars(type(message)).items() if isinstance(value, int)}
        node.create_subscription(message, topic, self._hear, EVENTS if timeout_s else LATCHED)

    def _hear(self, message: Any) -> None:
        self._told.hear(int(getattr(message, self._field)))

    def missing(self) -> str:
        return self._told.missing()

    def fault(self) -> str:
        """A mode that is not healthy; that nobody tells it any more is a fault as well."""
        mode = self._told.value
        if mode is None or mode in self._healthy:
            return "" if mode is None else self._told.missing()
        return f"{self._field} {self._names.get(mode, mode)}"


def _franka_state(node: Node, topic: str, timeout_s: float = 0.5) -> ModeFault:
    """Franka's robot mode: idle, move (guiding, reflex, user stopped and the others are faults); told all the time."""
    message = _message("franka_msgs.msg", "FrankaRobotState")
    return ModeFault(node, message, topic, "robot_mode", (1, 2), timeout_s)


def _ur_safety_mode(node: Node, topic: str, timeout_s: float = 0.0) -> ModeFault:
    """Universal Robots' safety mode: normal, reduced; told when it changes."""
    return ModeFault(node, _message("ur_dashboard_msgs.msg", "SafetyMode"), topic, "mode", (1, 2), timeout_s)


# --- recoveries -----------------------------------------------------------------------------------------------------


class TriggerRecovery:
    """A std_srvs/Trigger that clears the arm's own fault."""

    def __init__(self, node: Node, service: str) -> None:
        self._client = node.create_client(Trigger, service)

    def missing(self) -> str:
        return "" if self._client.service_is_ready() else f"there is no service '{self._client.srv_name}'"

    def recover(self) -> None:
        """Ask for it; the answer is the arm's state."""
        self._client.call_async(Trigger.Request())


class ActionRecovery:
    """An action without arguments, e.g. franka_msgs/ErrorRecovery."""

    def __init__(self, node: Node, kind: Any, action: str) -> None:
        self._kind, self._name, self._client = kind, action, ActionClient(node, kind, action)

    def missing(self) -> str:
        return "" if self._client.server_is_ready() else f"there is no action '{self._name}'"

    def recover(self) -> None:
        """Ask for it; the answer is the arm's state."""
        self._client.send_goal_async(self._kind.Goal())


def _franka_recovery(node: Node, action: str) -> ActionRecovery:
    return ActionRecovery(node, _message("franka_msgs.action", "ErrorRecovery"), action)


# --- grippers -------------------------------------------------------------------------------------------------------


class ActionGripper:
    """control_msgs/GripperCommand: a goal whenever the opening has changed enough."""

    def __init__(self, node: Node, action: str, max_effort_n: float, value: Callable[[float], float]) -> None:
        self._kind = _message("control_msgs.action", "GripperCommand")
        self._name, self._client = action, ActionClient(node, self._kind, action)
        self._effort, self._value = max_effort_n, value
        self._last, self._sent_s = -1.0, 0.0

    def missing(self) -> str:
        return "" if self._client.server_is_ready() else f"there is no action '{self._name}'"

    def command(self, opening: float) -> None:
        """Head for an opening, 0 closed to 1 open."""
        now_s = time.monotonic()
        changed = abs(opening - self._last) > _GRIPPER_CHANGE or (opening in (0.0, 1.0) and opening != self._last)
        if not changed or now_s - self._sent_s < _GRIPPER_S:
            return
        goal = self._kind.Goal()
        goal.command.position, goal.command.max_effort = self._value(opening), self._effort
        self._client.send_goal_async(goal)
        self._last, self._sent_s = opening, now_s


# --- switch of controllers ------------------------------------------------------------------------------------------


class ControllerSwitch:
    """controller_manager: the controllers in ``active`` must be active; they are asked for when they are not."""

    def __init__(self, node: Node, manager: str, active: Sequence[str]) -> None:
        listing = _message("controller_manager_msgs.srv", "ListControllers")
        self._switching = _message("controller_manager_msgs.srv", "SwitchController")
        self._active, self._states, self._request = list(active), None, listing.Request
        self._answered_s = 0.0
        self._list = node.create_client(listing, f"{manager}/list_controllers")
        self._switch = node.create_client(self._switching, f"{manager}/switch_controller")
        node.create_timer(1.0, self._ask)

    def _ask(self) -> None:
        if self._list.service_is_ready():
            self._list.call_async(self._request()).add_done_callback(self._hear)

    def _hear(self, future: Any) -> None:
        self._states = {controller.name: controller.state for controller in future.result().controller}
        self._answered_s = time.monotonic()

    def missing(self) -> str:
        if self._states is None:
            return "the controller manager has not answered"
        if (silent_s := time.monotonic() - self._answered_s) > _MANAGER_S:
            return f"the controller manager has not answered for {silent_s:.1f} s"
        wrong = [name for name in self._active if self._states.get(name) != "active"]
        return f"not active: {', '.join(wrong)}" if wrong else ""

    def fault(self) -> str:
        """Another controller has the arm."""
        return "" if self._states is None else self.missing()

    def recover(self) -> None:
        """Ask for the controllers."""
        request = self._switching.Request(activate_controllers=self._active)
        request.strictness = 1  # best effort
        self._switch.call_async(request)


_MAKERS: dict[str, dict[str, Callable[..., Any]]] = {
    "fault": {"string_topic": StringFault, "franka_state": _franka_state, "ur_safety_mode": _ur_safety_mode},
    "recovery": {"trigger_service": TriggerRecovery, "franka_recovery": _franka_recovery},
    "gripper": {"gripper_action": ActionGripper},
    "controller_switch": {"controller_manager": ControllerSwitch},
}


def make_adapter(node: Node, role: str, options: Mapping[str, Any], **more: Any) -> Any:
    """The adapter of a role as the description names it. Raises ConfigError for a name or an argument there is none of;
    what is not installed becomes ``Unavailable``."""
    if role not in _MAKERS:
        raise ConfigError(f"no adapter role '{role}'", remedy=valid_choices(role, _MAKERS))
    arguments = {key: value for key, value in options.items() if key != "use"}
    use = str(options.get("use", ""))
    if use not in _MAKERS[role]:
        raise ConfigError(f"adapters.{role}: no '{use}'", remedy=valid_choices(use, _MAKERS[role]))
    if "node" in arguments:
        arguments["manager"] = arguments.pop("node")
    try:
        return _MAKERS[role][use](node, **arguments, **more)
    except ImportError as error:
        return Unavailable(f"adapter '{use}' needs a package that is not installed: {error}")
    except TypeError as error:
        raise ConfigError(f"adapters.{role}: {error}") from error


def _message(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)
