"""HDF5 files: opened with an error that says what is wrong, written so that a full disk is an error and not a crash."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from robot_rl.errors import RobotRlError, StoreError


@contextmanager
def opened(source: Path) -> Iterator[Any]:
    """The HDF5 file ``source`` for reading. Raises StoreError when it is none, is truncated, or lacks what is read."""
    h5py = _h5py()
    try:
        file = h5py.File(source, "r")
    except OSError as error:
        raise StoreError(f"'{source}' cannot be opened as HDF5: {str(error).splitlines()[0]}") from error
    with file:
        try:
            yield file
        except (OSError, KeyError) as error:
            if isinstance(error, RobotRlError):
                raise
            raise StoreError(f"'{source}' is damaged or incomplete: {str(error).splitlines()[0]}") from error


def told(attributes: Any, key: str, source: Path) -> dict[str, Any]:
    """The JSON object in attribute ``key``, empty when there is none. Raises StoreError for what is no JSON object."""
    try:
        value = json.loads(attributes.get(key, "{}"))
    except ValueError as error:
        raise StoreError(f"'{source}': attribute '{key}' is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise StoreError(f"'{source}': attribute '{key}' is a JSON {type(value).__name__}", limit="an object")
    return value


@contextmanager
def created(target: Path) -> Iterator[tuple[Any, Callable[[], None]]]:
    """A new HDF5 file and a function that raises the OSError of the first write that failed; it also runs at the end.

    The library crashes the process when its own writes fail, so it writes through a file that remembers instead.
    """
    h5py = _h5py()
    with target.open("w+b", buffering=0) as raw:
        remembering = _RememberingFile(raw)
        with h5py.File(remembering, "w") as file:
            yield file, remembering.check
        remembering.check()


class _RememberingFile(io.RawIOBase):
    """A file whose failed writes pass for good until ``check``."""

    def __init__(self, raw: io.FileIO) -> None:
        self._raw = raw
        self._error: OSError | None = None

    def check(self) -> None:
        if self._error is not None:
            raise self._error

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        if self._error is None:
            try:
                done = 0
                while done < len(view):
                    done += self._raw.write(view[done:])
            except OSError as error:
                self._error = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return self._raw.truncate(size)
        except OSError as error:
            self._error = self._error or error
            return size or 0

    def readinto(self, buffer: Any) -> int:
        return self._raw.readinto(buffer)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise StoreError("HDF5 files need h5py", remedy="Install it: pip install 'robot-rl[formats]'") from error
    return h5py
