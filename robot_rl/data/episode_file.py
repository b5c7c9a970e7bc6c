"""One episode as one Zarr v3 group in a stored zip: written by hand in a single pass, read as memory-mapped views.

Every array is one chunk (``<path>/c/0...``) with the codecs ``bytes`` (little endian) and ``crc32c``, so the data of an
entry is the array itself followed by four bytes of checksum. Any Zarr v3 reader opens the file.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from robot_rl.data.checksum import crc32c
from robot_rl.data.episode import SCHEMA, SCHEMA_VERSION, CameraTrack, Episode
from robot_rl.data.stored_zip import Entry, StoredZipWriter, ZipFormatError, local_name, read_directory
from robot_rl.errors import CorruptEpisodeError, EpisodeError, SchemaVersionError
from robot_rl.types import Array

T = TypeVar("T")
DTYPES = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64")
_GROUP = b'{"zarr_format":3,"node_type":"group","attributes":{}}'
_CAMERA_ARRAYS = ("data", "offset", "t_ns", "t_dev_ns", "frame_of_step")


def write_episode(descriptor: int, episode: Episode) -> tuple[int, int]:
    """Write ``episode`` to an open empty file; returns (bytes, CRC32C) of the file. Raises OSError on a full disk."""
    archive = StoredZipWriter(descriptor)
    arrays = dict(_all_arrays(episode))
    for group in sorted({path[:i] for path in arrays for i, letter in enumerate(path) if letter == "/"}):
        archive.add(f"{group}/zarr.json", [_GROUP])
    for path, (value, attributes) in arrays.items():
        archive.add(f"{path}/zarr.json", [_json(_array_metadata(value, attributes))])
        if value.size:
            raw = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<")).data.cast("B")
            archive.add(_chunk_key(path, value.ndim), [raw, crc32c(raw).to_bytes(4, "little")])
    root = {"zarr_format": 3, "node_type": "group", "attributes": dict(episode.metadata)}
    archive.add("zarr.json", [_json(root)])
    archive.close()
    return archive.bytes, archive.crc32c


def _all_arrays(episode: Episode) -> Iterator[tuple[str, tuple[Array, Mapping[str, Any]]]]:
    """Path, value and attributes of everything in the file; the low-dimensional arrays lie together, frames last."""
    described = episode.metadata.get("arrays", {})
    for path in sorted(episode.arrays):
        value = np.asarray(episode.arrays[path])
        if value.dtype.name not in DTYPES:
            raise EpisodeError(f"dtype {value.dtype}", episode=episode.id, array=path, limit=", ".join(DTYPES))
        yield path, (value, described.get(path, {}))
    for name, camera in sorted(episode.cameras.items()):
        for part in reversed(_CAMERA_ARRAYS):
            value = getattr(camera, part)
            if value is not None:
                yield f"images/{name}/{part}", (value, _camera_attributes(camera) if part == "data" else {})


def _camera_attributes(camera: CameraTrack) -> dict[str, Any]:
    size = {"codec": camera.codec, "height": camera.height, "width": camera.width, "channels": camera.channels}
    return {"colour_order": "rgb", **camera.attributes, **size}


def _array_metadata(value: Array, attributes: Mapping[str, Any]) -> dict[str, Any]:
    chunk = [max(1, length) for length in value.shape]
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(value.shape),
        "data_type": value.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": False if value.dtype == bool else 0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
        "attributes": dict(attributes),
        "storage_transformers": [],
    }


def _chunk_key(path: str, dimensions: int) -> str:
    return f"{path}/c" + "/0" * dimensions


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()


class EpisodeFile:
    """A memory-mapped episode file. Raises CorruptEpisodeError or SchemaVersionError on opening."""

    def __init__(self, path: Path, episode: str = "") -> None:
        self.path = path
        self.episode = episode or path.name.split(".")[0]
        with path.open("rb") as file:
            self.status = os.fstat(file.fileno())
            if self.status.st_size == 0:
                raise self._corrupt("the file is empty")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            self._entries = read_directory(self._map)
            self.attributes: dict[str, Any] = self._node("")["attributes"]
        except (ZipFormatError, UnicodeDecodeError) as error:
            raise self._corrupt(f"no whole episode file, {error}") from error
        self._check_schema()
        nodes, self._chunks = [], dict[str, Entry]()
        for name, entry in self._entries.items():
            if name.endswith("/zarr.json"):
                nodes.append(name[: -len("/zarr.json")])
            elif name != "zarr.json":
                self._chunks[name.rpartition("/c/")[0]] = entry
        self.paths = [node for node in nodes if node in self._chunks or not self._is_group(node)]
        if not self._chunks.keys() <= set(self.paths):
            raise self._corrupt("data without a description")

    @property
    def crc32c(self) -> int:
        """CRC32C of the whole file as it lies on disk."""
        return crc32c(self._map)

    def array(self, path: str) -> Array:
        """Read-only view of an array, in place; raises KeyError when the file has none of that name."""
        node = self._node(path)
        dtype, shape = np.dtype(node["data_type"]).newbyteorder("<"), tuple(node["shape"])
        count = math.prod(shape)
        if count == 0:
            return np.frombuffer(b"", dtype).reshape(shape)
        entry = self._chunks.get(path)
        if entry is None or entry.size != count * dtype.itemsize + 4:
            raise self._corrupt("chunk missing or of the wrong size", path)
        return np.frombuffer(self._map, dtype, count, entry.offset).reshape(shape)

    def array_attributes(self, path: str) -> dict[str, Any]:
        """Unit, frame, codec and so on of one array."""
        return self._node(path)["attributes"]

    def read(self) -> Episode:
        """The episode as views of this file; arrays and cameras are mapped when they are first used."""
        cameras = sorted({path[7:].rsplit("/", 1)[0] for path in self.paths if path.startswith("images/")})
        names = [path for path in self.paths if not path.startswith("images/")]
        arrays, tracks = OnFirstUse(names, self.array), OnFirstUse(cameras, self._camera)
        return Episode(self.episode, arrays, self.attributes, tracks)

    def verify(self) -> None:
        """Check the zip CRC32 of every entry and the crc32c codec of every array; raises CorruptEpisodeError."""
        view = memoryview(self._map)
        for name, entry in self._entries.items():
            content = view[entry.offset : entry.offset + entry.size]
            path, written = name.removesuffix("/zarr.json").rsplit("/c/", 1)[0], name.encode()
            if local_name(self._map, entry, len(written)) != written:
                raise self._corrupt("zip directory and headers differ", path)
            if zlib.crc32(content) != entry.crc32:
                raise self._corrupt("zip CRC32 differs, bytes have changed", path)
            if self._chunks.get(path) is entry and crc32c(content[:-4]) != int.from_bytes(content[-4:], "little"):
                raise self._corrupt("crc32c codec differs, bytes have changed", path)

    def _camera(self, name: str) -> CameraTrack:
        folder = f"images/{name}/"
        known = dict(self.array_attributes(f"{folder}data"))
        size = {key: known.pop(key) for key in ("codec", "height", "width", "channels")}
        parts = {part: self.array(folder + part) for part in _CAMERA_ARRAYS if folder + part in self.paths}
        return CameraTrack(**parts, **size, attributes=known)

    def _node(self, path: str) -> dict[str, Any]:
        entry = self._entries.get(f"{path}/zarr.json" if path else "zarr.json")
        if entry is None:
            raise KeyError(path) if path else self._corrupt("no root group")
        content = self._bytes(entry)
        if zlib.crc32(content) != entry.crc32:
            raise self._corrupt("zip CRC32 differs, bytes have changed", path or None)
        return json.loads(content.decode())

    def _is_group(self, path: str) -> bool:
        return self._bytes(self._entries[f"{path}/zarr.json"]) == _GROUP or self._node(path)["node_type"] == "group"

    def _bytes(self, entry: Entry) -> bytes:
        return self._map[entry.offset : entry.offset + entry.size]

    def _check_schema(self) -> None:
        schema, version = self.attributes.get("schema"), str(self.attributes.get("schema_version", ""))
        if schema != SCHEMA:
            raise SchemaVersionError(
                f"{self.path.name} is of schema {schema!r}",
                episode=self.episode,
                limit=SCHEMA,
                remedy="Bring foreign data in with: robot-rl dataset import",
            )
        check_version(version, self.episode)

    def _corrupt(self, what: str, array: str | None = None) -> CorruptEpisodeError:
        return CorruptEpisodeError(
            f"{what} in {self.path.name}",
            episode=self.episode,
            array=array,
            remedy="Restore the file from a copy, or take the episode out with EpisodeStore.delete",
        )


class OnFirstUse(Mapping[str, T]):
    """A read-only mapping whose values are made when they are first looked up."""

    def __init__(self, names: Iterable[str], make: Callable[[str], T]) -> None:
        self._names, self._make = dict.fromkeys(names), make
        self._made: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        if name not in self._made:
            if name not in self._names:
                raise KeyError(name)
            self._made[name] = self._make(name)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names


def check_version(version: str, episode: str | None = None) -> None:
    """Raise SchemaVersionError when ``version`` is of a newer major number than this code reads."""
    major = version.split(".")[0]
    if not major.isdigit() or int(major) > int(SCHEMA_VERSION.split(".")[0]):
        raise SchemaVersionError(
            f"schema version {version!r} is newer than this software",
            episode=episode,
            limit=f"{SCHEMA_VERSION.split('.')[0]}.x",
            remedy="Update robot-rl",
        )
