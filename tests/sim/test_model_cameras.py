"""Cameras of models that others made: the pixels that MuJoCo's own renderer gives, from any thread."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mujoco
import numpy as np
import pytest

from robot_rl.errors import ConfigError
from sim.model_cameras import ModelCameras

SCENE = """
<mujoco>
  <visual><map znear="0.02" zfar="30"/></visual>
  <asset><texture name="t" type="2d" builtin="checker" rgb1="1 1 1" rgb2="0 0 0" width="64" height="64"/>
    <material name="m" texture="t" texrepeat="4 4" reflectance="0.3"/></asset>
  <worldbody>
    <light pos="0.5 0.5 2" dir="-0.2 -0.2 -1"/>
    <geom type="plane" size="1 1 .1" material="m"/>
    <geom type="sphere" size=".1" pos="0 0 .2" rgba="0.8 0.1 0.1 1"/>
    <geom type="box" size=".1 .1 .1" pos=".3 0 .1" group="1" rgba="0.1 0.8 0.1 1"/>
    <site pos="-.2 0 .2" size=".05" rgba="0.1 0.1 0.9 1"/>
    <camera name="front" pos="0 -1 .6" xyaxes="1 0 0 0 0.5 1"/>
  </worldbody>
</mujoco>
"""


@pytest.fixture
def world() -> tuple[Any, Any]:
    model = mujoco.MjModel.from_xml_string(SCENE)  # type: ignore[attr-defined]
    data = mujoco.MjData(model)  # type: ignore[attr-defined]
    mujoco.mj_forward(model, data)  # type: ignore[attr-defined]
    return model, data


@pytest.fixture
def cameras() -> Iterator[ModelCameras]:
    cameras = ModelCameras({"eye": "front"}, 64)
    yield cameras
    cameras.close()


@pytest.mark.parametrize("hidden", [(), (1,)])
def test_images_are_those_of_mujocos_renderer(world: tuple[Any, Any], hidden: tuple[int, ...]) -> None:
    """Shadows, reflections, sites, near and far plane as the model says."""
    model, data = world
    option = mujoco.MjvOption()  # type: ignore[attr-defined]
    option.geomgroup[list(hidden)] = 0
    with mujoco.Renderer(model, 64, 64) as renderer:
        renderer.update_scene(data, "front", option)
        expected = renderer.render()
    ours = ModelCameras({"eye": "front"}, 64, hidden)
    np.testing.assert_array_equal(ours.images(model, data)["eye"], expected)
    ours.close()


def test_images_come_from_any_thread(world: tuple[Any, Any], cameras: ModelCameras) -> None:
    """As environments that are stepped over threads have it."""
    here = cameras.images(*world)["eye"]
    with ThreadPoolExecutor(1) as thread:
        there = thread.submit(cameras.images, *world).result()["eye"]
    np.testing.assert_array_equal(here, there)
    np.testing.assert_array_equal(here, cameras.images(*world)["eye"])


def test_a_model_that_was_compiled_anew_is_drawn_anew(world: tuple[Any, Any], cameras: ModelCameras) -> None:
    before = cameras.images(*world)["eye"]
    model = mujoco.MjModel.from_xml_string(SCENE.replace("0.8 0.1 0.1", "0.1 0.1 0.8"))  # type: ignore[attr-defined]
    data = mujoco.MjData(model)  # type: ignore[attr-defined]
    mujoco.mj_forward(model, data)  # type: ignore[attr-defined]
    assert (cameras.images(model, data)["eye"] != before).any()
    np.testing.assert_array_equal(cameras.images(*world)["eye"], before)


def test_a_camera_that_the_model_lacks_is_named(world: tuple[Any, Any]) -> None:
    with pytest.raises(ConfigError, match=r"no camera 'frnt'.*'front'"):
        ModelCameras({"eye": "frnt"}, 64).check(world[0])
    with pytest.raises(ConfigError, match="1 to 2048"):
        ModelCameras({}, 0)


UNCLOSED = f"""
from robot_rl.runtime.gl_library import choose_gl_library
choose_gl_library()
import mujoco
from sim.model_cameras import ModelCameras
model = mujoco.MjModel.from_xml_string('''{SCENE}''')
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
cameras = [ModelCameras({{"eye": "front"}}, 32) for _ in range(2)]
assert all(each.images(model, data)["eye"].any() for each in cameras)
"""


def test_what_nobody_closed_ends_without_a_word() -> None:
    """MuJoCo shuts EGL down first, and then complains of every context that is left."""
    process = subprocess.run([sys.executable, "-c", UNCLOSED], capture_output=True, text=True, timeout=60)
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")
