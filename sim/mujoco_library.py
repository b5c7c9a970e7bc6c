"""MuJoCo's shared library, as the mujoco package has loaded it, and where its warnings go."""

from __future__ import annotations

import ctypes
import logging
from pathlib import Path

import mujoco

from robot_rl.errors import ConfigError


def _load() -> ctypes.CDLL:
    folder = Path(mujoco.__file__).parent
    found = sorted(folder.glob("*mujoco.so*")) + sorted(folder.glob("libmujoco*.dylib"))
    if not found:
        raise ConfigError("the mujoco package holds no shared library", remedy="pip install 'robot-rl[sim]'")
    return ctypes.CDLL(str(found[0]))


library = _load()


def log_warnings() -> None:
    """From now on the logger ``mujoco`` gets the warnings of all of MuJoCo in this process. Its own way is to print
    them and to append them to MUJOCO_LOG.TXT in the folder of the process."""
    ctypes.c_void_p.in_dll(library, "mju_user_warning").value = ctypes.cast(_log, ctypes.c_void_p).value


@ctypes.CFUNCTYPE(None, ctypes.c_char_p)
def _log(message: bytes) -> None:
    logging.getLogger("mujoco").warning(message.decode(errors="replace"))
