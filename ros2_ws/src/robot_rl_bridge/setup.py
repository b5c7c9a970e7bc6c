"""ament_python package of the nodes; colcon installs them as `ros2 run robot_rl_bridge <node>`."""

from setuptools import setup

NAME = "robot_rl_bridge"

setup(
    name=NAME,
    version="0.1.0",
    packages=[NAME],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    entry_points={
        "console_scripts": [
            "bridge = robot_rl_bridge.bridge:main",
            "recorder = robot_rl_bridge.recorder:main",
            "sim_robot = robot_rl_bridge.sim_robot:main",
            "teleop = robot_rl_bridge.teleop:main",
        ]
    },
)
