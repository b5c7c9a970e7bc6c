import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import google_crc32c
import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.data.file_lock import lock_orphan, write_all
from robot_rl.data.journal import disk_error, frame_record, scan_records
from robot_rl.data.journal_writer import JournalWriter
from robot_rl.errors import DiskFullError, RecordingOverflowError, StoreError

pytestmark = pytest.mark.robot

PAYLOADS = st.lists(
    st.tuples(st.dictionaries(st.text(max_size=5), st.integers(0, 9), max_size=3), st.lists(st.binary(max_size=40))),
    min_size=1,
    max_size=8,
)


def _journal(payloads):
    """The bytes of a journal and the offsets behind each record."""
    records = [b"".join(frame_record(i, header, buffers)) for i, (header, buffers) in enumerate(payloads)]
    return b"".join(records), np.cumsum([len(record) for record in records])


def _read(content):
    return [(record.header, [bytes(b) for b in record.buffers]) for record, _ in scan_records(memoryview(content))]


def test_record_layout_is_the_documented_one():
    record = b"".join(frame_record(7, {"kind": "row"}, [b"abc", b""]))
    magic, length, checksum, sequence = struct.unpack_from("<4sIIQ", record)
    assert (magic, length, sequence) == (b"RRJ1", len(record) - 20, 7)
    assert checksum == google_crc32c.value(struct.pack("<IQ", length, 7) + record[20:])
    (packed,) = struct.unpack_from("<I", record, 20)
    assert msgpack.unpackb(record[24 : 24 + packed]) == [[3, 0], {"kind": "row"}]
    assert record[24 + packed :] == b"abc"


@settings(max_examples=60, deadline=None)
@given(PAYLOADS, st.data())
def test_truncation_keeps_exactly_the_whole_records(payloads, data):
    content, ends = _journal(payloads)
    cut = data.draw(st.integers(0, len(content)))
    assert _read(content[:cut]) == payloads[: int((ends <= cut).sum())]


@settings(max_examples=60, deadline=None)
@given(PAYLOADS, st.data())
def test_a_flipped_bit_keeps_the_records_before_it_and_invents_none(payloads, data):
    content, ends = _journal(payloads)
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    assert _read(damaged) == payloads[: int((ends <= bit // 8).sum())]


@settings(max_examples=40, deadline=None)
@given(PAYLOADS, st.binary(max_size=100))
def test_garbage_behind_the_records_is_not_read(payloads, garbage):
    content, _ = _journal(payloads)
    assert _read(content + garbage) == payloads


def test_records_of_an_earlier_journal_in_the_same_blocks_are_not_read():
    content, _ = _journal([({"a": 1}, []), ({"a": 2}, []), ({"a": 3}, [])])
    first = frame_record(0, {"b": 1})
    assert len(_read(b"".join(first) + content)) == 1  # the next sequence number must be 1, not 0


def test_writer_thread_writes_all_that_was_put(tmp_path):
    journal = JournalWriter(tmp_path / "e.journal", "e", {"kind": "begin"})
    for i in range(100):
        journal.put({"i": i}, [bytes([i]) * i], i)
    journal.drain()
    records = _read((tmp_path / "e.journal").read_bytes())
    assert records == [({"kind": "begin"}, []), *(({"i": i}, [bytes([i]) * i]) for i in range(100))]
    assert journal.pending == 0 and 1 <= journal.high_water <= 100
    journal.close()
    with pytest.raises(StoreError, match="has ended"):
        journal.put({}, [], 0)


def test_a_full_ring_refuses_and_loses_nothing_it_took(tmp_path):
    read, write = os.pipe()

    def slow(header, buffers):
        os.read(read, 1)  # until the test lets one record pass
        return header, buffers

    journal = JournalWriter(tmp_path / "e.journal", "ep7", {}, ring_records=3, prepare=slow)
    for i in range(3):
        journal.put({"i": i}, [], 0)
    with pytest.raises(RecordingOverflowError, match="ep7"):
        while True:  # the writer may have taken one of the three already
            journal.put({"i": -1}, [], 0)
    os.write(write, b"x" * 8)
    journal.drain()
    taken = [header["i"] for header, _ in _read((tmp_path / "e.journal").read_bytes())[1:]]
    assert taken[:3] == [0, 1, 2] and journal.high_water == 3
    journal.close()
    os.close(read), os.close(write)


def test_the_ring_is_bounded_in_bytes_too(tmp_path):
    journal = JournalWriter(tmp_path / "e.journal", "e", {}, ring_bytes=1000)
    with pytest.raises(RecordingOverflowError, match="1000 bytes"):
        journal.put({}, [bytes(1001)], 1001)
    journal.close()


def test_an_error_of_the_writer_thread_surfaces_and_stops_the_journal(tmp_path):
    def broken(header, buffers):
        if header["i"] == 2:
            raise ValueError("no such codec")
        return header, buffers

    journal = JournalWriter(tmp_path / "e.journal", "ep8", {}, prepare=broken)
    for i in range(5):
        journal.put({"i": i}, [], 0)
    with pytest.raises(StoreError, match=r"ep8.*no such codec"):
        journal.drain()
    with pytest.raises(StoreError, match="no such codec"):
        journal.put({"i": 9}, [], 0)
    journal.close()
    assert [header for header, _ in _read((tmp_path / "e.journal").read_bytes())] == [{}, {"i": 0}, {"i": 1}]


DISK_FULL = """
import resource, sys
from pathlib import Path
from robot_rl.data.journal_writer import JournalWriter
from robot_rl.errors import DiskFullError
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
journal = JournalWriter(Path(sys.argv[1]), "ep9", {})
put = 0
try:
    while put < 100_000:
        journal.put({"i": put}, [bytes(100)], 100)
        put += 1
        if journal.pending > 200:
            journal.drain()
    journal.drain()
except DiskFullError as error:
    print(error)
    journal.close()
    sys.exit(0)
sys.exit(1)
"""


def test_a_full_disk_is_named_and_what_was_written_stays(tmp_path):
    path = tmp_path / "e.journal"
    done = subprocess.run([sys.executable, "-c", DISK_FULL, path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "ep9" in done.stdout and "File too large" in done.stdout
    headers = [header for header, _ in _read(path.read_bytes())]
    assert headers == [{}, *({"i": i} for i in range(len(headers) - 1))] and len(headers) > 50
    assert 10_000 - 200 < path.stat().st_size <= 10_000


NO_SPACE_AT_ALL = """
import resource, sys
from pathlib import Path
from robot_rl.data.journal_writer import JournalWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
JournalWriter(Path(sys.argv[1]), "ep9", {"kind": "begin"})
"""


def test_beginning_without_space_says_so_and_leaves_no_file(tmp_path):
    command = [sys.executable, "-c", NO_SPACE_AT_ALL, tmp_path / "e.journal"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "DiskFullError: episode ep9: cannot begin the journal e.journal" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_device_without_space_gives_a_disk_full_error():
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(OSError) as caught:
        write_all(full.fileno(), [b"x"])
    error = disk_error(caught.value, "ep3", "cannot begin")
    assert isinstance(error, DiskFullError) and isinstance(error, OSError)
    assert str(error).startswith("episode ep3: cannot begin: No space left")


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python 3.12 warns of what is tested here
def test_a_forked_child_cannot_write_and_does_not_hold_the_lock(tmp_path):
    path = tmp_path / "e.journal"
    journal = JournalWriter(path, "e", {})
    child = os.fork()
    if child == 0:
        code = 1
        try:
            journal.put({}, [], 0)
        except StoreError as error:
            code = 0 if "parent process" in str(error) else 2
        if code == 0:
            signal.pause()  # lives on while the parent lets go
        os._exit(code)
    try:
        journal.put({"i": 0}, [], 0)
        assert lock_orphan(path) is None  # the parent writes
        journal.close()
        descriptor = None
        while descriptor is None:  # the child drops its copy as soon as it runs
            assert os.waitpid(child, os.WNOHANG) == (0, 0)
            descriptor = lock_orphan(path)
        os.close(descriptor)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert [header for header, _ in _read(path.read_bytes())] == [{}, {"i": 0}]
