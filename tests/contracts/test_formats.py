"""Every option of config group format/ keeps the promises of the protocol."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hydra.utils import instantiate

from robot_rl.data.formats.interchange import Format, RecordingSet
from robot_rl.errors import RobotRlError, StoreError
from tests.data.demonstrations import arm_spec, demonstration, recordings

OPTIONS = sorted((Path(__file__).parents[2] / "robot_rl" / "conf" / "format").glob("*.yaml"))


@pytest.fixture(params=OPTIONS, ids=lambda path: path.stem)
def form(request: pytest.FixtureRequest) -> Format:
    return instantiate(yaml.safe_load(request.param.read_text()), _convert_="all")


def writes(form: Format) -> bool:
    return type(form).__name__ not in ("RobosuiteDemosFormat", "McapFormat")


def test_absent_empty_and_foreign_sources_are_store_errors_that_name_them(form: Format, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("something else")
    (tmp_path / "nothing").write_bytes(b"")
    for name in ("absent", "folder", "text", "nothing"):
        with pytest.raises(StoreError, match=name):
            form.read(tmp_path / name)


def test_an_empty_set_is_refused_and_nothing_is_left(form: Format, tmp_path: Path) -> None:
    with pytest.raises(RobotRlError):
        form.write(RecordingSet(arm_spec(), []), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_midway_leaves_nothing_and_spares_what_was_there(form: Format, tmp_path: Path) -> None:
    whole = recordings([demonstration("a", 4, 0), demonstration("b", 4, 1)], arm_spec())

    def fail() -> None:
        raise StoreError("the disk is gone")

    broken = RecordingSet(whole.spec, [whole.recordings[0], replace(whole.recordings[1], load=fail)])
    with pytest.raises(StoreError):
        form.write(broken, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    if writes(form):
        form.write(whole, tmp_path / "out")
        with pytest.raises(StoreError):
            form.write(whole, tmp_path / "out")
        assert form.read(tmp_path / "out").steps == 8
        (tmp_path / "file").touch()
        with pytest.raises(StoreError, match="cannot be written"):
            form.write(whole, tmp_path / "file" / "out")


def test_what_is_written_reads_back_in_order_with_the_same_spec(form: Format, tmp_path: Path) -> None:
    made = recordings([demonstration("a", 4, 0), demonstration("b", 6, 1)], arm_spec())
    if not writes(form):
        with pytest.raises(StoreError, match=r"can only be imported.*format="):
            form.write(made, tmp_path / "out")
        return
    form.write(made, tmp_path / "out")
    back = form.read(tmp_path / "out")
    assert back.spec == made.spec
    assert [recording.steps for recording in back.recordings] == [4, 6]
    assert len({recording.source_id for recording in back.recordings}) == 2
    for recording in back.recordings:
        recording.load().validate()
