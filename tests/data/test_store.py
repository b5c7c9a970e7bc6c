import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robot_rl.data.episode import Episode
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import CorruptEpisodeError, EpisodeError, SchemaVersionError, SpecMismatchError, StoreError
from robot_rl.types import ActionRecord, ArraySpec, CameraSpec, Decision, EpisodeEnd, Phase
from tests.data.recorded_rows import make_row, make_spec

END = EpisodeEnd("time_limit", None, 0)


@pytest.fixture
def store(tmp_path):
    return EpisodeStore.create(tmp_path / "store", name="cubes", spec=make_spec())


def record(store, ordinal=0, rows=5, end=END, **begin):
    spec = make_spec()
    with store.begin(spec, {"ordinal": ordinal}, **begin) as writer:
        for t in range(rows):
            writer.append(make_row(spec, ordinal, t, final=t == rows - 1))
        return writer.end(end)


def leave(store, ordinal=0, rows=5):
    """A journal as a killed process leaves it."""
    writer = store.begin(make_spec(), {"ordinal": ordinal})
    for t in range(rows):
        writer.append(make_row(make_spec(), ordinal, t))
    writer.close()
    return store.root / "journal" / f"{writer.id}.journal"


def test_a_recorded_episode_reads_back_row_by_row(store):
    spec = make_spec()
    info = record(store, 3, rows=12, end=EpisodeEnd("success", True, 11))
    episode = store.read(info.id)
    episode.validate()
    assert (info.length, info.rows, info.success, episode.steps) == (11, 12, True, 11)
    rows = [make_row(spec, 3, t, final=t == 11) for t in range(12)]
    arrays = episode.arrays
    assert arrays["action/commanded"].tolist() == [row.action.commanded.tolist() for row in rows]
    assert arrays["action/policy"].tolist() == [row.action.policy.tolist() for row in rows]
    assert arrays["time/t_ns"].tolist() == [row.observation.stamp_ns for row in rows]
    assert arrays["time/action_sent_ns"].tolist() == [row.action_sent_ns for row in rows]
    assert arrays["policy/version"].tolist() == [0] * 10 + [1] * 2
    assert arrays["action_valid"].tolist() == [True] * 11 + [False]
    assert "action/human" not in arrays
    assert [episode.cameras["wrist"].encoded(t) for t in range(12)] == [
        r.observation.frames["wrist"].data for r in rows
    ]


def test_metadata_tells_how_the_episode_came_about(store):
    spec = make_spec()
    writer = store.begin(spec, {"operator": "ada", "policies": [{"sha256": "ab"}], "seed": np.int64(4)})
    for t in range(3):
        writer.append(make_row(spec, 0, t, final=t == 2))
    metadata = store.read(writer.end(EpisodeEnd("success", True, 2, judged_by="rule"), {"note": "last"}).id).metadata
    expected = {
        "schema": "robot_rl/episode",
        "schema_version": "1.0",
        "part": 0,
        "length": 2,
        "rows": 3,
        "operator": "ada",
        "seed": 4,
        "note": "last",
        "policies": [{"sha256": "ab"}],
        "success": True,
        "judged_by": "rule",
        "end_reason": "success",
        "ended": True,
        "recovered": False,
        "lost_tail_bytes": 0,
        "total_reward": 1.0,
        "task": "synthetic",
        "robot": "synthetic",
    }
    assert {key: metadata[key] for key in expected} == expected
    assert metadata["spec"] == spec.to_json()
    assert 1 <= metadata["queue_high_water"] <= 3
    assert metadata["arrays"]["obs/arm0/joint_position"]["unit"] == "rad"
    assert metadata["clock"]["wall_ns"] > 0 and metadata["software"]["name"] == "robot-rl"


def test_who_acted_human_actions_extras_and_decisions_are_kept(store):
    spec = make_spec()
    writer = store.begin(spec, extras={"base_action": ArraySpec((3,))})
    sources = [Phase.POLICY, Phase.HUMAN, Phase.SCRIPTED, Phase.HOLD]
    for t in range(5):
        row = make_row(spec, 0, t, final=t == 4)
        if t < 4:
            human = np.full(3, t, np.float32) if sources[t] is Phase.HUMAN else None
            action = row.action
            given = ActionRecord(action.commanded, action.executed, action.policy, sources[t], human)
        else:
            given = row.action
        if t % 2 == 0:
            noise = np.full((2, 2), t, np.float32)
            writer.append_decision(Decision(10 + t, t, np.full((4, 3), t, np.float32), {"noise": noise}, 0.01))
        base = np.full(3, -t, np.float32)
        writer.append(
            type(row)(**{**vars(row), "action": given, "extras": {"base_action": base}, "decision": 10 + t // 2 * 2})
        )
    arrays = store.read(writer.end(END).id).arrays
    assert arrays["flags/intervention"].tolist() == [0, 1, 2, 3, 0]
    assert arrays["flags/phase"].tolist() == [0, 1, 3, 4, 0]
    assert arrays["action/human"].tolist() == [[0] * 3, [1] * 3, [0] * 3, [0] * 3, [0] * 3]
    assert arrays["policy/base_action"][:, 0].tolist() == [0, -1, -2, -3, -4]
    assert arrays["decision/step"].tolist() == [0, 2, 4]
    assert arrays["decision/planned"].shape == (3, 4, 3) and arrays["decision/noise"][:, 0, 0].tolist() == [0, 2, 4]
    assert arrays["policy/decision_of_step"].tolist() == [0, 0, 1, 1, 2]  # positions, whatever the indices were


def test_a_slow_camera_stores_each_frame_once_and_a_missing_one_is_told(store):
    spec = make_spec({"slow": CameraSpec(8, 8, 10.0, codec="raw"), "gone": CameraSpec(8, 8, 50.0, codec="raw")})
    root = store.root.with_name("two")
    store = EpisodeStore.create(root, spec=spec)
    with store.begin(spec) as writer:
        for t in range(8):
            row = make_row(spec, 0, t, final=t == 7, frame_every=3)
            frames = dict(row.observation.frames)
            if t in (0, 5):
                del frames["gone"]
            observation = type(row.observation)(**{**vars(row.observation), "frames": frames})
            writer.append(type(row)(**{**vars(row), "observation": observation}))
        episode = store.read(writer.end(END).id)
    assert episode.cameras["slow"].frame_of_step.tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    assert episode.cameras["slow"].frames == 3
    assert episode.cameras["gone"].frame_of_step.tolist() == [-1, 0, 0, 1, 1, -1, 2, 2]
    dropped = episode.metadata["dropped_frames"]
    assert dropped["slow"] == {
        "frames": 3, "missing_rows": 0, "repeated_rows": 5, "longest_repeat_rows": 2, "skipped_frames": 0
    }  # fmt: skip
    assert dropped["gone"]["missing_rows"] == 2


def test_raw_frames_are_encoded_by_the_writer_thread(tmp_path):
    cv2 = pytest.importorskip("cv2", reason="frames are encoded by the extra 'learn'")
    from robot_rl.types import Frame

    spec = make_spec({"front": CameraSpec(48, 64, 50.0), "exact": CameraSpec(8, 8, 50.0, codec="png")})
    store = EpisodeStore.create(tmp_path / "store", spec=spec)
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, :32] = (255, 0, 0)  # red on the left, in RGB
    image[:, 32:] = np.linspace(0, 255, 32, dtype=np.uint8)[None, :, None]
    small = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    with store.begin(spec) as writer:
        row = make_row(spec, 0, 0, final=True)
        frames = {
            "front": Frame(image.tobytes(), 1, 0, 48, 64, codec="raw"),
            "exact": Frame(small.tobytes(), 1, 0, 8, 8, codec="raw"),
        }
        observation = type(row.observation)(**{**vars(row.observation), "frames": frames})
        writer.append(type(row)(**{**vars(row), "observation": observation}))
        cameras = store.read(writer.end(END).id).cameras
    assert cameras["front"].codec == "jpeg" and cameras["front"].attributes["quality"] == 95
    found = cv2.imdecode(np.frombuffer(cameras["front"].encoded(0), np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    assert np.abs(found.astype(int) - image).max() <= 12
    found = cv2.imdecode(np.frombuffer(cameras["exact"].encoded(0), np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    assert np.array_equal(found, small)


@pytest.mark.parametrize("rows", [1, 2, 6])
def test_a_killed_episode_is_cut_at_its_last_observation(store, rows):
    journal = leave(store, rows=rows)
    again = EpisodeStore.open(store.root)
    episode = again.read(journal.stem)
    episode.validate()
    assert episode.rows == rows and not journal.exists()
    assert episode.arrays["action_valid"].tolist() == [True] * (rows - 1) + [False]
    assert episode.arrays["action/commanded"][-1].tolist() == [0, 0, 0]
    assert episode.arrays["rl/truncated"].tolist() == ([False] * (rows - 2) + [True] if rows > 1 else []) + [False]
    assert episode.metadata["recovered"] and not episode.metadata["ended"]
    assert episode.metadata["success"] is None and episode.metadata["end_reason"] == "killed"
    assert EpisodeStore.open(store.root).infos() == again.infos()  # idempotent


def test_a_torn_tail_is_counted_and_damage_in_the_middle_is_set_aside(store):
    torn, damaged = leave(store, 1, rows=6), leave(store, 2, rows=6)
    content = torn.read_bytes()
    torn.write_bytes(content[:-10])
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    again = EpisodeStore.open(store.root)
    assert again.read(torn.stem).rows == 5
    lost = again.read(torn.stem).metadata["lost_tail_bytes"]
    assert 0 < lost < len(content)
    assert 1 <= again.read(damaged.stem).rows < 6
    assert [path.name for path in (store.root / "journal").iterdir()] == [f"{damaged.stem}.damaged"]
    assert [finding.problem for finding in again.verify()] == [
        "a damaged journal was set aside: what could be read of it is an episode"
    ]


def test_a_journal_without_a_row_leaves_no_episode(store):
    empty, headless = leave(store, rows=0), leave(store, rows=0)
    headless.write_bytes(headless.read_bytes()[:30])
    again = EpisodeStore.open(store.root)
    assert again.ids() == [] and list((store.root / "journal").iterdir()) == []
    assert not empty.exists()


def test_the_journal_of_a_living_writer_is_left_alone(store):
    writer = store.begin(make_spec())
    writer.append(make_row(make_spec(), 0, 0, final=True))
    assert EpisodeStore.open(store.root).ids() == []
    assert EpisodeStore.open(store.root).ids() == []
    assert writer.end(END).id in EpisodeStore.open(store.root).ids()


def test_discarding_leaves_nothing_and_wants_a_reason(store):
    writer = store.begin(make_spec())
    writer.append(make_row(make_spec(), 0, 0))
    with pytest.raises(EpisodeError, match="reason"):
        writer.discard("")
    writer.discard("operator pressed backspace")
    assert EpisodeStore.open(store.root).ids() == [] and list((store.root / "journal").iterdir()) == []


def test_index_is_only_a_cache(store):
    infos = [record(store, i) for i in range(4)]
    index = store.root / "index.jsonl"
    content = index.read_bytes()
    index.unlink()
    assert EpisodeStore.open(store.root).infos() == infos
    index.write_bytes(content[:-30])  # a torn last line
    assert EpisodeStore.open(store.root).infos() == infos
    index.write_bytes(b"\xff garbage\n" + content[:200])
    assert EpisodeStore.open(store.root).infos() == infos
    assert EpisodeStore.open(store.root).repair() == []
    made_anew, same = index.read_bytes().split(b"\n", 1)
    assert b"made_anew" in made_anew and same == content
    (store.root / infos[1].file).unlink()
    assert EpisodeStore.open(store.root).ids() == [infos[i].id for i in (0, 2, 3)]


def test_annotations_lie_over_the_files(store):
    first, second = record(store, 0), record(store, 1)
    before = (store.root / first.file).read_bytes()
    store.annotate(first.id, success=True, split="train", task="push", note="good", who="ada")
    store.annotate(second.id, exclude=True)
    again = EpisodeStore.open(store.root)
    assert again.ids() == [first.id] and again.ids(excluded=True) == [first.id, second.id]
    (info,) = again.infos(lambda info: bool(info.success))
    assert (info.split, info.task, info.note) == ("train", "push", "good")
    assert again.read(first.id).metadata["success"] is True
    assert (store.root / first.file).read_bytes() == before
    store.annotate(second.id, exclude=False)
    again.refresh()
    assert again.ids() == [first.id, second.id]
    lines = [json.loads(line) for line in (store.root / "annotations.jsonl").read_text().splitlines()]
    assert lines[0]["who"] == "ada" and lines[0]["when"].startswith("20")
    with pytest.raises(StoreError, match="no episode 'x'"):
        store.annotate("x", note="?")


def test_a_success_at_a_step_holds_until_the_next_word_on_success(store):
    info = record(store, 0)
    store.annotate(info.id, success=True, success_step=info.length - 1)
    store.annotate(info.id, note="looked at")  # says nothing about success
    (found,) = EpisodeStore.open(store.root).infos()
    assert (found.success, found.success_step) == (True, info.length - 1)
    store.annotate(info.id, success=True)
    assert store.infos()[0].success_step is None
    for said in ({"success": True, "success_step": info.length}, {"success": False, "success_step": 0}):
        with pytest.raises(EpisodeError, match="a success, in steps 0 to"):
            store.annotate(info.id, **said)


def test_deleting_hides_and_gc_removes(store):
    first, second = record(store, 0), record(store, 1)
    store.delete(first.id)
    assert store.ids() == [second.id] and (store.root / first.file).exists()
    with pytest.raises(StoreError, match="no episode"):
        store.read(first.id)
    assert store.gc() == [first.id] and not (store.root / first.file).exists()
    again = EpisodeStore.open(store.root)
    assert again.ids() == [second.id]
    with pytest.raises(EpisodeError, match="was deleted"):
        again.write(Episode(first.id, dict(again.read(second.id).arrays), {}, {}))


def test_a_copy_that_lost_its_empty_folders_opens(store):
    (store.root / "journal").rmdir()
    assert record(EpisodeStore.open(store.root)).length == 4


def test_an_import_is_validated_and_written_whole(store, tmp_path):
    source = store.read(record(store, 5).id)
    other = EpisodeStore.create(tmp_path / "other", spec=make_spec())
    info = other.write(Episode("human-01", dict(source.arrays), {"source": "imported"}, source.cameras))
    episode = other.read(info.id)
    assert info.id == "human-01" and episode.metadata["source"] == "imported" and episode.metadata["length"] == 4
    assert all(np.array_equal(episode.arrays[name], source.arrays[name]) for name in source.arrays)
    with pytest.raises(EpisodeError, match=r"human-01.*already"):
        other.write(episode)
    with pytest.raises(EpisodeError, match="cannot name"):
        other.write(Episode("../x", dict(source.arrays), {}, {}))
    wrong = {**source.arrays, "obs/arm0/joint_position": np.zeros((5, 9), np.float32)}
    with pytest.raises(EpisodeError, match=r"'obs/arm0/joint_position'.*\[5, 9\].*\[N, 4\]"):
        other.write(Episode("e2", wrong, {}, {}))
    bad = {**source.arrays, "rl/reward": np.array([0, np.nan, 0, 0, 0], np.float32)}
    with pytest.raises(EpisodeError, match="episode e3, array 'rl/reward', row 1: holds nan"):
        other.write(Episode("e3", bad, {}, {}))
    assert other.ids() == ["human-01"] and sorted(p.name for p in (tmp_path / "other/episodes").iterdir()) == [
        "human-01.zarr.zip"
    ]


def test_the_first_episode_gives_the_spec_and_later_ones_must_agree(tmp_path):
    store = EpisodeStore.create(tmp_path / "store")
    record(store)
    again = EpisodeStore.open_or_create(tmp_path / "store", spec=make_spec())
    assert again.spec == make_spec()
    with pytest.raises(SpecMismatchError, match="joint_position"):
        again.begin(make_spec(proprio=5))
    with pytest.raises(SpecMismatchError, match="action"):
        EpisodeStore.open_or_create(tmp_path / "store", spec=make_spec(action=2))


RECORDER = """
import sys
from pathlib import Path
from robot_rl.data.store import EpisodeStore
from tests.data.test_store import record
store = EpisodeStore.open(sys.argv[1])
for i in range(8):
    record(store, ordinal=int(sys.argv[2]) + i)
"""


def test_two_processes_record_into_one_store(store):
    command = [sys.executable, "-c", RECORDER, str(store.root)]
    writers = [subprocess.Popen([*command, base], cwd=Path(__file__).parents[2]) for base in ("0", "100")]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    store.refresh()
    assert sorted(info.metadata["ordinal"] for info in store.infos()) == [*range(8), *range(100, 108)]
    assert EpisodeStore.open(store.root).verify() == []


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python 3.12 warns of what is tested here
def test_a_store_in_use_survives_a_fork(store):
    info = record(store, 1)
    wanted = store.read(info.id).arrays["action/commanded"].tolist()
    open_writer = store.begin(make_spec(), {"ordinal": 50})
    open_writer.append(make_row(make_spec(), 50, 0, final=True))
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        results = pool.starmap(_read_and_record, [(store, info.id, 10), (store, info.id, 11)])
    assert results == [wanted, wanted]
    assert open_writer.end(END).length == 0
    store.refresh()
    assert sorted(i.metadata["ordinal"] for i in store.infos()) == [1, 10, 11, 50]


def _read_and_record(store, id, ordinal):
    record(store, ordinal)
    return store.read(id).arrays["action/commanded"].tolist()


def test_recording_and_reading_need_base_dependencies_only(store):
    script = (
        "import sys; from robot_rl.data.store import EpisodeStore; from tests.data.test_store import record\n"
        "store = EpisodeStore.open(sys.argv[1]); store.read(record(store).id).validate()\n"
        "heavy = {'torch', 'zarr', 'cv2', 'scipy', 'gymnasium', 'mujoco', 'hydra'} & set(sys.modules)\n"
        "sys.exit(' '.join(heavy) or 0)"
    )
    subprocess.run([sys.executable, "-c", script, str(store.root)], cwd=Path(__file__).parents[2], check=True)


def test_making_a_dataset_that_was_interrupted_can_be_repeated(tmp_path):
    (tmp_path / "store" / "episodes").mkdir(parents=True)
    (tmp_path / "store" / ".dataset.json.ab12.tmp").write_bytes(b"{")
    EpisodeStore.create(tmp_path / "store")
    EpisodeStore.open(tmp_path / "store")
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["dataset.json", "episodes", "journal"]


# --- damage and foreign data --------------------------------------------------------------------------------------


def test_a_flipped_byte_is_found_and_other_episodes_stay_readable(store):
    good, bad = record(store, 0), record(store, 1)
    path = store.root / bad.file
    content = bytearray(path.read_bytes())
    where = bytes(content).index(store.read(bad.id).arrays["action/commanded"].tobytes())
    content[where] ^= 1
    path.write_bytes(content)
    again = EpisodeStore.open(store.root)
    with pytest.raises(CorruptEpisodeError, match=f"episode {bad.id}, array 'action/commanded'"):
        again.read(bad.id)
    assert again.read(good.id).rows == 5
    assert [(f.id, "CRC32" in f.problem) for f in again.verify()] == [(bad.id, True)]


def test_a_truncated_or_missing_file_is_corrupt(store):
    info, gone = record(store, 0), record(store, 1)
    path = store.root / info.file
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CorruptEpisodeError, match=f"{info.id}.*truncated"):
        EpisodeStore.open(store.root).read(info.id)
    reader = EpisodeStore.open(store.root)
    (store.root / gone.file).unlink()
    with pytest.raises(CorruptEpisodeError, match=f"{gone.id}.*No such file"):
        reader.read(gone.id)


def test_a_file_is_checked_again_when_it_was_replaced(store):
    first, second = record(store, 0), record(store, 1)
    store.read(first.id)
    (store.root / first.file).write_bytes((store.root / second.file).read_bytes())
    with pytest.raises(CorruptEpisodeError, match="not the file that was indexed"):
        store.read(first.id)


def test_a_file_changed_in_place_is_checked_again_though_its_time_was_set_back(store):
    info = record(store)
    path = store.root / info.file
    store.read(info.id)
    before, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    with pytest.raises(CorruptEpisodeError):
        EpisodeStore.open(store.root).read(info.id)


def test_a_committed_file_is_not_checked_once_more(store):
    """It was read back when it was written."""
    info = record(store)
    store._files._compare = lambda file, info: pytest.fail("compared again")
    assert store.read(info.id).rows == info.rows


def test_a_file_that_cannot_be_read_is_left_out_and_reported(store, caplog):
    good, bad = record(store, 0), record(store, 1)
    (store.root / bad.file).write_bytes((store.root / bad.file).read_bytes()[:-1])
    (store.root / "index.jsonl").unlink()
    again = EpisodeStore.open(store.root)
    assert again.ids() == [good.id] and bad.id in caplog.text
    (finding,) = again.verify([])
    assert finding.id == bad.id and "not in the index: restore or remove the file" in finding.problem


def test_a_dataset_of_a_newer_software_is_refused(store):
    described = json.loads((store.root / "dataset.json").read_text())
    (store.root / "dataset.json").write_text(json.dumps({**described, "schema_version": "2.0"}))
    with pytest.raises(SchemaVersionError, match=r"2\.0.*newer"):
        EpisodeStore.open(store.root)


def test_an_empty_dataset_opens_and_an_empty_folder_does_not(store, tmp_path):
    again = EpisodeStore.open(store.root)
    assert again.ids() == [] and again.verify() == [] and again.repair() == []
    with pytest.raises(StoreError, match="no such folder"):
        EpisodeStore.open(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="folder is empty"):
        EpisodeStore.open(tmp_path / "empty")
    with pytest.raises(StoreError, match="not empty"):
        EpisodeStore.create(store.root)


def test_foreign_data_is_named_with_the_way_to_import_it(tmp_path):
    import zarr

    zarr.create_group(tmp_path / "pusht", zarr_format=2).create_group("data")
    zarr.create_group(tmp_path / "v3", zarr_format=3)
    (tmp_path / "demo.hdf5").write_bytes(b"\x89HDF")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"")
    with pytest.raises(StoreError, match=r"Zarr format 2.*dataset import.*format=diffusion_policy"):
        EpisodeStore.open(tmp_path / "pusht")
    with pytest.raises(StoreError, match="Zarr format 3 group"):
        EpisodeStore.open(tmp_path / "v3")
    with pytest.raises(StoreError, match=r"HDF5.*format=robomimic"):
        EpisodeStore.open(tmp_path / "demo.hdf5")
    with pytest.raises(StoreError, match=r"a\.jpg"):
        EpisodeStore.open(tmp_path / "photos")


DISK_FULL = """
import resource, sys
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import DiskFullError
from tests.data.test_store import END, make_row, make_spec, record
store = EpisodeStore.open(sys.argv[1])
record(store, 0)
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
writer, spec, t = store.begin(make_spec(), {"ordinal": 1}), make_spec(), 0
try:
    while t < 100_000:
        writer.append(make_row(spec, 1, t))
        t += 1
        if t % 20 == 0:
            while writer.pending: pass
except DiskFullError as error:
    print("append:", error)
try:
    writer.end(END)
except DiskFullError as error:
    print("end:", error)
print(writer.id)
"""


def test_a_full_disk_is_told_at_append_and_end_and_nothing_written_is_lost(store):
    command = [sys.executable, "-c", DISK_FULL, str(store.root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    append, end, id = done.stdout.splitlines()
    assert append.startswith(f"append: episode {id}: ") and "File too large" in append
    assert end.startswith(f"end: episode {id}: ")
    again = EpisodeStore.open(store.root)
    assert sorted(info.metadata["ordinal"] for info in again.infos()) == [0, 1]
    recovered = again.read(id)
    assert recovered.rows > 50 and recovered.metadata["recovered"] and again.verify() == []
    wanted = [make_row(make_spec(), 1, t).action.commanded.tolist() for t in range(recovered.rows - 1)]
    assert recovered.arrays["action/commanded"][:-1].tolist() == wanted
