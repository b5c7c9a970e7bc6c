"""robot-rl dataset, as a user runs it: real processes, their words and exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from robot_rl.apps.main import main
from robot_rl.data.formats.transfer import import_recordings
from robot_rl.data.store import EpisodeStore
from robot_rl.transport.inbox import Inbox
from tests.data.demonstrations import arm_spec, demonstration, recordings
from tests.data.recorded_rows import make_row, make_spec

DEADLINE_S = 600.0  # at most: on a machine with nothing else to do it takes seconds


def command(root: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "robot_rl.apps.main", "dataset", *words, f"root={root}"]


def run(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(root, *words), capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def dataset(root: Path, name: str, episodes: int) -> EpisodeStore:
    store = EpisodeStore.create(root / "data" / name, spec=arm_spec(), name=name)
    made = recordings([demonstration(f"e{i}", 5, seed=i) for i in range(episodes)], arm_spec())
    import_recordings(store, made)
    return store


def long_buffer(path: Path, episodes: int) -> Path:
    """A replay buffer of many short episodes, so that there is time to interrupt its import."""
    group = zarr.open_group(path, mode="w", zarr_format=2)
    rows = episodes * 20
    group.create_array("data/action", data=np.random.default_rng(0).normal(size=(rows, 2)))
    group.create_array("data/state", data=np.random.default_rng(1).normal(size=(rows, 4)))
    group.create_array("meta/episode_ends", data=np.arange(20, rows + 1, 20))
    return path


def test_export_import_report_verify_repair(tmp_path: Path) -> None:
    dataset(tmp_path, "demos", 3)
    target = tmp_path / "out.hdf5"
    exported = run(tmp_path, "export", "name=demos", "format=robomimic", f"target={target}")
    assert exported.returncode == 0, exported.stderr
    assert f"3 episodes exported to {target}" in exported.stdout
    imported = run(tmp_path, "import", "name=back", "format=robomimic", f"source={target}")
    assert imported.returncode == 0, imported.stderr
    assert "3 episodes, 15 steps imported" in imported.stdout
    reported = run(tmp_path, "report", "name=back")
    assert reported.returncode == 0, reported.stderr
    for words in ("TQ", "SACo", "log dimensionless jerk", "action/commanded"):
        assert words in reported.stdout
    assert (tmp_path / "runs" / "report-back" / "report.png").stat().st_size > 10_000
    assert "3 episodes are as they were written" in run(tmp_path, "verify", "name=back").stdout
    assert "nothing to recover" in run(tmp_path, "repair", "name=back").stdout
    (tmp_path / "data" / "broken").mkdir()
    (tmp_path / "data" / "broken" / "dataset.json").write_text("{")
    listed = run(tmp_path, "info")
    assert "cannot be opened" in listed.stdout
    assert "back" in listed.stdout
    assert "demos" in listed.stdout


def test_repair_tells_what_it_recovered(tmp_path: Path) -> None:
    store = EpisodeStore.create(tmp_path / "data" / "killed", spec=make_spec())
    writer = store.begin(make_spec())
    for t in range(5):
        writer.append(make_row(make_spec(), 0, t))
    writer.close()  # what a kill leaves
    done = run(tmp_path, "repair", "name=killed")
    assert done.returncode == 0, done.stderr
    assert f"recovered episode {writer.id}, 4 steps" in done.stdout


def test_repair_commits_what_an_actor_left_in_a_session_once_its_learner_is_gone(tmp_path: Path) -> None:
    root = tmp_path / "runs" / "killed" / "store"
    store = EpisodeStore.create(root, spec=make_spec())
    with EpisodeStore.create(tmp_path / "actor", spec=make_spec()).begin(make_spec()) as writer:
        for t in range(5):
            writer.append(make_row(make_spec(), 0, t))
        writer.flush()
        journal = tmp_path / "actor" / "journal" / f"{writer.id}.journal"
        (root / "journal" / f"{writer.id}.remote").write_bytes(journal.read_bytes()[:-7])  # as far as it had come
    learner = Inbox(store)
    refused = run(tmp_path, "repair", "session=killed")
    assert refused.returncode == 2 and "another learner" in refused.stderr
    learner.close()
    done = run(tmp_path, "repair", "session=killed")
    assert done.returncode == 0, done.stderr
    assert f"recovered episode {writer.id} of an actor, 3 steps, cut where the actor's rows stop" in done.stdout
    assert f"1 episodes in {root}" in done.stdout
    (episode,) = EpisodeStore.open(root, recover=False).infos()
    assert (episode.id, episode.length, list((root / "journal").iterdir())) == (writer.id, 3, [])
    assert "nothing to recover" in run(tmp_path, "repair", "session=killed").stdout
    missing = run(tmp_path, "repair", "session=other")
    assert missing.returncode == 2 and "no session store" in missing.stderr


def test_a_flipped_byte_is_found_and_named(tmp_path: Path) -> None:
    store = dataset(tmp_path, "demos", 2)
    path = store.root / store.infos()[0].file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)
    done = run(tmp_path, "verify", "name=demos")
    assert done.returncode == 2
    assert path.name in done.stdout
    assert "1 findings in dataset 'demos'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_killed_import_leaves_a_valid_store_and_resumes(tmp_path: Path) -> None:
    source = long_buffer(tmp_path / "many.zarr", 120)
    words = ("import", "name=many", "format=diffusion_policy", f"source={source}")
    process = subprocess.Popen(command(tmp_path, *words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_episodes(tmp_path / "data" / "many" / "episodes", process)
    process.kill()
    process.wait()
    store = EpisodeStore.open(tmp_path / "data" / "many")
    there = len(store.ids())
    assert 0 < there < 120
    assert store.verify() == []
    done = run(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert f"{there} episodes were there already" in done.stdout
    store.refresh()
    assert len(store.ids()) == 120


def test_an_interrupted_import_says_how_to_go_on(tmp_path: Path) -> None:
    source = long_buffer(tmp_path / "many.zarr", 120)
    words = ("import", "name=many", "format=diffusion_policy", f"source={source}")
    process = subprocess.Popen(command(tmp_path, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_episodes(tmp_path / "data" / "many" / "episodes", process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert "of 120 episodes are safe in" in out
    assert "run again to continue" in out
    assert "Traceback" not in err


@pytest.mark.parametrize("form", ["robomimic", "diffusion_policy"])
def test_a_full_disk_ends_an_export_with_an_error_and_nothing_left(tmp_path: Path, form: str) -> None:
    episodes = [demonstration("long", 5000, seed=0)]
    store = EpisodeStore.create(tmp_path / "data" / "demos", spec=arm_spec())
    import_recordings(store, recordings(episodes, arm_spec()))
    target = tmp_path / "out" / "file"
    words = command(tmp_path, "export", "name=demos", f"format={form}", f"target={target}")
    limited = ["bash", "-c", 'ulimit -f 8; exec "$@"', "limited", *words]  # 8 kB a file
    done = subprocess.run(limited, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 2, done.stderr
    assert "cannot be written: File too large" in done.stderr
    assert list(target.parent.iterdir()) == []


def test_words_about_episodes_are_laid_over_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = dataset(tmp_path, "demos", 3)
    first, second, last = store.ids()
    said = ["success=false", "split=validation", "note='hit the table'"]
    assert main(["dataset", "annotate", "name=demos", f"root={tmp_path}", f"episode=[0,{last}]", *said]) == 0
    assert f"episode {last}: success=false, split=validation, note=hit the table" in capsys.readouterr().out
    assert main(["dataset", "annotate", "name=demos", f"root={tmp_path}", "episode=1", "exclude=true"]) == 0
    store.refresh()
    assert [(info.id, info.success, info.split) for info in store.infos()] == [
        (first, False, "validation"),
        (last, False, "validation"),
    ]
    assert main(["dataset", "annotate", "name=demos", f"root={tmp_path}", f"episode={second}", "exclude=false"]) == 0
    store.refresh()
    assert store.ids() == [first, second, last]


def test_deleted_episodes_stay_on_disk_until_their_removal_is_confirmed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = dataset(tmp_path, "demos", 3)
    first, second, last = store.ids()

    def tell(*words: str) -> str:
        assert main(["dataset", *words, "name=demos", f"root={tmp_path}"]) == 0
        store.refresh()
        return capsys.readouterr().out

    def files() -> list[str]:
        return sorted(path.name.partition(".")[0] for path in (store.root / "episodes").iterdir())

    assert "no episode is marked" in tell("gc", "confirm=true")
    assert "1 episodes stay" in tell("delete", "episode=[0,-1]")
    assert (store.ids(), files()) == ([second], [first, second, last])
    listed = tell("gc")
    assert f"{first}.zarr.zip: 5 steps" in listed and "nothing was removed" in listed
    assert files() == [first, second, last]
    assert "2 episodes removed" in tell("gc", "confirm=true")
    assert (store.ids(), files(), store.verify()) == ([second], [second], [])


def test_a_dataset_goes_to_the_shelf_and_comes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = EpisodeStore.create(tmp_path / "data" / "demos", spec=arm_spec(["front"]), name="demos")
    for seed in range(2):
        store.write(demonstration(f"e{seed}", 5, seed, ["front"]))

    def tell(*words: str) -> str:
        assert main(["dataset", *words, f"root={tmp_path}"]) == 0
        return capsys.readouterr().out

    shelf = tmp_path / "shelf"
    assert "2 episodes, " in tell("archive", "name=demos", f"target={shelf}")
    again = tell("archive", "name=demos", f"target={shelf}")
    assert "0 episodes, 0.0 MB" in again and "2 episodes were there already" in again
    assert f"written to {tmp_path / 'data' / 'back'}" in tell("restore", "name=back", f"source={shelf}")
    back = tmp_path / "data" / "back"
    for path in (store.root / "episodes").iterdir():
        assert (back / "episodes" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "words",
    [
        ["record", "task=reach", "teleop=scripted", "name=../out"],
        ["train", "algorithm=diffusion", "policy=diffusion_mlp", "data=../out"],
        ["replay", "data=../out"],
    ],
)
def test_no_command_leaves_the_folder_of_datasets(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    assert main([*words, f"root={tmp_path / 'root'}"]) == 2
    assert f"'../out' cannot be the name of a folder in {tmp_path / 'root' / 'data'}" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


def wait_for_episodes(folder: Path, process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while len(list(folder.glob("*.zarr.zip"))) < 5:
        assert process.poll() is None, "the import ended before it could be interrupted"
        assert time.monotonic() < deadline
        os.sched_yield()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["improt"], "no subcommand 'improt'. Did you mean 'import'?"),
        (["import", "name=x"], "dataset import needs source="),
        (["import", "name=x", "source=a.hdf5"], "dataset import needs format="),
        (["import", "source=a.hdf5", "format=robomimic"], "dataset import needs name="),
        (["import", "name=x", "source=a.hdf5", "format=robomimic"], "no HDF5 file at 'a.hdf5'"),
        (["import", "name=x", "source=a", "format=robomimc"], "no format 'robomimc'. Did you mean 'robomimic'?"),
        (["import", "name=x", "source=.", "format=diffusion_policy"], "'.' is no replay buffer"),
        (["import", "name=x", "source=text", "format=robomimic"], "'text' cannot be opened as HDF5"),
        (["import", "name=x", "source=raw.hdf5", "format=robomimic"], "format=robosuite_demos"),
        (["export", "name=empty", "format=robomimic", "target=o"], "no episodes to export"),
        (["export", "name=demos", "format=robosuite_demos", "target=o"], "robosuite_demos can only be imported"),
        (["export", "name=demos", "format=robomimic"], "dataset export needs target="),
        (["archive", "name=demos"], "dataset archive needs target="),
        (["archive", "name=demos", "target=data/demos"], "cannot be copied onto itself"),
        (["archive", "name=demos", "target=."], "is not empty"),
        (["restore", "name=x"], "dataset restore needs source="),
        (["restore", "name=x", "source=data/foreign"], "is no episode store"),
        (["info", "name=dmos"], "no dataset 'dmos'"),
        (["info", "name=dmos"], "Did you mean 'demos'?"),
        (["info", "name=empty"], "dataset 'empty' holds no episodes"),
        (["info", "name=foreign"], "is no episode store"),
        (["info", "name=untold"], "dataset 'untold' does not say what its arrays are"),
        (["export", "name=demos", "format=robomimic", "target=text"], "pass format.overwrite=true"),
        (["export", "name=demos", "format=robomimic", "target=text/o"], "'text/o' cannot be written"),
        (["report", "name=demos", "worst=many"], "worst=many"),
        (["info", "name=süß"], "cannot read 'name=süß'. Quote it twice: \"name='süß'\""),
        (["info", "name='süß'"], "no dataset 'süß'"),
        (["info", "nme=demos"], "Did you mean 'name'?"),
        (["info", "name=../../etc"], "'../../etc' cannot be the name of a folder in"),
        (["import", "name=a/b", "source=raw.hdf5", "format=robomimic"], "without '/' and without '.' in front"),
        (["export", "name=..", "format=robomimic", "target=o"], "'..' cannot be the name"),
        (["repair", "name=.hidden"], "'.hidden' cannot be the name"),
        (["annotate", "name=demos", "episode=0"], "nothing is said about the episode. Give success="),
        (["annotate", "name=demos", "episode=0", "success=maybe"], "success=maybe"),
        (["annotate", "name=demos", "note=x"], "dataset annotate needs episode="),
        (["delete", "name=demos"], "dataset delete needs episode="),
        (["delete", "name=demos", "episode=7"], "no episode '7' in"),
        (["delete", "name=demos", "episode=[0,nobody]"], "no episode 'nobody' in"),
        (["delete", "name=empty", "episode=0"], "0 episodes"),
    ],
)
def test_mistakes_end_in_one_line_and_exit_code_2(
    mistaken: Path, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(mistaken)
    assert main(["dataset", *words, f"root={mistaken}"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


@pytest.fixture(scope="module")
def mistaken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mistaken")
    dataset(root, "demos", 1)
    dataset(root, "empty", 0)
    EpisodeStore.create(root / "data" / "untold").write(demonstration("a", 3, 0))
    (root / "data" / "foreign").mkdir()
    (root / "data" / "foreign" / "notes.txt").write_text("mine")
    (root / "text").write_text("no HDF5")
    with h5py.File(root / "raw.hdf5", "w") as file:
        file["data/demo_1/actions"] = np.zeros((2, 7))
    return root
