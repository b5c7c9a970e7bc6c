"""Gathering past the caches gives what numpy.take gives, whatever the sizes and alignments."""

from __future__ import annotations

import mmap
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.data.row_copy import take_rows


def noise(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, shape).astype(dtype)


@settings(deadline=None)  # the first example compiles
@given(
    size=st.one_of(st.integers(1, 300), st.integers(4000, 8500)),
    rows=st.lists(st.integers(-3, 12), min_size=0, max_size=6),
    source_offset=st.integers(0, 70),
    out_offset=st.integers(0, 70),
)
def test_it_gives_what_numpy_gives(size: int, rows: list[int], source_offset: int, out_offset: int) -> None:
    source = noise(10 * size + source_offset)[source_offset:].reshape(10, size)
    source.setflags(write=False)  # as a mapped file
    around = np.full(len(rows) * size + out_offset + 64, 7, np.uint8)
    out = around[out_offset : out_offset + len(rows) * size].reshape(-1, size)
    wanted = np.array(rows, dtype=np.int64)
    take_rows(source, wanted, out)
    assert np.array_equal(out, np.take(source, wanted, axis=0, mode="clip"))
    assert (around[:out_offset] == 7).all() and (around[out_offset + out.size :] == 7).all()


@pytest.mark.parametrize(
    ("shape", "dtype"), [((31, 17, 3), np.uint8), ((40, 30, 1), np.uint16), ((128, 128, 3), np.uint8)]
)
def test_frames_of_a_mapped_file_on_many_threads(tmp_path: Path, shape: tuple[int, ...], dtype: type) -> None:
    frames = noise(50, *shape, dtype=dtype)
    (tmp_path / "frames").write_bytes(frames.tobytes())
    descriptor = os.open(tmp_path / "frames", os.O_RDONLY)
    mapped = np.frombuffer(mmap.mmap(descriptor, 0, prot=mmap.PROT_READ), dtype).reshape(-1, *shape)
    os.close(descriptor)
    out = np.zeros((64, *shape), dtype)
    rows = np.random.default_rng(1).integers(0, 50, 64)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: take_rows(mapped, rows[i : i + 8], out[i : i + 8]), range(0, 64, 8)))
    assert np.array_equal(out, frames[rows])
