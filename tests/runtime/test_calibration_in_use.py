"""The site's calibration of a robot: its hash in the spec, its contents in every episode, a warning when it is old."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from robot_rl.apps.environment import make_env
from robot_rl.apps.main import compose, run_command
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import CalibrationError
from robot_rl.runtime.calibration_in_use import MAX_AGE, CalibrationInUse, calibration_in_use, max_age_days

WRITTEN = "format: robot-rl calibration\nrobot: {robot}\ndate: '{date}'\ntransforms: {{}}\n"
NOW = datetime(2026, 6, 30, 12, tzinfo=UTC)
REACH = ["task=reach", "env.max_steps=2"]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site with a calibration of the simulated Panda, made on 31 May 2026."""
    folder = tmp_path / "calibration" / "sim_panda"
    folder.mkdir(parents=True)
    (folder / "wrist_hand_eye.yaml").write_text(WRITTEN.format(robot="sim_panda", date="2026-05-31T12:00:00+00:00"))
    monkeypatch.setenv("ROBOT_RL_SITE", str(tmp_path))
    monkeypatch.setenv("ROBOT_RL_ROOT", str(tmp_path / "root"))
    return tmp_path


def test_without_a_site_or_files_none_is_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROBOT_RL_SITE", raising=False)
    assert calibration_in_use("sim_panda").sha256 == ""
    monkeypatch.setenv("ROBOT_RL_SITE", str(tmp_path))
    assert calibration_in_use("sim_panda").warnings(1.0, NOW) == []


def test_the_hash_is_that_of_names_and_contents() -> None:
    one = CalibrationInUse("a", {"x": "1", "y": "2"})
    assert one.sha256 == CalibrationInUse("a", {"y": "2", "x": "1"}).sha256
    others = [{"x": "1", "z": "2"}, {"x": "1", "y": "3"}, {"x": "1"}, {"x": "12", "y": ""}]
    assert len({one.sha256, *(CalibrationInUse("a", files).sha256 for files in others)}) == 5


def test_age_is_that_of_each_file_and_the_limit_can_be_set(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_use = calibration_in_use("sim_panda")
    assert in_use.ages_days(NOW) == {"wrist_hand_eye": 30.0}
    assert in_use.warnings(30.0, NOW) == []
    assert "'wrist_hand_eye' of robot 'sim_panda' is 30 days old (limit: 29)" in in_use.warnings(29.0, NOW)[0]
    assert max_age_days() == 30.0
    monkeypatch.setenv(MAX_AGE, "7")
    assert max_age_days() == 7.0
    monkeypatch.setenv(MAX_AGE, "week")
    with pytest.raises(CalibrationError, match="week"):
        max_age_days()


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (WRITTEN.format(robot="other", date="2026-05-31"), "is of robot 'other'"),
        ("robot: sim_panda\n", "has no date"),
        ("robot: [", "is damaged"),
        ("", "is of robot 'None'"),
    ],
)
def test_a_file_that_is_not_of_this_robot_is_refused_by_cause(site: Path, text: str, cause: str) -> None:
    (site / "calibration" / "sim_panda" / "wrist_camera.yaml").write_text(text)
    with pytest.raises(CalibrationError, match=cause):
        calibration_in_use("sim_panda").warnings(30.0, NOW)


def test_an_env_names_it_and_says_that_it_is_old(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(MAX_AGE, "0.5")
    env = make_env(compose("view", REACH).env)
    assert env.spec.calibration_sha256 == calibration_in_use("sim_panda").sha256 != ""
    env.close()
    assert "warning: calibration 'wrist_hand_eye' of robot 'sim_panda' is" in capsys.readouterr().err


def test_every_recorded_episode_embeds_it(site: Path) -> None:
    run_command("record", [*REACH, "episodes=1", "keep_failures=true", "name=calibrated"])
    store = EpisodeStore.open(site / "root" / "data" / "calibrated")
    metadata = store.read(store.ids()[0]).metadata
    in_use = calibration_in_use("sim_panda")
    assert metadata["calibration_sha256"] == in_use.sha256
    assert metadata["calibration"] == {"sha256": in_use.sha256, "files": in_use.contents}
    assert metadata["calibration"]["files"]["wrist_hand_eye"]["date"] == "2026-05-31T12:00:00+00:00"
