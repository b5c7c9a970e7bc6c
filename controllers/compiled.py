"""Compilation of kernels, cached on disk by the sources of the whole package.

Numba renews a cached function when its own file changes, not when a function that it inlined from another file does:
an edited control law would go on running as it was. Here the stamp of every cache is a digest of all controllers and of
the function's own file.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from numba import config, njit
from numba.extending import overload

_Function = TypeVar("_Function", bound=Callable[..., Any])


def kernel(function: _Function) -> _Function:
    """Compile ``function`` in nopython mode, without the interpreter's lock, at its first call; or load it."""
    dispatcher: Any = njit(function, nogil=True)
    if getattr(config, "DISABLE_JIT", False):  # plain Python, for a debugger
        return dispatcher
    try:
        dispatcher.enable_caching()
    except RuntimeError:  # no folder for a cache can be written: every process compiles for itself
        return dispatcher
    cache_file: Any = getattr(dispatcher._cache, "_cache_file", None)
    if hasattr(cache_file, "_source_stamp") and hasattr(cache_file, "_load_index"):
        cache_file._source_stamp = _package_stamp() + _digest(Path(function.__code__.co_filename))
        cache_file._load_index = _forgiving(cache_file._load_index)
    else:  # another numba: compile anew rather than run something stale
        dispatcher._cache.disable()
    return dispatcher


def _forgiving(load_index: Callable[[], dict[Any, str]]) -> Callable[[], dict[Any, str]]:
    """An index holds the types of arguments: one that names a type which was renamed since, or which this process
    cannot import, is not readable. It is begun anew then."""

    def load() -> dict[Any, str]:
        try:
            return load_index()
        except (AttributeError, ImportError):
            return {}

    return load


def kernel_of(attribute: str) -> Callable[..., Any]:
    """A function that calls the kernel which the type of its first argument, a named tuple, carries as ``attribute``.

    Inside other kernels the choice is made when these are compiled, each type for itself: no branch is left, and a new
    type needs no change anywhere else.
    """

    def call(first: Any, *rest: Any) -> Any:
        return getattr(first, attribute)(*rest)

    @overload(call)
    def _choose(first: Any, *rest: Any) -> Any:
        chosen = getattr(first.instance_class, attribute)

        def run(first: Any, *rest: Any) -> Any:
            return chosen(first, *rest)

        return run

    return call


@functools.cache
def _package_stamp() -> str:
    return "".join(_digest(path) for path in sorted(Path(__file__).parent.glob("*.py")))


@functools.cache
def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
