"""The cache of decoded frames: what a kill, a full disk or a deleted folder leaves is never taken for frames."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from robot_rl.data import frame_cache
from robot_rl.data.frame_cache import FrameCache
from robot_rl.types import Array

SHAPE = (4, 6, 3)


def numbered(first: int, count: int) -> Array:
    values = np.arange(first, first + count, dtype=np.uint8)
    return np.broadcast_to(values[:, None, None, None], (count, *SHAPE))


class Decoder:
    """Fills frames of episode e with 10 e, 10 e + 1, ... and remembers whom it served."""

    def __init__(self) -> None:
        self.served: list[int] = []

    def __call__(self, number: int, out: Array) -> None:
        self.served.append(number)
        out[:] = numbered(10 * number, len(out))


def contents(cache: FrameCache, counts: Sequence[int]) -> list[int]:
    out = np.zeros((sum(counts), *SHAPE), dtype=np.uint8)
    cache.read(np.arange(sum(counts)), out)
    assert (out == out[:, :1, :1, :1]).all()
    return out[:, 0, 0, 0].tolist()


KEYS, COUNTS = [("e0", 5), ("e1", 6), ("e2", 7)], [2, 3, 1]
CONTENT = [0, 1, 10, 11, 12, 20]


def test_what_is_cached_is_not_decoded_again(tmp_path: Path) -> None:
    first, second = Decoder(), Decoder()
    assert FrameCache(tmp_path, "front", SHAPE, None).extend(KEYS[:2], COUNTS[:2], first) == 2
    cache = FrameCache(tmp_path, "front", SHAPE, None)
    assert cache.extend(KEYS, COUNTS, second) == 1
    assert (first.served, second.served) == ([0, 1], [2])
    assert contents(cache, COUNTS) == CONTENT


def test_an_episode_with_other_bytes_is_decoded_again(tmp_path: Path) -> None:
    FrameCache(tmp_path, "front", SHAPE, None).extend(KEYS, COUNTS, Decoder())
    changed = [KEYS[0], ("e1", 99), KEYS[2]]
    decoder = Decoder()
    cache = FrameCache(tmp_path, "front", SHAPE, None)
    cache.extend(changed, COUNTS, decoder)
    assert (decoder.served, contents(cache, COUNTS)) == ([1], CONTENT)


def test_other_crops_and_cameras_have_other_caches(tmp_path: Path) -> None:
    for camera, crop in (("front", None), ("front", (0, 0, 4, 6)), ("arm0/wrist", None)):
        decoder = Decoder()
        FrameCache(tmp_path, camera, SHAPE, crop).extend(KEYS, COUNTS, decoder)
        assert decoder.served == [0, 1, 2]
    assert len(list(tmp_path.iterdir())) == 3


def test_lines_without_their_frames_are_not_believed(tmp_path: Path) -> None:
    """A file cut short, e.g. restored from elsewhere: its last episode is gone, and decoded again."""
    FrameCache(tmp_path, "front", SHAPE, None).extend(KEYS, COUNTS, Decoder())
    (path,) = tmp_path.glob("*/frames.u8")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    decoder = Decoder()
    cache = FrameCache(tmp_path, "front", SHAPE, None)
    cache.extend(KEYS, COUNTS, decoder)
    assert (decoder.served, contents(cache, COUNTS)) == ([2], CONTENT)


def test_lines_about_lost_frames_do_not_come_true_when_the_file_grows_again(tmp_path: Path) -> None:
    FrameCache(tmp_path, "front", SHAPE, None).extend(KEYS[:2], COUNTS[:2], Decoder())
    (path,) = tmp_path.glob("*/frames.u8")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size * 2 // 5)  # e1 is cut off
    other = [("e7", 8)]
    FrameCache(tmp_path, "front", SHAPE, None).extend(other, COUNTS[1:2], lambda e, out: out.fill(70))
    cache = FrameCache(tmp_path, "front", SHAPE, None)
    cache.extend(KEYS, COUNTS, Decoder())
    assert contents(cache, COUNTS) == CONTENT


@pytest.mark.parametrize("made_anew", [False, True])
def test_a_folder_deleted_under_a_running_process_is_decoded_again(tmp_path: Path, made_anew: bool) -> None:
    """... or read where another process put the frames meanwhile."""
    cache = FrameCache(tmp_path, "front", SHAPE, None)
    cache.extend(KEYS, COUNTS, Decoder())
    shutil.rmtree(cache.folder)
    if made_anew:
        again = FrameCache(tmp_path, "front", SHAPE, None)
        again.extend(KEYS[::-1], COUNTS[::-1], lambda e, out: Decoder()(2 - e, out))
    decoder = Decoder()
    cache.extend(KEYS, COUNTS, decoder)
    assert decoder.served == ([] if made_anew else [0, 1, 2])
    assert contents(cache, COUNTS) == CONTENT


def test_a_torn_line_is_not_believed(tmp_path: Path) -> None:
    FrameCache(tmp_path, "front", SHAPE, None).extend(KEYS, COUNTS, Decoder())
    (log,) = tmp_path.glob("*/episodes.log")
    log.write_bytes(log.read_bytes()[:-9])
    decoder = Decoder()
    cache = FrameCache(tmp_path, "front", SHAPE, None)
    cache.extend(KEYS, COUNTS, decoder)
    assert (decoder.served, contents(cache, COUNTS)) == ([2], CONTENT)


def test_frames_of_a_killed_writer_are_not_believed(tmp_path: Path) -> None:
    """A process fills half of an episode with wrong bytes and dies by SIGKILL; another one decodes it again."""
    program = """
import os, signal, sys
from pathlib import Path
from robot_rl.data.frame_cache import FrameCache
from tests.data.test_frame_cache import COUNTS, KEYS, SHAPE, Decoder
folder = Path(sys.argv[1])
FrameCache(folder, "front", SHAPE, None).extend(KEYS[:1], COUNTS[:1], Decoder())
def dies(number, out):
    out[:] = 99
    os.kill(os.getpid(), signal.SIGKILL)
FrameCache(folder, "front", SHAPE, None).extend(KEYS, COUNTS, dies)
"""
    root = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=root, check=False, timeout=60)
    assert ended.returncode == -9
    decoder = Decoder()
    cache = FrameCache(tmp_path, "front", SHAPE, None)
    cache.extend(KEYS, COUNTS, decoder)
    assert (decoder.served, contents(cache, COUNTS)) == ([1, 2], CONTENT)


def test_two_writers_share_the_work(tmp_path: Path) -> None:
    """The second waits for the first, then finds its episodes done."""
    working, may_end = threading.Event(), threading.Event()
    slow, idle = Decoder(), Decoder()

    def waits(number: int, out: Array) -> None:
        working.set()
        assert may_end.wait(60)
        slow(number, out)

    caches = [FrameCache(tmp_path, "front", SHAPE, None) for _ in range(2)]
    writer = threading.Thread(target=caches[0].extend, args=(KEYS, COUNTS, waits))
    writer.start()
    assert working.wait(60)
    second = threading.Thread(target=caches[1].extend, args=(KEYS, COUNTS, idle))
    second.start()
    may_end.set()
    writer.join()
    second.join()
    assert (slow.served, idle.served) == ([0, 1, 2], [])
    assert [contents(cache, COUNTS) for cache in caches] == [CONTENT, CONTENT]


def test_a_full_disk_is_an_error_that_names_the_remedy(tmp_path: Path) -> None:
    program = """
import resource, sys
from pathlib import Path
from robot_rl.data.frame_cache import FrameCache
from robot_rl.errors import DiskFullError
from tests.data.test_frame_cache import COUNTS, KEYS, SHAPE, Decoder
resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
try:
    FrameCache(Path(sys.argv[1]), "front", SHAPE, None).extend(KEYS, COUNTS, Decoder())
except DiskFullError as error:
    print(error)
"""
    root = Path(__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=root, check=True, timeout=60, capture_output=True, text=True
    )
    assert "cannot grow" in ended.stdout and "tier=decode" in ended.stdout


@pytest.mark.parametrize(("limit", "hints"), [(1000, [(72, 216), (504, 72)]), (200, [(72, 200), (272, 16), (504, 72)])])
def test_frames_to_come_are_announced_in_runs_no_longer_than_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, hints: list[tuple[int, int]]
) -> None:
    """Frames 1, 2, 3 and 7 of 72 bytes each; the order and repetition of the asking do not matter."""
    cache = FrameCache(tmp_path, "front", SHAPE, None)
    cache.extend([("e0", 5)], [9], Decoder())
    asked = []
    monkeypatch.setattr(frame_cache, "_HINT_BYTES", limit)
    monkeypatch.setattr(os, "posix_fadvise", lambda file, start, length, advice: asked.append((start, length)))
    cache.will_need(np.array([3, 1, 7, 1, 2]))
    assert asked == hints
    shutil.rmtree(cache.folder)
    cache.will_need(np.array([0]))
    assert contents(cache, [9]) == list(range(9)), "what is mapped is read without a hint"
