"""Bad rows: each is refused by name, and what was recorded before it stays."""

from dataclasses import replace

import numpy as np
import pytest

from robot_rl.data.store import EpisodeStore
from robot_rl.errors import EpisodeError, RecordingOverflowError, StoreError
from robot_rl.types import ArraySpec, CameraSpec, Decision, EpisodeEnd, Frame
from tests.data.recorded_rows import make_row, make_spec

pytestmark = pytest.mark.robot
SPEC = make_spec()
END = EpisodeEnd("time_limit", None, 0)


@pytest.fixture
def store(tmp_path):
    return EpisodeStore.create(tmp_path / "store", spec=SPEC)


def with_state(row, **state):
    merged = {**row.observation.state, **{name.replace("__", "/"): value for name, value in state.items()}}
    return replace(row, observation=replace(row.observation, state=merged))


def with_action(row, **changes):
    return replace(row, action=replace(row.action, **changes))


def with_frame(row, **changes):
    frame = replace(row.observation.frames["wrist"], **changes)
    return replace(row, observation=replace(row.observation, frames={"wrist": frame}))


def f32(*values):
    return np.array(values, np.float32)


BAD_ROWS = {
    "NaN in an action": (
        lambda row: with_action(row, commanded=f32(1, np.nan, 3)),
        r"array 'action/commanded', row 2: holds .*nan.*limit: finite",
    ),
    "infinite executed action": (lambda row: with_action(row, executed=f32(1, np.inf, 3)), "'action/executed', row 2"),
    "NaN in an observation": (
        lambda row: with_state(row, arm0__joint_position=f32(0, 0, 0, np.nan)),
        "'obs/arm0/joint_position', row 2: holds",
    ),
    "NaN reward": (lambda row: replace(row, reward=float("nan")), "'rl/reward', row 2: holds nan"),
    "action of the wrong shape": (
        lambda row: with_action(row, commanded=f32(1, 2)),
        r"'action/commanded', row 2: is float32\[2\] \(limit: float32\[3\]\)",
    ),
    "action of the wrong dtype": (
        lambda row: with_action(row, policy=np.zeros(3)),
        r"'action/policy', row 2: is float64\[3\]",
    ),
    "action that is no array": (lambda row: with_action(row, policy=[0, 0, 0]), "'action/policy', row 2: is list"),
    "observation of the wrong shape": (
        lambda row: with_state(row, arm0__joint_position=np.zeros((1, 4), np.float32)),
        r"'obs/arm0/joint_position', row 2: is float32\[1, 4\]",
    ),
    "observation missing": (
        lambda row: replace(row, observation=replace(row.observation, state={})),
        "'obs/arm0/joint_position', row 2: missing",
    ),
    "observation too many": (lambda row: with_state(row, ghost=f32(0)), "'obs/ghost', row 2: was not declared"),
    "extra not declared": (lambda row: replace(row, extras={"noise": f32(0)}), "'policy/noise', row 2: was not"),
    "stamp going backwards": (
        lambda row: replace(row, observation=replace(row.observation, stamp_ns=5)),
        r"'time/t_ns', row 2: stamp 5 does not rise \(limit: after 40000000 ns\)",
    ),
    "stamp standing still": (
        lambda row: replace(row, observation=replace(row.observation, stamp_ns=40_000_000)),
        "does not rise",
    ),
    "frame of the wrong size": (lambda row: with_frame(row, height=9), "'images/wrist', row 2: frame of"),
    "raw frame too short": (lambda row: with_frame(row, data=b"123"), "'images/wrist', row 2: raw frame of 3 bytes"),
    "mutable frame": (lambda row: with_frame(row, data=bytearray(192)), "'images/wrist', row 2: frame data is byte"),
    "foreign codec": (lambda row: with_frame(row, codec="webp"), "'images/wrist', row 2: frame codec 'webp'"),
    "older frame": (lambda row: with_frame(row, sequence=0), "'images/wrist', row 2: frame is older"),
    "unknown camera": (
        lambda row: replace(row, observation=replace(row.observation, frames={"x": row.observation.frames["wrist"]})),
        "'images/x', row 2: is no camera",
    ),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_is_refused_by_name_and_recording_goes_on(store, case):
    spoil, message = BAD_ROWS[case]
    with store.begin(SPEC) as writer:
        for t in range(2):
            writer.append(make_row(SPEC, 0, t))
        with pytest.raises(EpisodeError, match=f"episode {writer.id}.*{message}"):
            writer.append(spoil(make_row(SPEC, 0, 2)))
        for t in range(2, 4):
            writer.append(make_row(SPEC, 0, t, final=t == 3))
        episode = store.read(writer.end(END).id)
    assert episode.arrays["time/t_ns"].tolist() == [make_row(SPEC, 0, t).observation.stamp_ns for t in range(4)]
    assert [episode.cameras["wrist"].encoded(t)[0] for t in range(4)] == [0, 1, 2, 3]


def test_the_first_row_is_checked_like_any_other(store):
    with store.begin(SPEC) as writer:
        with pytest.raises(EpisodeError, match="row 0"):
            writer.append(with_action(make_row(SPEC, 0, 0), commanded=f32(1)))
        with pytest.raises(EpisodeError, match="no row"):
            writer.end(END)
        writer.append(make_row(SPEC, 0, 0, final=True))
        assert writer.end(END).length == 0


def test_a_late_command_in_the_middle_is_recorded_as_invalid(store):
    with store.begin(SPEC) as writer:
        for t in range(4):
            row = make_row(SPEC, 0, t, final=t == 3)
            writer.append(with_action(row, valid=False) if t == 1 else row)
        episode = store.read(writer.end(END).id)
    assert episode.arrays["action_valid"].tolist() == [True, False, True, False]
    assert episode.arrays["action/commanded"][1].tolist() == [10, 11, 12]
    assert not episode.metadata["cut_at_last_observation"]


def test_a_kill_after_a_late_command_leaves_a_final_observation(store):
    with store.begin(SPEC) as writer:
        writer.append(make_row(SPEC, 0, 0))
        writer.append(with_action(make_row(SPEC, 0, 1), valid=False))
    episode = EpisodeStore.open(store.root).read(writer.id)
    assert episode.arrays["action/commanded"].tolist() == [[0, 1, 2], [0, 0, 0]]
    assert episode.arrays["rl/truncated"].tolist() == [True, False]


@pytest.mark.parametrize(("terminated", "truncated"), [(True, False), (False, True), (False, False)])
def test_the_last_transition_is_always_an_end(store, terminated, truncated):
    with store.begin(SPEC) as writer:
        writer.append(replace(make_row(SPEC, 0, 0), terminated=terminated, truncated=truncated))
        writer.append(make_row(SPEC, 0, 1, final=True))
        arrays = store.read(writer.end(END).id).arrays
    assert arrays["rl/terminated"].tolist() == [terminated, False]
    assert arrays["rl/truncated"].tolist() == [not terminated, False]


def test_nothing_comes_after_the_end(store):
    with store.begin(SPEC) as writer:
        writer.append(make_row(SPEC, 0, 0))
        writer.append(make_row(SPEC, 0, 1, final=True))
        writer.end(END)
        with pytest.raises(StoreError, match="has ended"):
            writer.append(make_row(SPEC, 0, 2))
        with pytest.raises(StoreError, match="has ended"):
            writer.end(END)


def test_ending_without_a_final_observation_cuts_the_last_row_to_one(store):
    with store.begin(SPEC) as writer:
        for t in range(4):
            writer.append(replace(make_row(SPEC, 0, t), success=t == 3))
        info = writer.end(EpisodeEnd("fault: gone", None, 4))
    episode = store.read(info.id)
    assert episode.arrays["action_valid"].tolist() == [True, True, True, False]
    assert episode.arrays["rl/truncated"].tolist() == [False, False, True, False]
    assert not episode.arrays["rl/success"].any(), "that step is not in the file"
    assert episode.metadata["cut_at_last_observation"] and episode.metadata["ended"]
    assert not episode.metadata["recovered"] and info.length == 3


def test_what_the_caller_changes_later_is_not_what_was_recorded(store):
    row = make_row(SPEC, 0, 0)
    with store.begin(SPEC) as writer:
        writer.append(row)
        row.action.commanded[:] = -1
        row.observation.state["arm0/joint_position"][:] = -1
        writer.append(make_row(SPEC, 0, 1, final=True))
        arrays = store.read(writer.end(END).id).arrays
    assert arrays["action/commanded"][0].tolist() == [0, 1, 2]
    assert arrays["obs/arm0/joint_position"][0].tolist() == [0, 0, 0, 0]


def test_a_stopped_camera_is_recorded_as_such(store):
    with store.begin(SPEC) as writer:
        for t in range(10):
            row = make_row(SPEC, 0, t, final=t == 9)
            frozen = make_row(SPEC, 0, min(t, 3)).observation.frames
            writer.append(replace(row, observation=replace(row.observation, frames=frozen)))
        episode = store.read(writer.end(END).id)
    assert episode.cameras["wrist"].frame_of_step.tolist() == [0, 1, 2, 3, 3, 3, 3, 3, 3, 3]
    assert episode.metadata["dropped_frames"]["wrist"]["longest_repeat_rows"] == 6


def test_frames_the_camera_took_between_rows_are_counted(store):
    with store.begin(SPEC) as writer:
        for t, sequence in enumerate([0, 1, 5, 6]):
            writer.append(with_frame(make_row(SPEC, 0, t, final=t == 3), sequence=sequence))
        metadata = store.read(writer.end(END).id).metadata
    assert metadata["dropped_frames"]["wrist"]["skipped_frames"] == 3


def test_a_full_ring_is_an_error_and_the_rows_before_it_are_kept(store):
    taken = 0
    with store.begin(SPEC, ring_steps=4) as writer:
        with pytest.raises(RecordingOverflowError, match=f"{writer.id}.*limit: 4 records"):
            while taken < 100_000:
                writer.append(make_row(SPEC, 0, taken))
                taken += 1
        info = writer.end(END)
    assert taken >= 4 and info.rows == taken
    assert store.read(info.id).metadata["queue_high_water"] == 4


def test_an_episode_that_outgrows_the_file_limit_is_refused_and_can_be_ended(store):
    taken = 0
    with store.begin(SPEC, max_bytes=20_000) as writer:
        with pytest.raises(EpisodeError, match=r"the episode is full.*20000 bytes"):
            while taken < 1000:
                writer.append(make_row(SPEC, 0, taken))
                taken += 1
        info = writer.end(END)
    assert info.rows == taken and 10 < taken < 100


def test_decisions_count_towards_the_file_limit(store):
    planned = np.zeros((16, 3), np.float32)
    with store.begin(SPEC, max_bytes=20_000) as writer:
        writer.append(make_row(SPEC, 0, 0))
        with pytest.raises(EpisodeError, match=r"the episode is full.*20000 bytes"):
            for index in range(1000):
                writer.append_decision(Decision(index, 0, planned))


def test_a_frame_the_encoder_refuses_surfaces_and_the_rows_before_it_are_recovered(tmp_path):
    pytest.importorskip("cv2", reason="frames are encoded by the extra 'learn'")
    spec = make_spec({"wrist": CameraSpec(8, 8, 50.0, codec="jpegxl")})
    store = EpisodeStore.create(tmp_path / "jxl", spec=spec)
    rows = [make_row(spec, 0, t) for t in range(3)]
    passing = [with_frame(row, data=b"encoded", codec="jpegxl") for row in rows[:2]]
    writer = store.begin(spec)
    for row in passing:
        writer.append(row)
    writer.append(rows[2])  # raw: no encoder for it
    with pytest.raises(EpisodeError, match=f"episode {writer.id}.*cannot be encoded as 'jpegxl'"):
        writer.end(END)
    assert EpisodeStore.open(tmp_path / "jxl").read(writer.id).rows == 2


@pytest.mark.parametrize(
    ("decision", "message"),
    [
        (Decision(0, 1, np.zeros((2, 3), np.float32)), "does not rise"),
        (Decision(1, 1, np.zeros((2, 4), np.float32)), r"'decision/planned', row 1: is float32\[2, 4\].*\[2, 3\]"),
        (Decision(1, 1, np.zeros((2, 3), np.float32), {"noise": f32(0)}), "'decision/noise', row 1"),
        (Decision(1, 1, np.full((2, 3), np.nan, np.float32)), "'decision/planned', row 1: holds"),
    ],
)
def test_a_bad_decision_is_refused(store, decision, message):
    with store.begin(SPEC) as writer:
        writer.append_decision(Decision(0, 0, np.zeros((2, 3), np.float32)))
        with pytest.raises(EpisodeError, match=f"episode {writer.id}.*{message}"):
            writer.append_decision(decision)


def test_metadata_and_extras_must_be_storable(store):
    with pytest.raises(EpisodeError, match=r"metadata.*set"):
        store.begin(SPEC, {"x": {1, 2}})
    with pytest.raises(EpisodeError, match="metadata"):
        store.begin(SPEC, {"x": float("nan")})
    with pytest.raises(EpisodeError, match=r"'what'.*dtype object"):
        store.begin(SPEC, extras={"what": ArraySpec((1,), "object")})
    assert list((store.root / "journal").iterdir()) == []


def test_jpeg_bytes_that_are_none_are_refused(tmp_path):
    spec = make_spec({"wrist": CameraSpec(8, 8, 50.0)})
    store = EpisodeStore.create(tmp_path / "jpeg", spec=spec)
    with store.begin(spec) as writer, pytest.raises(EpisodeError, match="is no jpeg image"):
        row = make_row(spec, 0, 0)
        frame = Frame(b"GIF89a", 1, 0, 8, 8)
        writer.append(replace(row, observation=replace(row.observation, frames={"wrist": frame})))
