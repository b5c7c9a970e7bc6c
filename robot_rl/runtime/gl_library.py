"""Which OpenGL library MuJoCo draws with. It must be chosen before MuJoCo is imported, which fails where the chosen one
is missing, even when nothing is to be drawn."""

from __future__ import annotations

import ctypes
import os
import sys

_LIBRARIES = (("egl", "libEGL.so.1"), ("osmesa", "libOSMesa.so.8"), ("osmesa", "libOSMesa.so"))


def choose_gl_library() -> None:
    """Set MUJOCO_GL, unless it is set, to what draws without a display here; "disable" where nothing does, so that
    physics runs all the same."""
    if sys.platform == "linux" and "MUJOCO_GL" not in os.environ:
        os.environ["MUJOCO_GL"] = next((name for name, library in _LIBRARIES if _loads(library)), "disable")


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
