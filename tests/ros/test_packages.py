"""The ROS packages are what colcon and `ros2 run` need: built for real, and consistent with the code."""

from __future__ import annotations

import ast
import configparser
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "ros2_ws" / "src"
PACKAGES = ("robot_rl_bridge", "robot_rl_bringup")
COLCON = ROOT / ".venv-colcon" / "bin" / "colcon"
# modules of these ROS packages are imported by code; rclpy is one, and message packages end in _msgs or _interfaces
ROS_MODULE = re.compile(r"^(rclpy|launch|launch_ros|tf2_ros|std_srvs|.*_msgs|.*_interfaces|ament_index_python)$")


@pytest.fixture(scope="module")
def colcon() -> str:
    if not COLCON.exists():
        pytest.skip("no environment with colcon; make .venv-colcon/.ready")
    return str(COLCON)


@pytest.fixture(scope="module")
def workspace(colcon: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages, built and installed in a temporary folder."""
    folder = tmp_path_factory.mktemp("workspace")
    command = [colcon, "--log-base", "log", "build", "--base-paths", str(SOURCES)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "install"


def nodes() -> dict[str, str]:
    """Executables of robot_rl_bridge and their functions, as setup.py names them."""
    tree = ast.parse((SOURCES / "robot_rl_bridge" / "setup.py").read_text())
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return dict(re.split(r"\s*=\s*", text) for text in texts if re.fullmatch(r"\w+ = [\w.]+:\w+", text))


def test_colcon_sees_ament_python_packages(colcon: str) -> None:
    """A package.xml that does not validate makes a plain Python package of it, which `ros2 launch` does not find."""
    command = [colcon, "--log-base", os.devnull, "list", "--base-paths", str(SOURCES)]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
    kinds = {line.split("\t")[0]: line.split("\t")[2] for line in listed}
    assert kinds == dict.fromkeys(PACKAGES, "(ros.ament_python)")


@pytest.mark.parametrize("name", PACKAGES)
def test_an_installed_package_is_found_by_ros(workspace: Path, name: str) -> None:
    prefix = workspace / name
    assert (prefix / "share" / "ament_index" / "resource_index" / "packages" / name).is_file()
    assert (prefix / "share" / name / "package.xml").is_file()
    hooks = (prefix / "share" / name / "package.dsv").read_text()
    assert "ament_prefix_path" in hooks  # without this hook ROS does not look here


def test_launch_files_parameters_and_views_are_installed(workspace: Path) -> None:
    for folder in ("launch", "config", "rviz"):
        here = {path.name for path in (SOURCES / "robot_rl_bringup" / folder).iterdir() if path.is_file()}
        there = {path.name for path in (workspace / "robot_rl_bringup/share/robot_rl_bringup" / folder).iterdir()}
        assert here == there


def test_executables_lie_where_ros_looks_for_them(workspace: Path) -> None:
    folder = workspace / "robot_rl_bridge" / "lib" / "robot_rl_bridge"
    assert {path.name for path in folder.iterdir()} == set(nodes())
    assert all(os.access(path, os.X_OK) for path in folder.iterdir())


@pytest.mark.parametrize("name", PACKAGES)
def test_scripts_go_to_the_folder_that_ros_run_looks_in(name: str) -> None:
    settings = configparser.ConfigParser()
    settings.read(SOURCES / name / "setup.cfg")
    assert settings["install"]["install_scripts"] == settings["develop"]["script_dir"] == f"$base/lib/{name}"


@pytest.mark.parametrize("name", PACKAGES)
def test_declared_dependencies_are_those_imported_and_those_launched(name: str) -> None:
    imported: set[str] = set()
    launched: set[str] = set()
    for path in (SOURCES / name).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                imported.add(node.module.split(".")[0])
            elif isinstance(node, ast.keyword) and node.arg == "package" and isinstance(node.value, ast.Constant):
                launched.add(str(node.value.value))
    needed = {module for module in imported if ROS_MODULE.match(module)} | launched
    root = ElementTree.parse(SOURCES / name / "package.xml").getroot()
    declared = {element.text for element in root.findall("exec_depend")}
    assert declared - {"robot_rl_bridge"} == needed - {name, "robot_rl_bridge"}


@pytest.mark.parametrize("executable", sorted(nodes()))
def test_every_executable_is_a_module_that_runs(executable: str) -> None:
    """``python -m robot_rl_bridge.<node>`` needs the function of the executable, and a guard that calls it."""
    module, function = nodes()[executable].split(":")
    assert module == f"robot_rl_bridge.{executable}"
    tree = ast.parse((SOURCES / "robot_rl_bridge" / (module.replace(".", "/") + ".py")).read_text())
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in tree.body)


def test_the_packages_are_importable_without_a_workspace() -> None:
    code = "import robot_rl_bridge, robot_rl_bringup; print(robot_rl_bridge.__file__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd="/")
    assert Path(done.stdout.strip()).is_relative_to(SOURCES)
