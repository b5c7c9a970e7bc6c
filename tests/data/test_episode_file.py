import json
import struct
import zipfile
import zlib

import google_crc32c
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robot_rl.data.episode import CameraTrack, Episode
from robot_rl.data.episode_file import EpisodeFile, write_episode
from robot_rl.errors import CorruptEpisodeError, EpisodeError, SchemaVersionError

ATTRIBUTES = {"schema": "robot_rl/episode", "schema_version": "1.0", "id": "e1", "length": 2, "rows": 3, "note": "é"}


def _episode(**metadata):
    rows = 3
    arrays = {
        "obs/arm0/joint_position": np.arange(rows * 4, dtype=np.float32).reshape(rows, 4),
        "action/commanded": np.full((rows, 2), 0.5, np.float32),
        "action_valid": np.array([True, True, False]),
        "time/t_ns": np.array([10, 20, 2**60], np.int64),
        "rl/reward": np.array([0, 1, 0], np.float32),
        "rl/terminated": np.array([False, True, False]),
        "rl/truncated": np.zeros(rows, bool),
        "decision/planned": np.zeros((0, 8, 2), np.float32),
    }
    data = np.arange(100, dtype=np.uint8)
    track = CameraTrack(
        data,
        np.array([0, 60, 100], np.int64),
        np.array([9, 19], np.int64),
        np.array([0, 1, 1], np.int32),
        height=4,
        width=5,
        attributes={"quality": 95},
    )
    empty = CameraTrack(
        np.empty(0, np.uint8), np.zeros(1, np.int64), np.empty(0, np.int64), np.full(rows, -1, np.int32), 4, 5
    )
    described = {"obs/arm0/joint_position": {"unit": "rad"}}
    return Episode("e1", arrays, {**ATTRIBUTES, "arrays": described, **metadata}, {"front": track, "dead": empty})


def _write(path, episode):
    with path.open("xb") as file:
        return write_episode(file.fileno(), episode)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "e1.zarr.zip"
    _write(path, _episode())
    return path


def _same(found, wanted):
    found = np.asarray(found)
    return found.dtype == wanted.dtype and found.shape == wanted.shape and found.tobytes() == wanted.tobytes()


def test_own_reader_gives_back_every_bit(path):
    wanted, found = _episode(), EpisodeFile(path).read()
    found.validate()
    assert dict(found.metadata) == dict(wanted.metadata)
    assert sorted(found.arrays) == sorted(wanted.arrays)
    assert all(_same(found.arrays[name], wanted.arrays[name]) for name in wanted.arrays)
    assert found.cameras.keys() == wanted.cameras.keys()
    for name, track in wanted.cameras.items():
        got = found.cameras[name]
        assert (got.height, got.width, got.channels, got.codec, got.frames) == (4, 5, 3, "jpeg", track.frames)
        for part in ("data", "offset", "t_ns", "frame_of_step"):
            assert _same(getattr(got, part), getattr(track, part))
        assert got.t_dev_ns is None
    assert found.cameras["front"].encoded(1) == bytes(range(60, 100))
    assert found.cameras["front"].attributes["quality"] == 95


def test_arrays_are_aligned_read_only_views_of_the_map(path):
    for name, value in EpisodeFile(path).read().arrays.items():
        assert not value.flags.writeable, name
        assert value.size == 0 or (value.ctypes.data % 64 == 0 and not value.flags.owndata), name


def test_plain_zarr_reads_it(path):
    wanted = _episode()
    with zarr.storage.ZipStore(path, mode="r") as store:
        group = zarr.open_group(store, mode="r")
        assert dict(group.attrs) == dict(wanted.metadata)
        for name, value in wanted.arrays.items():
            assert _same(group[name][...], value), name
        assert group["obs/arm0/joint_position"].attrs["unit"] == "rad"
        camera = group["images/front"]
        assert dict(camera["data"].attrs)["codec"] == "jpeg"
        assert bytes(camera["data"][60:100]) == bytes(range(60, 100))
        assert sorted(group["images"].group_keys()) == ["dead", "front"]


def test_the_standard_library_and_numpy_read_it(path):
    wanted = _episode()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert len(archive.namelist()) == len(set(archive.namelist()))
        for name, value in wanted.arrays.items():
            node = json.loads(archive.read(f"{name}/zarr.json"))
            assert node["shape"] == list(value.shape)
            assert [codec["name"] for codec in node["codecs"]] == ["bytes", "crc32c"]
            if value.size:
                raw = archive.read(f"{name}/c" + "/0" * value.ndim)
                assert _same(np.frombuffer(raw[:-4], node["data_type"]).reshape(node["shape"]), value)


def test_checksum_and_size_are_those_of_the_file(tmp_path):
    size, crc = _write(tmp_path / "a", _episode())
    content = (tmp_path / "a").read_bytes()
    assert (size, crc) == (len(content), google_crc32c.value(content))
    _write(tmp_path / "b", _episode())
    assert (tmp_path / "b").read_bytes() == content  # equal content, equal file


def test_every_truncation_is_corrupt(path):
    content = path.read_bytes()
    for cut in [0, 1, 21, 22, len(content) // 2, len(content) - 1, *range(100, len(content), 997)]:
        path.write_bytes(content[:cut])
        with pytest.raises(CorruptEpisodeError, match="e1"):
            EpisodeFile(path)


def test_a_flipped_byte_names_the_array(path):
    content = path.read_bytes()
    where = content.index(np.arange(12, dtype=np.float32).tobytes())
    path.write_bytes(content[:where] + bytes([content[where] ^ 4]) + content[where + 1 :])
    with pytest.raises(CorruptEpisodeError, match=r"episode e1, array 'obs/arm0/joint_position'.*CRC32"):
        EpisodeFile(path).verify()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit_is_named_or_harmless(path, data):
    whole = path.read_bytes()
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    damaged = bytearray(whole)
    damaged[bit // 8] ^= 1 << bit % 8
    path.write_bytes(damaged)
    try:
        file = EpisodeFile(path)
        file.verify()
        found, wanted = file.read(), _episode()
        assert all(_same(found.arrays[name], wanted.arrays[name]) for name in wanted.arrays)
        assert found.cameras["front"].encoded(0) == bytes(range(60))
    except EpisodeError as error:
        assert "e1" in str(error)
    finally:
        path.write_bytes(whole)


def test_the_codec_checksum_is_checked_beside_that_of_the_zip(path):
    content = bytearray(path.read_bytes())
    where = content.index(np.array([10, 20, 2**60], np.int64).tobytes())
    old = zlib.crc32(content[where : where + 28])
    content[where] ^= 1
    new = zlib.crc32(content[where : where + 28])
    patched = bytes(content).replace(struct.pack("<I", old), struct.pack("<I", new))  # local header and directory
    path.write_bytes(patched)
    with pytest.raises(CorruptEpisodeError, match=r"'time/t_ns'.*crc32c codec"):
        EpisodeFile(path).verify()


@pytest.mark.parametrize("version", ["2.0", "10.3", "x", ""])
def test_a_newer_schema_is_refused(tmp_path, version):
    _write(tmp_path / "e1.zarr.zip", _episode(schema_version=version))
    with pytest.raises(SchemaVersionError, match=r"e1.*newer"):
        EpisodeFile(tmp_path / "e1.zarr.zip")


def test_a_newer_minor_version_with_unknown_keys_is_read(tmp_path):
    _write(tmp_path / "e1.zarr.zip", _episode(schema_version="1.7", unheard_of={"a": 1}))
    assert EpisodeFile(tmp_path / "e1.zarr.zip").attributes["unheard_of"] == {"a": 1}


def test_a_foreign_zarr_is_told_apart(tmp_path):
    path = tmp_path / "foreign.zarr.zip"
    with zarr.storage.ZipStore(path, mode="w", compression=zipfile.ZIP_STORED) as store:
        zarr.create_array(store, shape=(3,), dtype="f4")[:] = 1
    with pytest.raises((SchemaVersionError, CorruptEpisodeError), match="foreign"):
        EpisodeFile(path)


def test_objects_are_not_stored(tmp_path):
    episode = _episode()
    broken = Episode("e1", {**episode.arrays, "obs/what": np.array([None] * 3)}, episode.metadata)
    with pytest.raises(EpisodeError, match=r"'obs/what'.*object"):
        _write(tmp_path / "e1.zarr.zip", broken)
