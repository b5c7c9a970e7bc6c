"""Drawing without a window: one OpenGL context for all sizes of image, usable from any thread, one at a time."""

# pyright: reportAttributeAccessIssue=false
# (mujoco ships no type information)
from __future__ import annotations

import atexit
import os
import sys
import weakref
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import mujoco
import numpy as np

from robot_rl.errors import RobotError
from robot_rl.runtime.gl_faults import gl_faults
from robot_rl.types import Array

_LARGEST_SCENE = 10_000  # geoms
_HIDDEN = (3, 4, 5)  # MuJoCo's own choice


class Offscreen:
    """Draws the cameras of ``model`` up to ``height`` x ``width`` pixels.

    What changes in ``model`` is seen in the next image (poses of cameras and lights, colours; textures and meshes
    are copied once). ``hidden_groups`` are groups of geoms that are not drawn. Raises RobotError where nothing can be
    drawn.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        height: int,
        width: int,
        *,
        shadows: bool = True,
        reflections: bool = True,
        sites: bool = True,
        hidden_groups: Collection[int] = _HIDDEN,
    ) -> None:
        faults = gl_faults(os.environ)
        if faults:
            raise RobotError(f"no images can be drawn: {faults[0].told}", remedy=faults[0].remedy)
        self._model = model
        model.vis.global_.offheight, model.vis.global_.offwidth = height, width
        self._near_m, self._far_m = (float(z * model.stat.extent) for z in (model.vis.map.znear, model.vis.map.zfar))
        self._scene = mujoco.MjvScene(model, maxgeom=_LARGEST_SCENE)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = shadows
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = reflections
        self._option = mujoco.MjvOption()
        self._option.geomgroup[:] = [group not in hidden_groups for group in range(6)]
        if not sites:
            self._option.sitegroup[:] = 0
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        try:
            self._gl = mujoco.GLContext(width, height)
            with self._current():
                self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
                mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
                self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        except Exception as error:  # the GL libraries raise errors of their own kinds
            raise RobotError(
                f"no images can be drawn with MUJOCO_GL={os.environ.get('MUJOCO_GL')}: {error}",
                remedy="robot-rl doctor rendering tells more",
            ) from error
        _open.add(self)
        atexit.unregister(_close_all)
        atexit.register(_close_all)  # after MuJoCo's own, which the first context brings: the last comes first

    def colour(self, data: mujoco.MjData, camera: int, height: int, width: int) -> Array:
        """RGB uint8 [height, width, 3] of what camera number ``camera`` sees of ``data``, whose kinematics are done."""
        image = np.empty((height, width, 3), dtype=np.uint8)
        with self._current():
            self._draw(data, camera, height, width)
            mujoco.mjr_readPixels(image, None, mujoco.MjrRect(0, 0, width, height), self._context)
        return image[::-1]

    def depth(self, data: mujoco.MjData, camera: int, height: int, width: int) -> Array:
        """Distance along the optical axis, float32 [height, width] m; infinite where there is nothing."""
        buffer = np.empty((height, width), dtype=np.float32)
        flags, kept = self._scene.flags, self._scene.flags.copy()
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = True  # neither lights nor a sky, which has a depth of its own
        try:
            with self._current():
                self._draw(data, camera, height, width)
                mujoco.mjr_readPixels(None, buffer, mujoco.MjrRect(0, 0, width, height), self._context)
        finally:
            flags[:] = kept
        # the buffer holds 1 at the near plane, 0 at the far one, and is linear in 1 / distance
        near = buffer.astype(np.float64)
        distance = self._near_m * self._far_m / (self._near_m + near * (self._far_m - self._near_m))
        return np.where(buffer > 0.0, distance, np.inf).astype(np.float32)[::-1]

    def close(self) -> None:
        """Release the graphics memory; idempotent."""
        if self._context is not None:
            with self._current():
                self._context.free()
            self._gl.free()
            self._context = None

    def _draw(self, data: mujoco.MjData, camera: int, height: int, width: int) -> None:
        self._camera.fixedcamid = camera
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(self._model, data, self._option, None, self._camera, everything, self._scene)
        mujoco.mjr_render(mujoco.MjrRect(0, 0, width, height), self._scene, self._context)

    @contextmanager
    def _current(self) -> Iterator[None]:
        """The context belongs to this thread meanwhile, and to none afterwards: the next image may be another's."""
        self._gl.make_current()
        try:
            yield
        finally:
            _release()


_open: weakref.WeakSet[Offscreen] = weakref.WeakSet()


def _close_all() -> None:
    """At the end of the process MuJoCo shuts EGL down; what is freed after that complains at length."""
    for offscreen in list(_open):
        offscreen.close()


def _release() -> None:
    """Take the thread's context away from it, for which MuJoCo has no call."""
    library = os.environ.get("MUJOCO_GL", "").lower()
    if library == "egl":
        from mujoco.egl import EGL, EGL_DISPLAY

        EGL.eglMakeCurrent(EGL_DISPLAY, EGL.EGL_NO_SURFACE, EGL.EGL_NO_SURFACE, EGL.EGL_NO_CONTEXT)
    elif library == "osmesa":
        from OpenGL import GL, osmesa

        osmesa.OSMesaMakeCurrent(None, None, GL.GL_FLOAT, 0, 0)
    elif sys.platform == "linux":
        import glfw

        glfw.make_context_current(None)  # type: ignore[arg-type]
