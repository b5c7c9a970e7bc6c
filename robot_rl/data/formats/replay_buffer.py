"""A Zarr format 2 replay buffer on disk: ``data/<key>`` and ``meta/episode_ends``, opened with checks and written."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.errors import StoreError
from robot_rl.types import Array, CameraSpec

LOW_DIM_CHUNK_ROWS = 1024


def open_buffer(source: Path) -> Any:
    import zarr
    from zarr.storage import ZipStore

    try:
        store = ZipStore(source, mode="r") if source.is_file() else source
        group = zarr.open_group(store, mode="r")
        _ = group["data"], group["meta/episode_ends"]
        return group
    except Exception as error:  # zarr, zipfile and numcodecs raise a dozen kinds for what is simply another file
        raise StoreError(
            f"'{source}' is no replay buffer: {first_line(error)}",
            limit="a Zarr group with data/<key> and meta/episode_ends",
            remedy="Pass the folder or zip that holds these two",
        ) from error


def episode_ends(group: Any, source: Path) -> Array:
    ends = np.asarray(group["meta/episode_ends"][:], dtype=np.int64)
    if len(ends) == 0:
        raise StoreError(f"'{source}' holds no episodes", remedy="Nothing to import")
    if (np.diff(ends, prepend=0) <= 0).any():
        episode = int(np.argmax(np.diff(ends, prepend=0) <= 0))
        raise StoreError(
            f"'{source}': meta/episode_ends does not rise at episode {episode}", limit="rising row numbers"
        )
    return ends


def read_rows(array: Any, source: Path, rows: slice = slice(None)) -> Array:
    """Rows of one array. Raises StoreError for a damaged chunk or a codec that is not installed."""
    try:
        return np.asarray(array[rows])
    except Exception as error:  # whatever a codec raises
        raise StoreError(f"'{source}': array '{array.path}' cannot be read: {first_line(error)}") from error


def check_lengths(arrays: Mapping[str, Any], rows: int, source: Path) -> None:
    for name, array in arrays.items():
        if array.shape[0] != rows:
            raise StoreError(
                f"'{source}': array '{name}' has {array.shape[0]} rows",
                limit=f"{rows}, the end of the last episode",
                remedy="A recording that was killed leaves such a store; cut it with its own tools first",
            )


def first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def create_array(group: Any, path: str, value: Array, chunks: tuple[int, ...]) -> None:
    array = group.create_array(
        path, shape=value.shape, chunks=chunks, dtype=value.dtype, compressors=_compressor(), fill_value=0
    )
    array[:] = value


def create_image_array(group: Any, key: str, total: int, camera: CameraSpec) -> Any:
    """One frame per chunk, so that a training run reads the frames it needs and no more."""
    shape = (camera.height, camera.width, camera.channels)
    return group.create_array(
        f"data/{key}", shape=(total, *shape), chunks=(1, *shape), dtype="uint8", compressors=_compressor(), fill_value=0
    )


def _compressor() -> Any:
    from numcodecs import Blosc

    return Blosc(cname="zstd", clevel=5, shuffle=Blosc.BITSHUFFLE)


def zip_folder(folder: Path, target: Path) -> None:
    """Stored, not deflated: chunks are compressed already, and ZipStore readers then map them directly."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder).as_posix())
    shutil.rmtree(folder)
