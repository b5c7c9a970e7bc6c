"""Recordings that rerun itself reads back: entities, timelines, poses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rerun.chunk import RrdReader

from robot_rl.runtime.random_policy import RandomPolicy
from robot_rl.runtime.rerun_log import RerunLog
from robot_rl.runtime.rollout import run_episode
from robot_rl.runtime.viewer import physics_of
from sim.pusht_env import pusht_env
from tests.runtime.counting import CountingPolicy, counting_env
from tests.sim.lift_env import configured


def rows(path: Path) -> dict[str, int]:
    """Rows per entity that is not static."""
    found: dict[str, int] = {}
    for chunk in RrdReader(str(path)).stream():
        if not chunk.is_static:
            assert set(chunk.timeline_names) == {"time", "step"}
            found[chunk.entity_path] = found.get(chunk.entity_path, 0) + chunk.num_rows
    return found


def static_entities(path: Path) -> set[str]:
    return {chunk.entity_path for chunk in RrdReader(str(path)).stream() if chunk.is_static}


def column(path: Path, entity: str, name: str) -> dict[int, Any]:
    """{step: value} of one component."""
    values = {}
    for chunk in RrdReader(str(path)).stream():
        if chunk.entity_path == entity and not chunk.is_static:
            batch = chunk.to_record_batch()
            (title,) = [field for field in batch.schema.names if field.endswith(name)]
            pairs = zip(batch.column("step").to_pylist(), batch.column(title).to_pylist(), strict=True)
            values |= {step: value for step, value in pairs if value is not None}
    return values


def test_an_arm_is_recorded_with_its_scene_cameras_and_path(tmp_path: Path) -> None:
    env, expert = configured("lift", "camera=front_wrist_depth", "env.max_steps=5")
    log = RerunLog(tmp_path / "{seed}.rrd", physics_of(env))
    try:
        run_episode(env, expert, [log], seed=3)
        last = env.robot.physics.data.body("cube").xpos.copy()
        path = env.robot.read().state["arm0/tcp_pose"][:3]
    finally:
        env.close()
    assert log.written == [tmp_path / "3.rrd"]
    found = rows(log.written[0])
    for camera in ("front", "front_depth", "wrist", "wrist_depth"):
        assert found[f"/cameras/{camera}"] == 6
    assert found["/reward"] == found["/action/arm0/gripper"] == 5
    assert found["/state/arm0/joint_position"] == 6
    assert found["/world/cube"] == found["/world/link7"] == 6
    assert {"/world/cube/cube", "/world/link7/link7_collision", "/world/world/table"} <= static_entities(log.written[0])
    cube = column(log.written[0], "/world/cube", "Transform3D:translation")
    assert sorted(cube) == [0, 1, 2, 3, 4, 5]
    np.testing.assert_allclose(cube[5][0], last, atol=1e-6)
    way = column(log.written[0], "/world/arm0/tcp_pose/path", "LineStrips3D:strips")
    assert [len(way[step][0]) for step in range(6)] == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(way[5][0][-1], path, atol=1e-6)


def test_an_env_of_another_kind_shows_its_own_picture(tmp_path: Path) -> None:
    env = pusht_env(max_steps=4)
    log = RerunLog(tmp_path / "{seed}.rrd", render=env.render)
    for seed in (1, 2):
        run_episode(env, RandomPolicy(env.spec), [log], seed=seed)
    for path in log.written:
        found = rows(path)
        assert found["/cameras/picture"] == 5
        assert found["/reward"] == 4


def test_an_episode_that_breaks_off_can_be_read(tmp_path: Path) -> None:
    env = counting_env(6)

    class Breaking:
        def on_reset(self, observation, spec, seed): ...
        def on_decision(self, decision): ...
        def on_step(self, row):
            if row.observation.step == 2:
                raise KeyboardInterrupt

        def on_end(self, final, end): ...

    log = RerunLog(tmp_path / "broken.rrd")
    with pytest.raises(KeyboardInterrupt):
        run_episode(env, CountingPolicy(env.spec, 4, 4), [log, Breaking()], seed=0)
    assert rows(log.written[0])["/reward"] == 3
