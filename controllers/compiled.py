"""Compilation of kernels, cached on disk by the sources of the whole package.

Numba renews a cached function when its own file changes, not when a function that it inlined from another file does:
an edited control law would go on running as it was. Here the stamp of every cache is a digest of all files beside it.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from numba import njit

_Function = TypeVar("_Function", bound=Callable[..., Any])


def kernel(function: _Function) -> _Function:
    """Compile ``function`` in nopython mode at its first call, or load it from the cache."""
    dispatcher: Any = njit(function)
    dispatcher.enable_caching()
    cache_file: Any = getattr(dispatcher._cache, "_cache_file", None)
    if hasattr(cache_file, "_source_stamp"):
        cache_file._source_stamp = _package_stamp()
    else:  # another numba: compile anew rather than run something stale
        dispatcher._cache.disable()
    return dispatcher


@functools.cache
def _package_stamp() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
