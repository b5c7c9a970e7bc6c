"""Datasets on the shelf: photographs as JPEG in every make a camera sends, archived and restored bit for bit."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest
import zarr
from zarr.storage import ZipStore

from robot_rl.data.archive import archived, copy_episodes, restored
from robot_rl.data.episode import CameraTrack, Episode
from robot_rl.data.frames import decode_frame
from robot_rl.data.jpegxl import jpegxl_of, restored_jpeg
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import CorruptEpisodeError, RobotRlError, SpecMismatchError, StoreError
from robot_rl.types import Array, CameraSpec, EnvSpec
from tests.data.demonstrations import arm_spec, demonstration, psnr_db
from tests.data.recorded_rows import make_spec

imagecodecs = pytest.importorskip("imagecodecs", reason="the extra 'formats' is not installed")
PHOTO = (Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg").read_bytes()  # 512x600, 4:2:0, EXIF
ROWS = 7
SIZES = {"front": (201, 167, 3), "wrist": (177, 153, 1), "exact": (24, 16, 3)}  # odd ones, grey, and one that is raw


def photo(height: int, width: int, channels: int = 3, shift: int = 0) -> Array:
    """A part of the photograph, BGR or grey."""
    mode = cv2.IMREAD_COLOR if channels == 3 else cv2.IMREAD_GRAYSCALE
    image = cv2.imdecode(np.frombuffer(PHOTO, np.uint8), mode)
    assert image is not None
    return image[100 : 100 + height, 150 + shift : 150 + shift + width]


def jpeg(image: Array, *options: int) -> bytes:
    return cv2.imencode(".jpg", image, list(options))[1].tobytes()


def spec() -> EnvSpec:
    cameras = {
        name: CameraSpec(h, w, 20.0, c, "raw" if name == "exact" else "jpeg") for name, (h, w, c) in SIZES.items()
    }
    return replace(arm_spec(), cameras=cameras)


def track(name: str, quality: int) -> CameraTrack:
    height, width, channels = SIZES[name]
    images = [photo(height, width, channels, shift) for shift in range(ROWS - 2)]
    frames = [
        image.tobytes() if name == "exact" else jpeg(image, cv2.IMWRITE_JPEG_QUALITY, quality) for image in images
    ]
    return CameraTrack(
        data=np.frombuffer(b"".join(frames), np.uint8),
        offset=np.cumsum([0, *map(len, frames)], dtype=np.int64),
        t_ns=np.arange(5, dtype=np.int64) * 50_000_000 + 7,
        frame_of_step=np.array([-1, 0, 1, 1, 2, 3, 4], np.int32),
        height=height,
        width=width,
        channels=channels,
        codec="raw" if name == "exact" else "jpeg",
        attributes={"colour_order": "rgb", "frame": f"{name}_optical", "quality": quality},
    )


def episode(id: str, seed: int) -> Episode:
    return replace(demonstration(id, ROWS - 1, seed), cameras={name: track(name, 90 + seed) for name in SIZES})


@pytest.fixture
def store(tmp_path: Path) -> EpisodeStore:
    store = EpisodeStore.create(tmp_path / "store", name="cubes", spec=spec())
    for seed, id in enumerate(("first", "second", "third")):
        store.write(episode(id, seed))
    store.annotate("first", success=True, success_step=2, note="relabelled", who="ada")
    store.annotate("third", exclude=True, split="validation", who="ada")
    return store


def empty(tmp_path: Path, name: str) -> EpisodeStore:
    return EpisodeStore.create(tmp_path / name, spec=spec())


def files(store: EpisodeStore) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (store.root / "episodes").iterdir()}


FACTOR = cv2.IMWRITE_JPEG_SAMPLING_FACTOR


@pytest.mark.parametrize(
    "recorded",
    [
        PHOTO,
        PHOTO + bytes(1000),  # padded, as frames of webcams are
        jpeg(photo(300, 200), cv2.IMWRITE_JPEG_QUALITY, 95, FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
        jpeg(photo(101, 67), FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422),
        jpeg(photo(101, 67), cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        jpeg(photo(101, 67), cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
        jpeg(photo(101, 67), cv2.IMWRITE_JPEG_OPTIMIZE, 1),
        jpeg(photo(77, 53, 1)),
        jpeg(photo(1, 1)),
    ],
    ids=["photo", "padded", "444", "422", "progressive", "restarts", "optimised", "grey", "one_pixel"],
)
def test_jpegs_of_a_photograph_come_back_bit_for_bit(recorded: bytes) -> None:
    encoded = jpegxl_of(recorded)
    assert encoded is not None
    assert restored_jpeg(encoded) == recorded
    if len(recorded) > 3000:
        assert len(encoded) < len(recorded)


def test_bytes_that_would_not_come_back_have_no_jpeg_xl() -> None:
    png = cv2.imencode(".png", photo(9, 9))[1].tobytes()
    for frame in (b"", png, PHOTO[:-2], PHOTO[: len(PHOTO) // 2], b"\xff\xd8" + bytes(50)):
        assert jpegxl_of(frame) is None


def test_an_archive_is_smaller_and_restores_files_to_the_byte(tmp_path: Path, store: EpisodeStore) -> None:
    archive, back = empty(tmp_path, "archive"), empty(tmp_path, "back")
    done = copy_episodes(store, archive, archived)
    assert (done.copied, done.skipped) == (3, 0)
    assert done.bytes_read == sum(map(len, files(store).values()))
    assert done.bytes_written == sum(map(len, files(archive).values())) < done.bytes_read
    assert archive.verify() == []
    for id in store.ids(excluded=True):
        found, recorded = archive.read(id), store.read(id)
        found.validate()
        assert found.metadata == recorded.metadata
        assert [found.arrays[name].tobytes() for name in recorded.arrays] == [
            v.tobytes() for v in recorded.arrays.values()
        ]
        assert {name: each.codec for name, each in found.cameras.items()} == {
            "front": "jpegxl", "wrist": "jpegxl", "exact": "raw"
        }  # fmt: skip
        for name in ("front", "wrist"):
            assert len(found.cameras[name].data) < 0.98 * len(recorded.cameras[name].data)
    copy_episodes(EpisodeStore.open(archive.root, recover=False), back, restored)
    assert files(back) == files(store)  # attributes, arrays, stamps, offsets and frames
    assert back.infos(excluded=True) == store.infos(excluded=True)
    assert (back.root / "annotations.jsonl").read_bytes() == (store.root / "annotations.jsonl").read_bytes()


def test_an_archive_is_sampled_from_as_the_dataset_is(tmp_path: Path, store: EpisodeStore) -> None:
    archive = empty(tmp_path, "archive")
    copy_episodes(store, archive, archived)
    for name in SIZES:
        recorded, shelved = (each.read("second").cameras[name] for each in (store, archive))
        for frame in range(recorded.frames):
            assert np.array_equal(decode_frame(shelved, frame), decode_frame(recorded, frame))


def test_an_archive_is_read_with_plain_zarr_and_any_jpeg_xl_decoder(tmp_path: Path, store: EpisodeStore) -> None:
    archive = empty(tmp_path, "archive")
    copy_episodes(store, archive, archived)
    group = zarr.open_group(ZipStore(archive.root / "episodes" / "first.zarr.zip", mode="r"), mode="r", zarr_format=3)
    data, offset = (np.asarray(group[f"images/front/{part}"]) for part in ("data", "offset"))
    assert group["images/front/data"].attrs["codec"] == "jpegxl"
    pixels = imagecodecs.jpegxl_decode(data[offset[3] : offset[4]].tobytes())
    assert psnr_db(pixels, decode_frame(store.read("first").cameras["front"], 3)) > 40


def test_a_copy_goes_on_where_it_was_interrupted_and_takes_in_what_is_new(tmp_path: Path, store: EpisodeStore) -> None:
    archive, made = empty(tmp_path, "archive"), []

    def stop_at_second(episode: Episode) -> Episode:
        if made:
            raise KeyboardInterrupt
        made.append(episode.id)
        return archived(episode)

    with pytest.raises(KeyboardInterrupt):
        copy_episodes(store, archive, stop_at_second)
    again = EpisodeStore.open(archive.root)
    assert again.ids() == ["first"] and again.verify() == []
    steps: list[None] = []
    done = copy_episodes(store, again, archived, lambda: steps.append(None))
    assert (done.copied, done.skipped, len(steps)) == (2, 1, 3)
    store.write(episode("fourth", 3))
    store.annotate("second", success=False, who="ada")
    assert copy_episodes(store, again, archived).copied == 1
    assert copy_episodes(store, again, archived).copied == 0
    assert again.infos(excluded=True)[1:2] != store.infos(excluded=True)[1:2]  # other bytes
    assert [info.success for info in again.infos()] == [info.success for info in store.infos()] == [True, True, False]


def test_what_was_deleted_does_not_come_back(tmp_path: Path, store: EpisodeStore) -> None:
    archive = empty(tmp_path, "archive")
    copy_episodes(store, archive, archived)
    store.delete("second")
    store.gc()
    assert copy_episodes(archive, store, restored).copied == 0
    assert store.ids(excluded=True) == ["first", "third"] and archive.ids() == ["first", "second"]
    copy_episodes(store, archive, archived)
    assert archive.ids() == ["first"] and [info.id for info in archive.deleted()] == ["second"]


def test_a_camera_stays_as_it_is_where_a_frame_would_not_come_back_or_nothing_is_saved() -> None:
    whole = episode("a", 0)
    front = whole.cameras["front"]
    broken = replace(front, data=front.data[:-2], offset=front.offset - np.array([0, 0, 0, 0, 0, 2]))
    tiny = np.frombuffer(jpeg(photo(1, 1)), np.uint8)
    small = replace(front, data=tiny, offset=np.array([0, len(tiny)]), height=1, width=1)
    found = archived(replace(whole, cameras={**whole.cameras, "front": broken, "small": small})).cameras
    assert {name: track.codec for name, track in found.items()} == {
        "front": "jpeg", "wrist": "jpegxl", "exact": "raw", "small": "jpeg"
    }  # fmt: skip
    assert np.array_equal(found["front"].data, broken.data) and found["small"] is small


def test_damage_to_a_codestream_names_episode_and_camera() -> None:
    shelved = archived(episode("a", 0))
    wrist = shelved.cameras["wrist"]
    data = wrist.data.copy()
    data[: wrist.offset[1]] = 0
    damaged = replace(shelved, cameras={**shelved.cameras, "wrist": replace(wrist, data=data)})
    with pytest.raises(CorruptEpisodeError, match="images/wrist") as caught:
        restored(damaged)
    assert caught.value.episode == "a"
    with pytest.raises(CorruptEpisodeError):
        decode_frame(damaged.cameras["wrist"], 0)


def test_no_dataset_is_its_own_archive_or_that_of_another_kind(tmp_path: Path, store: EpisodeStore) -> None:
    with pytest.raises(StoreError, match="onto itself"):
        copy_episodes(store, EpisodeStore.open(store.root), archived)
    EpisodeStore.create(tmp_path / "other", spec=make_spec())
    with pytest.raises(SpecMismatchError):
        EpisodeStore.open_or_create(tmp_path / "other", spec=store.spec)


def test_where_imagecodecs_is_absent_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    shelved = archived(episode("a", 0))
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    for act in (lambda: archived(episode("b", 0)), lambda: restored(shelved)):
        with pytest.raises(RobotRlError, match=r"robot-rl\[formats\]"):
            act()
    with pytest.raises(RobotRlError, match=r"robot-rl\[formats\]"):
        decode_frame(shelved.cameras["front"], 0)
