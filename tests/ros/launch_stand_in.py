"""A recording stand-in for ``launch`` and ``launch_ros``, which are not on PyPI: as much of them as launch files use.

It takes the same arguments as the originals and refuses others, checks choices and arguments that must be given, and
turns what would be started into commands that run here. Where the originals are installed, tests use these.
"""

from __future__ import annotations

import os
import runpy
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

LAUNCH = Path(__file__).parents[2] / "ros2_ws" / "src" / "robot_rl_bringup" / "launch"


class LaunchContext:
    def __init__(self, arguments: Mapping[str, str], folder: Path) -> None:
        self.launch_configurations = dict(arguments)
        self.environment: dict[str, str] = {}
        self.folder = folder
        self.started: list[Started] = []
        self.said: list[str] = []


@dataclass(frozen=True)
class Started:
    """A process that launch would start."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    ends_all: bool  # the launch ends with it


class LaunchDescription:
    def __init__(self, entities: Sequence[Any] | None = None) -> None:
        self.entities = list(entities or [])


class DeclareLaunchArgument:
    def __init__(
        self, name: str, *, default_value: str | None = None, description: str | None = None,
        choices: list[str] | None = None,
    ) -> None:  # fmt: skip
        self.name, self.default_value, self.description, self.choices = name, default_value, description, choices

    def execute(self, context: LaunchContext) -> None:
        given = context.launch_configurations
        if self.name not in given:
            if self.default_value is None:
                raise RuntimeError(f"Required launch argument '{self.name}' was not provided")
            given[self.name] = self.default_value
        if self.choices is not None and given[self.name] not in self.choices:
            raise RuntimeError(f"Argument '{self.name}' provided value '{given[self.name]}' is not in {self.choices}")


class LaunchConfiguration:
    def __init__(self, variable_name: str, *, default: str | None = None) -> None:
        self._name, self._default = variable_name, default

    def perform(self, context: LaunchContext) -> str:
        value = context.launch_configurations.get(self._name, self._default)
        assert value is not None, f"launch configuration '{self._name}' does not exist"
        return value


class OpaqueFunction:
    def __init__(
        self, *, function: Callable[..., Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> None:
        self._call = lambda context: function(context, *args, **(kwargs or {}))

    def execute(self, context: LaunchContext) -> None:
        run(self._call(context) or [], context)


class SetEnvironmentVariable:
    def __init__(self, name: str, value: str) -> None:
        self._name, self._value = name, value

    def execute(self, context: LaunchContext) -> None:
        context.environment[self._name] = self._value


class LogInfo:
    def __init__(self, *, msg: str) -> None:
        self._text = msg

    def execute(self, context: LaunchContext) -> None:
        context.said.append(self._text)


class Shutdown:
    def __init__(self, *, reason: str = "reason not given") -> None:
        self.reason = reason

    def execute(self, context: LaunchContext) -> None:
        raise AssertionError("a launch file that shuts down at once")


class ExecuteProcess:
    def __init__(
        self, *, cmd: Sequence[str], name: str | None = None, output: str = "log", emulate_tty: bool = False,
        sigterm_timeout: str = "5", sigkill_timeout: str = "5", on_exit: Any = None, prefix: str | None = None,
        cwd: str | None = None, env: Mapping[str, str] | None = None, additional_env: Mapping[str, str] | None = None,
        shell: bool = False, respawn: bool = False,
    ) -> None:  # fmt: skip
        assert all(isinstance(word, str) for word in cmd), f"not all words: {cmd}"
        assert float(sigterm_timeout) > 0.0 and float(sigkill_timeout) > 0.0
        self.command, self.name, self.on_exit = list(cmd), name or cmd[0], on_exit
        self._prefix, self._extra = (prefix or "").split(), dict(additional_env or {})

    def execute(self, context: LaunchContext) -> None:
        environment = {**context.environment, **self._extra}
        ends_all = isinstance(self.on_exit, Shutdown)
        context.started.append(Started(self.name, [*self._prefix, *self.command], environment, ends_all))


@dataclass(frozen=True)
class ParameterValue:
    value: Any
    value_type: type

    def __post_init__(self) -> None:
        assert isinstance(self.value, self.value_type)


class Node(ExecuteProcess):
    """Runs as the module it is made of; parameters go by a file, as launch_ros passes them."""

    def __init__(
        self, *, executable: str, package: str, name: str | None = None, namespace: str | None = None,
        parameters: Sequence[Mapping[str, Any] | str] | None = None, remappings: Sequence[tuple[str, str]] = (),
        arguments: Sequence[str] = (), ros_arguments: Sequence[str] = (), **process: Any,
    ) -> None:  # fmt: skip
        ours = package == "robot_rl_bridge"
        command = [sys.executable, "-m", f"{package}.{executable}"] if ours else [executable]
        super().__init__(cmd=[*command, *arguments, "--ros-args", *ros_arguments], name=executable, **process)
        self.parameters = list(parameters or [])
        rules = [f"__node:={name}"] * (name is not None) + [f"__ns:=/{(namespace or '').strip('/')}"] * bool(namespace)
        rules += [f"{old}:={new}" for old, new in remappings]
        self._rules = [word for rule in rules for word in ("-r", rule)]

    def execute(self, context: LaunchContext) -> None:
        files = []
        for number, given in enumerate(self.parameters):
            if isinstance(given, str):
                files.append(given)
                continue
            path = context.folder / f"{self.name}{len(context.started)}_{number}.yaml"
            plain = {name: value.value if isinstance(value, ParameterValue) else value for name, value in given.items()}
            path.write_text(yaml.safe_dump({"/**": {"ros__parameters": plain}}))
            files.append(str(path))
        self.command += [*self._rules, *(word for file in files for word in ("--params-file", file))]
        super().execute(context)


def run(entities: Sequence[Any], context: LaunchContext) -> None:
    """Execute actions in their order."""
    for entity in entities:
        entity.execute(context)


MODULES = {
    "launch": (LaunchContext, LaunchDescription),
    "launch.actions": (
        DeclareLaunchArgument,
        ExecuteProcess,
        LogInfo,
        OpaqueFunction,
        SetEnvironmentVariable,
        Shutdown,
    ),
    "launch.substitutions": (LaunchConfiguration,),
    "launch_ros": (),
    "launch_ros.actions": (Node,),
    "launch_ros.parameter_descriptions": (ParameterValue,),
}


@contextmanager
def installed() -> Iterator[None]:
    """The stand-in in the place of the originals, and nothing of ours that has imported it afterwards."""
    kept = {name: sys.modules.pop(name, None) for name in (*MODULES, "robot_rl_bringup.actions")}
    for name, parts in MODULES.items():
        module = types.ModuleType(name)
        for part in parts:
            setattr(module, part.__name__, part)
        sys.modules[name] = module
    try:
        yield
    finally:
        for name, module in kept.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module


def description(file: str) -> LaunchDescription:
    """What ``launch/<file>`` describes; inside of ``installed``."""
    return runpy.run_path(os.fspath(LAUNCH / file))["generate_launch_description"]()


def executed(file: str, arguments: Mapping[str, str], folder: Path) -> LaunchContext:
    """What ``ros2 launch robot_rl_bringup <file> ...`` would start."""
    with installed():
        made = description(file)
        declared = {entity.name for entity in made.entities if isinstance(entity, DeclareLaunchArgument)}
        unknown = set(arguments) - declared
        assert not unknown, f"{file} has no arguments {sorted(unknown)}"
        context = LaunchContext(arguments, folder)
        run(made.entities, context)
    return context
