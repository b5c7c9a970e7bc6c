"""robot-rl calibrate on the simulated arm: it drives itself around a rendered board, and finds what is known."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibration.boards import CharucoBoard
from calibration.camera_model import Intrinsics
from calibration.closed_form import differences
from calibration.quick_view import QuickView
from calibration.storage import Calibration, FrameTransform, load_calibration, save_calibration
from robot_rl.apps import calibrate
from robot_rl.apps.environment import make_env
from robot_rl.apps.main import INTERRUPTED, compose, instantiate, main, run_command
from robot_rl.errors import CalibrationError, ConfigError, DeviceError
from robot_rl.robots.fake import FakeRobot
from robot_rl.runtime.calibration_in_use import MAX_AGE
from robot_rl.teleop.keyboard import Keyboard
from robot_rl.teleop.spacemouse import MODELS, OLD_VENDOR
from robot_rl.types import ResetRequest
from tests.teleop.pseudo_terminal import pseudo_terminal
from tests.teleop.test_spacemouse import Cable

DELAY_S = 0.043
LENS = "robot.cell.cameras.wrist.lens"
SMALL = [
    "~robot.cell.cameras.front", "~robot.cell.boards.hand_board", f"{LENS}.width=320", f"{LENS}.height=240",
    f"{LENS}.focal_px=[302.0,301.0]", f"{LENS}.centre_px=[160.5,121.0]", f"{LENS}.blur_px=0.4",
    f"robot.delay_s={DELAY_S}",
]  # fmt: skip


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROBOT_RL_SITE", str(tmp_path / "site"))
    monkeypatch.setenv("ROBOT_RL_ROOT", str(tmp_path))
    (tmp_path / "site").mkdir()
    return tmp_path


def test_hand_eye_then_time_then_a_look_at_the_board(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    robot = instantiate(compose("calibrate", SMALL).robot)
    spec = robot.connect()
    camera, board = robot.cell.cameras["wrist"], robot.cell.boards["table_board"]
    stored = site / "site" / "calibration" / "sim_calibration"
    lens = Intrinsics(camera.lens.matrix, np.array(camera.lens.distortion), (320, 240))
    save_calibration(stored / "wrist_camera.yaml", Calibration(spec.robot, {}, {"wrist": lens}))

    run_command("calibrate", ["hand_eye", "procedure.views=8", "name=eye", *SMALL])
    found = load_calibration(stored / "wrist_hand_eye.yaml")
    for name, true in (("T_tcp_wrist", camera), ("T_base_wrist_board", board)):
        apart_m, apart_rad = differences(true.transform, found.transforms[name].matrix)
        assert apart_m < 0.001, name
        assert np.degrees(apart_rad) < 0.1, name
    said = capsys.readouterr().out
    assert "Stored:" in said
    report = (site / "runs" / "eye" / "report.html").read_text()
    assert "held-out error" in report
    assert "daniilidis" in report
    assert "Corners seen in each part of the image" in report
    assert report.count("data:image/png;base64,") == 3
    assert 'class="verdict' in report
    assert f"robot-rl calibrate hand_eye samples={site / 'runs' / 'eye' / 'samples'}" in report

    samples = f"samples={site / 'runs' / 'eye' / 'samples'}"
    run_command("calibrate", ["hand_eye", samples, "name=again"])
    again = load_calibration(stored / "wrist_hand_eye.yaml")
    assert again.samples_sha256 == found.samples_sha256
    assert again.transforms["T_tcp_wrist"].matrix == pytest.approx(found.transforms["T_tcp_wrist"].matrix, abs=1e-12)

    run_command("calibrate", ["time", "procedure.duration_s=4", "procedure.chirp_s=4", "name=time", *SMALL])
    timed = load_calibration(stored / "wrist_time.yaml")
    assert timed.values["time_offset_s"]["wrist"] == pytest.approx(DELAY_S, abs=0.005)
    # the simulated servo feeds the speed of its set points forward
    assert timed.values["action_latency_s"]["arm0/tcp"] == pytest.approx(0.0, abs=0.02)

    robot.reset(ResetRequest())
    look = QuickView(CharucoBoard(square_m=0.02, marker_m=0.015), max_apart_mm=3.0)
    assert look(robot, spec) == []
    item = found.transforms["T_tcp_wrist"]
    moved = item.matrix @ np.block([[np.eye(3), np.array([[0.01], [0.0], [0.0]])], [np.zeros(3), 1.0]])
    found.transforms["T_tcp_wrist"] = FrameTransform(item.parent, item.child, moved)  # type: ignore[index]
    save_calibration(stored / "wrist_hand_eye.yaml", found)
    warning = look(robot, spec)[0]
    robot.close()
    assert "camera 'wrist' sees the board 10 mm" in warning
    assert "robot-rl calibrate hand_eye" in warning


def test_without_a_board_in_view_it_says_why_and_nothing_is_stored(site: Path) -> None:
    with pytest.raises(CalibrationError, match="does not see the board at the start: no marker of DICT_4X4_50"):
        run_command("calibrate", ["camera", "board.dictionary=DICT_4X4_50", "name=none", *SMALL])
    assert not list(site.rglob("*.yaml"))


def test_mistakes_are_one_clear_line(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate"]) == 2
    assert "robot-rl calibrate camera|hand_eye|time|joints|tool" in capsys.readouterr().err
    assert main(["calibrate", "hand_ey"]) == 2
    assert "no procedure 'hand_ey'. Did you mean 'hand_eye'?" in capsys.readouterr().err
    assert main(["calibrate", "camera", f"samples={site}"]) == 2
    assert "holds no samples" in capsys.readouterr().err
    assert main(["calibrate", "camera", "procedure.camera=rist", *SMALL]) == 2
    assert "has no camera 'rist'. Did you mean 'wrist'?" in capsys.readouterr().err
    assert main(["calibrate", "time", *SMALL]) == 2
    assert "First: robot-rl calibrate camera procedure.camera=wrist" in capsys.readouterr().err


def test_a_camera_is_calibrated_by_an_arm_that_drives_itself(site: Path) -> None:
    run_command("calibrate", ["camera", "procedure.views=12", "name=lens", *SMALL])
    found = load_calibration(site / "site" / "calibration" / "sim_calibration" / "wrist_camera.yaml").cameras["wrist"]
    assert np.abs(np.diag(found.matrix)[:2] / [302.0, 301.0] - 1.0).max() < 0.01
    assert "image covered" in (site / "runs" / "lens" / "report.html").read_text()
    assert (site / "runs" / "lens" / "wrist.camera_info.yaml").is_file()


def test_without_a_person_an_arm_that_waits_for_one_does_not_move(site: Path, tmp_path: Path) -> None:
    absent = ["teleop=keyboard", f"teleop.device.terminal={tmp_path / 'tty'}"]
    with pytest.raises(DeviceError, match="no terminal at"):
        run_command("calibrate", ["camera", *absent, *SMALL])
    with pytest.raises(ConfigError, match="no device in a person"):
        run_command("calibrate", ["camera", "confirm=true", "teleop=random", *SMALL])


def test_a_real_arm_waits_for_a_person_unless_that_is_waived(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = FakeRobot().connect()
    real = replace(simulated, simulated=False)
    with pseudo_terminal() as terminal:
        monkeypatch.setattr(calibrate, "Keyboard", lambda: Keyboard(terminal=terminal.path))
        by_device = ["teleop=keyboard", f"teleop.device.terminal={terminal.path}"]
        for words, spec, waits in (
            ([], real, True), ([], simulated, False), (["confirm=true"], simulated, True),
            (["confirm=false"], real, False), (by_device, simulated, True),
            ([*by_device, "confirm=false"], real, False),
        ):  # fmt: skip
            person = calibrate._operator(compose("calibrate", words), spec)
            assert (person is not None) is waits, words
            if person is not None:
                person.close()


def test_a_device_by_which_nobody_could_start_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = replace(FakeRobot().connect(), simulated=False)
    for product, starts in ((0xC626, False), (0xC62B, True)):
        cable, model = Cable(), MODELS[OLD_VENDOR, product]
        monkeypatch.setattr("robot_rl.teleop.spacemouse.find_spacemouse", lambda opened=(cable, model): opened)
        config = compose("calibrate", ["teleop=spacemouse"])
        if starts:
            assert calibrate._operator(config, real) is not None, model.name
        else:
            with pytest.raises(ConfigError, match=r"neither a dead-man nor a start key.*teleop=gamepad\|keyboard"):
                calibrate._operator(config, real)
        assert cable.closed is not starts


def test_a_person_at_a_keyboard_starts_and_ends_it(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pseudo_terminal() as terminal:
        before = terminal.modes()

        def person() -> None:
            assert "The arm will drive itself" in terminal.until("Start (Enter)")
            terminal.type(b"\r")
            terminal.until("it moves")
            terminal.type(b" ")

        typing = threading.Thread(target=person)
        typing.start()
        words = ["camera", "teleop=keyboard", f"teleop.device.terminal={terminal.path}", *SMALL]
        assert main(["calibrate", *words]) == INTERRUPTED
        typing.join(20.0)
        assert not typing.is_alive()
        assert terminal.modes() == before
    assert "interrupted" in capsys.readouterr().err
    assert not list(site.rglob("*.yaml"))


def test_a_session_warns_of_a_calibration_that_is_old_and_that_the_board_contradicts(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    robot = instantiate(compose("calibrate", SMALL).robot)
    camera, board = robot.cell.cameras["wrist"], robot.cell.boards["table_board"]
    robot.close()
    beside = camera.transform.copy()
    beside[0, 3] += 0.02
    found = {
        "T_tcp_wrist": FrameTransform("tcp", "wrist_optical", beside),
        "T_base_wrist_board": FrameTransform("base", "wrist_board", board.transform),
    }
    lens = Intrinsics(camera.lens.matrix, np.array(camera.lens.distortion), (320, 240))
    stored = site / "site" / "calibration" / "sim_calibration" / "wrist_hand_eye.yaml"
    save_calibration(stored, Calibration("sim_calibration", found, {"wrist": lens}, date="2026-01-01T00:00:00+00:00"))
    monkeypatch.setenv(MAX_AGE, "7")
    for command in ("session", "deploy"):
        words = ["task=reach", "robot=sim_calibration", "board_check=quick_view", *SMALL]
        env = make_env(compose(command, words).env)
        assert env.spec.calibration_sha256
        env.close()
        said = capsys.readouterr().err
        assert "warning: calibration 'wrist_hand_eye' of robot 'sim_calibration' is" in said
        assert "warning: camera 'wrist' sees the board 20 mm" in said


def test_every_procedure_has_the_board_of_the_configuration() -> None:
    for procedure in ("camera", "hand_eye", "time", "joints"):
        config = compose("calibrate", [f"procedure={procedure}", "board.columns=10"])
        assert instantiate(config.procedure).board.columns == 10
