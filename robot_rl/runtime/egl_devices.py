"""The devices that EGL offers for drawing without a display, asked through the C library itself.

https://registry.khronos.org/EGL/extensions/EXT/EGL_EXT_device_enumeration.txt and EGL_EXT_platform_device.txt
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

EGL_LIBRARY = "libEGL.so.1"
_MOST_DEVICES = 16
_PLATFORM_DEVICE, _EXTENSIONS, _DRM_NODE = 0x313F, 0x3055, 0x3377  # EGL_DRM_RENDER_NODE_FILE_EXT
_Pointer = ctypes.c_void_p


@dataclass(frozen=True)
class EglDevice:
    """One device, in the order in which MUJOCO_EGL_DEVICE_ID counts them."""

    usable: bool  # whether a display on it could be initialised
    software: bool
    node: str  # /dev/dri/renderD..., "" where EGL does not tell


def count_devices() -> int:
    """How many devices there are; 0 where EGL is missing or cannot draw without a display."""
    try:
        return len(_handles(ctypes.CDLL(EGL_LIBRARY)))
    except OSError:
        return 0


def find_devices() -> list[EglDevice]:
    """All devices, each of them tried. Raises OSError where there is no EGL library."""
    egl = ctypes.CDLL(EGL_LIBRARY)
    return [_inspect(egl, handle) for handle in _handles(egl)]


def _handles(egl: ctypes.CDLL) -> list[int]:
    query = _function(egl, "eglQueryDevicesEXT", ctypes.c_uint, ctypes.c_int, _Pointer, _Pointer)
    if query is None:
        return []
    devices, count = (_Pointer * _MOST_DEVICES)(), ctypes.c_int()
    done = query(_MOST_DEVICES, ctypes.cast(devices, _Pointer), ctypes.cast(ctypes.byref(count), _Pointer))
    return [devices[i] or 0 for i in range(count.value)] if done else []


def _inspect(egl: ctypes.CDLL, handle: int) -> EglDevice:
    tell = _function(egl, "eglQueryDeviceStringEXT", ctypes.c_char_p, _Pointer, ctypes.c_int)
    extensions = (tell(handle, _EXTENSIONS) or b"").decode() if tell else ""
    node = (tell(handle, _DRM_NODE) or b"").decode() if tell and "drm_render_node" in extensions else ""
    return EglDevice(_initialises(egl, handle), "device_software" in extensions, node)


def _initialises(egl: ctypes.CDLL, handle: int) -> bool:
    """Left initialised: there is one display per device and process, and a renderer may be using it."""
    get_display = _function(egl, "eglGetPlatformDisplayEXT", _Pointer, ctypes.c_uint, _Pointer, _Pointer)
    display = get_display(_PLATFORM_DEVICE, handle, None) if get_display else None
    if not display:
        return False
    egl.eglInitialize.restype, egl.eglInitialize.argtypes = ctypes.c_uint, [_Pointer, _Pointer, _Pointer]
    return bool(egl.eglInitialize(display, None, None))


def _function(egl: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
    """An EGL extension function, None where this EGL has no such."""
    egl.eglGetProcAddress.restype, egl.eglGetProcAddress.argtypes = _Pointer, [ctypes.c_char_p]
    address = egl.eglGetProcAddress(name.encode())
    return ctypes.CFUNCTYPE(result, *arguments)(address) if address else None
