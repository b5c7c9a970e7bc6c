"""Which OpenGL library MuJoCo draws with. It must be chosen before MuJoCo is imported, which fails where the chosen one
is missing, even when nothing is to be drawn."""

from __future__ import annotations

import ctypes
import logging
import os
import sys

from robot_rl.runtime.egl_devices import count_devices, find_devices

OSMESA_LIBRARIES = ("libOSMesa.so.8", "libOSMesa.so")
_log = logging.getLogger(__name__)


def choose_gl_library() -> None:
    """Set MUJOCO_GL, unless it is set, to what draws without a display here: EGL where it has a device (a GPU, or the
    software of Mesa), else OSMesa (software), else "disable", so that physics runs all the same."""
    if sys.platform != "linux" or os.environ.get("MUJOCO_GL"):
        return
    egl, osmesa = count_devices() > 0, has_osmesa()
    if egl and osmesa:  # trying the devices takes time, and pays only where there is a choice
        egl = any(device.usable for device in find_devices())
    os.environ["MUJOCO_GL"] = "egl" if egl else "osmesa" if osmesa else "disable"
    if not egl:
        _log.info("EGL has no device to draw on: MUJOCO_GL=%s", os.environ["MUJOCO_GL"])


def has_osmesa() -> bool:
    """Whether Mesa's off-screen software renderer is installed."""
    return any(loads(library) for library in OSMESA_LIBRARIES)


def loads(library: str) -> bool:
    """Whether the dynamic linker finds a library and what it depends on."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
