"""Compilation of kernels, cached on disk by the sources of the whole package.

Numba renews a cached function when its own file changes, not when a function that it inlined from another file does:
an edited control law would go on running as it was. Here the stamp of every cache is a digest of all controllers and of
the function's own file.

Processes share the cache, and numba does not keep them apart: of two that add a signature at one moment, the index of
one can come to name the machine code of the other. Here they compile by turns, folder by folder, so that what one
compiles the others load. No folder's kernels are called from another folder that these call: nobody waits in a circle.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from numba import config, njit, types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import lower_builtin

_Function = TypeVar("_Function", bound=Callable[..., Any])


def kernel(function: _Function, *, counting: bool = True) -> _Function:
    """Compile ``function`` in nopython mode, without the interpreter's lock, at its first call; or load it."""
    options: dict[str, Any] = {"nogil": True, "no_cfunc_wrapper": True, "_nrt": counting}  # no kernel is passed around
    dispatcher: Any = njit(function, **options)
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
        dispatcher.compile = _by_turns(dispatcher.compile, Path(dispatcher._cache.cache_path))
    else:  # another numba: compile anew rather than run something stale
        dispatcher._cache.disable()
    return dispatcher


lean_kernel = functools.partial(kernel, counting=False)
"""A kernel that counts no references to its arrays: with whole tuples of them as arguments the counting takes longer
than the work. It cannot make arrays but on the stack (``scratch``), and assigns no slices."""


def _forgiving(load_index: Callable[[], dict[Any, str]]) -> Callable[[], dict[Any, str]]:
    """An index holds the types of arguments: one that names a type which was renamed since, or which this process
    cannot import, is not readable. It is begun anew then."""

    def load() -> dict[Any, str]:
        try:
            return load_index()
        except (AttributeError, ImportError):
            return {}

    return load


def _by_turns(compile_or_load: Callable[[Any], Any], folder: Path) -> Callable[[Any], Any]:
    def run(signature: Any) -> Any:
        # the compiler's own lock comes first: a thread that has it must never wait for one that wants it
        with global_compiler_lock, _turn(folder):
            return compile_or_load(signature)

    return run


_turns: dict[Path, int] = {}  # folders whose turn this process has, and how often; under the compiler's lock


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Wait until no other process compiles for the cache in ``folder``; kernels that call kernels come here again."""
    descriptor = -1
    if not _turns.get(folder):
        with suppress(OSError):  # a file system without locks: as numba does it
            descriptor = os.open(folder / ".compiling", os.O_RDWR | os.O_CREAT, 0o666)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    _turns[folder] = _turns.get(folder, 0) + 1
    try:
        yield
    finally:
        _turns[folder] -= 1
        if descriptor >= 0:
            os.close(descriptor)


def kernel_of(attribute: str) -> Callable[..., Any]:
    """A function that calls the kernel which the type of its first argument, a named tuple, carries as ``attribute``.

    Inside other kernels the choice is made when these are compiled, each type for itself: no branch is left, and a new
    type needs no change anywhere else.
    """

    def call(first: Any, *rest: Any) -> Any:
        return getattr(first, attribute)(*rest)

    def chosen(first: Any) -> Any:
        return types.Dispatcher(getattr(first.instance_class, attribute))

    class _Choice(AbstractTemplate):
        key = call

        def generic(self, args: Any, kws: Any) -> Any:
            return chosen(args[0]).get_call_type(self.context, args, kws)

    infer_global(call, types.Function(_Choice))

    @lower_builtin(call, types.VarArg(types.Any))
    def _call_chosen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = context.get_function(chosen(signature.args[0]), signature)
        context.add_linking_libs(getattr(function, "libs", ()))
        return function(builder, arguments)

    return call


@functools.cache
def _package_stamp() -> str:
    return "".join(_digest(path) for path in sorted(Path(__file__).parent.glob("*.py")))


@functools.cache
def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
