"""Why nothing can be drawn here, and what to do about it: the causes that MuJoCo tells of by an AttributeError or not
at all."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from robot_rl.errors import ConfigError
from robot_rl.runtime.egl_devices import EGL_LIBRARY, EglDevice, find_devices
from robot_rl.runtime.gl_library import OSMESA_LIBRARIES, has_osmesa, loads

_OFF = ("disable", "disabled", "off", "false", "0")
_WINDOW = ("glfw", "glx", "enable", "enabled", "on", "true", "1", "")
_UNSET = "Unset MUJOCO_GL: robot-rl chooses what works, EGL first"
_NODES = ("dri/renderD*", "nvidia[0-9]*", "nvidiactl")


@dataclass(frozen=True)
class GlFault:
    """What is wrong and the next action of the reader."""

    told: str
    remedy: str


def gl_faults(environ: Mapping[str, str]) -> list[GlFault]:
    """What keeps MuJoCo from drawing with the environment ``environ``, the cause first; empty when nothing is known.

    The devices of EGL are tried, once per process. Linux only: elsewhere the system's own library is always there.
    """
    if sys.platform != "linux":
        return []
    library = environ.get("MUJOCO_GL", "").lower().strip()
    if library in _OFF:
        return _off(library, environ)
    return import_faults(environ) or _device_faults(library, environ)


def import_faults(environ: Mapping[str, str]) -> list[GlFault]:
    """Those that already break ``import mujoco``, or leave it without its renderer."""
    library = environ.get("MUJOCO_GL", "").lower().strip()
    if library not in (*_OFF, *_WINDOW, "egl", "osmesa"):
        return [GlFault(f"MUJOCO_GL={library} is no OpenGL library; valid: egl, osmesa, glfw, disable", _UNSET)]
    if library not in ("egl", "osmesa"):
        return []
    platform = environ.get("PYOPENGL_PLATFORM", "")
    if platform and platform.lower() != library:
        return [GlFault(f"PYOPENGL_PLATFORM={platform} contradicts MUJOCO_GL={library}", "Unset PYOPENGL_PLATFORM")]
    if importlib.util.find_spec("OpenGL") is None:
        return [GlFault("PyOpenGL is not installed", "pip install -c constraints.txt 'robot-rl[sim]'")]
    if library == "osmesa" and not has_osmesa():
        remedy = f"Install libosmesa6, or use EGL, which draws in software too. {_UNSET}"
        return [GlFault(f"MUJOCO_GL=osmesa, but {' or '.join(OSMESA_LIBRARIES)} is not installed", remedy)]
    if library == "egl" and not loads(EGL_LIBRARY):
        return [GlFault(f"MUJOCO_GL=egl, but {_load_error(EGL_LIBRARY)}", "Install libegl1 and libgl1-mesa-dri")]
    return []


def check_import() -> None:
    """Raise ConfigError where importing MuJoCo would fail with a message that helps nobody."""
    if sys.platform != "linux" or importlib.util.find_spec("mujoco") is None:  # arms are plain data without MuJoCo
        return
    for fault in import_faults(os.environ):
        raise ConfigError(fault.told, remedy=fault.remedy)


def _off(library: str, environ: Mapping[str, str]) -> list[GlFault]:
    """Drawing is off by somebody's wish, or because nothing was found to draw with."""
    causes = gl_faults({**environ, "MUJOCO_GL": "egl"})
    if not causes:
        return [GlFault(f"drawing is switched off by MUJOCO_GL={library}", _UNSET)]
    told = f"MUJOCO_GL={library}: there is no OpenGL library that draws without a display"
    return [GlFault(f"{told}; {causes[0].told.removeprefix('MUJOCO_GL=egl, but ')}", causes[0].remedy), *causes[1:]]


def _device_faults(library: str, environ: Mapping[str, str]) -> list[GlFault]:
    if library == "egl":
        return _egl_faults(environ)
    return [] if library == "osmesa" else _display_faults(library, environ)


def _egl_faults(environ: Mapping[str, str]) -> list[GlFault]:
    devices = _devices()
    if not devices:
        chosen = [f"{name}={environ[name]}" for name in environ if name.startswith("__EGL_VENDOR_LIBRARY")]
        blame = f"; {', '.join(chosen)} decides which drivers it looks for" if chosen else ""
        remedy = f"Unset {chosen[0].split('=')[0]}" if chosen else "Install libegl-mesa0 and libgl1-mesa-dri (software)"
        return [GlFault(f"EGL is installed but offers no device{blame}", remedy)]
    faults = _device_number_faults(environ, devices)
    if faults or any(device.usable for device in devices):
        return faults
    closed = _closed_nodes()
    if closed:
        groups = "Add the user to the groups video and render, or give the container the devices"
        return [GlFault(f"EGL cannot open its {len(devices)} device(s): no permission for {', '.join(closed)}", groups)]
    told = f"EGL has {len(devices)} device(s), none of which can be initialised"
    driver = environ.get("LIBGL_DRIVERS_PATH")
    if driver:
        return [GlFault(f"{told}; LIBGL_DRIVERS_PATH={driver} hides the drivers", "Unset LIBGL_DRIVERS_PATH")]
    return [GlFault(told, "Install libgl1-mesa-dri for software drawing, or the GPU's driver")]


def _device_number_faults(environ: Mapping[str, str], devices: list[EglDevice]) -> list[GlFault]:
    number = environ.get("MUJOCO_EGL_DEVICE_ID")
    if number is None or (number.isdigit() and int(number) < len(devices) and devices[int(number)].usable):
        return []
    usable = [str(i) for i, device in enumerate(devices) if device.usable]
    told = f"MUJOCO_EGL_DEVICE_ID={number} is no device that can be used; those are: {', '.join(usable) or 'none'}"
    return [GlFault(told, "Unset MUJOCO_EGL_DEVICE_ID")]


def _display_faults(library: str, environ: Mapping[str, str]) -> list[GlFault]:
    display, name = environ.get("DISPLAY"), f"MUJOCO_GL={library}"
    if environ.get("WAYLAND_DISPLAY"):
        return []
    if not display:
        return [GlFault(f"{name} draws in a window, and there is no display (DISPLAY is not set)", _UNSET)]
    if not display_answers(display):
        return [GlFault(f"{name} draws in a window, and the display DISPLAY={display} does not answer", _UNSET)]
    return []


@cache
def display_answers(display: str) -> bool:
    """Whether an X server can be reached under that name; assumed where Xlib is not installed.

    The connection stays open: a server that loses its only client starts anew, and refuses the window meanwhile.
    """
    try:
        xlib = ctypes.CDLL("libX11.so.6")
    except OSError:
        return True
    xlib.XOpenDisplay.restype, xlib.XOpenDisplay.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
    return bool(xlib.XOpenDisplay(display.encode()))


@cache
def _devices() -> list[EglDevice]:
    return find_devices()


def _closed_nodes() -> list[str]:
    nodes = [path for pattern in _NODES for path in sorted(Path("/dev").glob(pattern))]
    return [str(path) for path in nodes if not os.access(path, os.R_OK | os.W_OK)]


def _load_error(library: str) -> str:
    try:
        ctypes.CDLL(library)
    except OSError as error:
        return str(error)
    return ""
