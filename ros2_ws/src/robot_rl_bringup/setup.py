"""ament_python package of launch files and parameters; `ros2 launch robot_rl_bringup <file>` finds them in share/."""

from pathlib import Path

from setuptools import setup

NAME = "robot_rl_bringup"


def files(folder: str, pattern: str) -> tuple[str, list[str]]:
    """Where the files of a folder are installed, and which these are."""
    return f"share/{NAME}/{folder}", sorted(str(path) for path in Path(folder).glob(pattern))


setup(
    name=NAME,
    version="0.1.0",
    packages=[NAME],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        files("launch", "*.launch.py"),
        files("config", "*.yaml"),
        files("rviz", "*.rviz"),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
)
