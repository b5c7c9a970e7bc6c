import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robot_rl.data.index import EpisodeIndex, EpisodeInfo
from robot_rl.data.line_log import append_lines, decode_lines, encode_line, read_lines, rewrite_lines

pytestmark = pytest.mark.robot

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
RECORDS = st.lists(st.dictionaries(st.text(max_size=4), JSON, min_size=1, max_size=4), max_size=6)
REUSES_FOLDER = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _info(id, **more):
    return EpisodeInfo(id, f"episodes/{id}.zarr.zip", 10, 0xAB, 3, 4, True, {"task": "lift", **more})


def test_a_line_is_plain_json_with_its_checksum():
    line = encode_line({"id": "a", "n": 1})
    assert line.endswith(b"\n") and json.loads(line)["id"] == "a"
    assert decode_lines([line[:-1]]) == [{"id": "a", "n": 1}]


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=4), JSON, min_size=1), st.data())
def test_a_damaged_line_is_never_read(record, data):
    line = encode_line(record)[:-1]
    bit = data.draw(st.integers(0, 8 * len(line) - 1))
    damaged = bytearray(line)
    damaged[bit // 8] ^= 1 << bit % 8
    assert decode_lines([bytes(damaged)]) == []
    assert decode_lines([line[: data.draw(st.integers(0, len(line) - 1))]]) == []


@REUSES_FOLDER
@given(records=RECORDS, more=RECORDS, data=st.data())
def test_a_torn_tail_costs_one_line_and_the_next_append_mends_it(tmp_path, records, more, data):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"")
    append_lines(path, records)
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    kept = whole[:cut].count(b"\n")
    # A line that lacks nothing but its newline is whole once the next append has closed it.
    closed = kept + (cut < len(whole) and whole[cut : cut + 1] == b"\n")
    assert read_lines(path)[0] == records[:kept]
    append_lines(path, more)
    assert read_lines(path)[0] == records[: closed if more else kept] + more


def test_rewriting_while_another_appends_loses_neither(tmp_path):
    path = tmp_path / "log.jsonl"
    append_lines(path, [{"n": 1}, {"n": 2}])
    rewrite_lines(path, lambda: [r for r in read_lines(path)[0] if r["n"] > 1])
    append_lines(path, [{"n": 3}])
    assert read_lines(path)[0] == [{"n": 2}, {"n": 3}]


def test_index_is_read_incrementally_and_the_last_line_counts(tmp_path):
    writer, reader = EpisodeIndex(tmp_path / "index.jsonl"), EpisodeIndex(tmp_path / "index.jsonl")
    reader.refresh()
    assert dict(reader.infos) == {}
    writer.append([_info("a"), _info("b")])
    reader.refresh()
    writer.append([_info("a", operator="x")])
    reader.refresh()
    assert reader.infos == {"a": _info("a", operator="x"), "b": _info("b")}
    writer.rewrite(lambda: [_info("c")])
    reader.refresh()
    assert reader.infos == {"c": _info("c")}


def test_an_index_replaced_twice_is_read_anew_though_its_file_number_came_back(tmp_path):
    path = tmp_path / "index.jsonl"
    writer, reader = EpisodeIndex(path), EpisodeIndex(path)
    writer.append([_info("a"), _info("b")])
    reader.refresh()
    number = path.stat().st_ino
    os.link(path, tmp_path / "kept")  # so that this test does not depend on what the file system gives again
    writer.rewrite(lambda: [_info("b")])
    writer.append([_info("c")])
    content = path.read_bytes()
    path.unlink()
    (tmp_path / "kept").rename(path)
    path.write_bytes(content)
    assert path.stat().st_ino == number
    reader.refresh()
    assert list(reader.infos) == ["b", "c"]


def test_lines_of_an_unknown_kind_are_left_out(tmp_path):
    index = EpisodeIndex(tmp_path / "index.jsonl")
    append_lines(tmp_path / "index.jsonl", [{"id": "z", "kind": "from the future"}])
    index.append([_info("a")])
    assert list(index.infos) == ["a"]


@REUSES_FOLDER
@given(order=st.lists(st.sampled_from("abcdef"), max_size=12))
def test_incremental_reading_equals_reading_anew(tmp_path, order):
    path = tmp_path / "index.jsonl"
    path.unlink(missing_ok=True)
    incremental = EpisodeIndex(path)
    for number, id in enumerate(order):
        incremental.append([_info(id, number=number)])
    anew = EpisodeIndex(path)
    anew.refresh()
    assert anew.infos == incremental.infos
    assert {id: info.metadata["number"] for id, info in anew.infos.items()} == {
        id: max(i for i, other in enumerate(order) if other == id) for id in set(order)
    }
