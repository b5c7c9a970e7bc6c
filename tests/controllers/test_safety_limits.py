from dataclasses import replace

import numpy as np
import pytest

from robot_rl.errors import ConfigError
from tests.controllers.panda import panda_limits

pytestmark = pytest.mark.robot


def test_limits_are_made_tighter_by_name():
    limits = panda_limits(max_speed_m_s=0.2, box_lower_m=(0.3, -0.3, 0.01), joint_margin_rad=0.2)
    assert limits.max_speed_m_s == 0.2
    assert limits.scalars()["box_lower_x_m"] == 0.3
    np.testing.assert_allclose(limits.arrays().joint[1, 0], 2.8973 - 0.2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_speed_m_s", 9.0),
        ("box_lower_m", (0.1, -0.35, 0.005)),
        ("box_upper_m", (0.75, 0.35, 0.6)),
        ("joint_margin_rad", 0.05),
        ("torque_n_m", (200.0,) * 7),
        ("max_rotation_rad", float("nan")),
        ("max_jerk_m_s3", 1e5),
        ("max_jerk_rad_s3", 1e6),
        ("max_contact_force_n", 1e3),
        ("walls_lower_m", (-11.0, 0.0, 0.0)),
    ],
)
def test_no_limit_is_loosened(name, value):
    with pytest.raises(ConfigError, match=name):
        panda_limits(**{name: value})


def test_a_mistyped_limit_is_named_with_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'max_speed_m_s'"):
        panda_limits(max_sped_m_s=0.1)


def test_a_layer_cannot_be_left_out():
    for name in ("upright_quat_xyzw", "layers", "enabled"):
        with pytest.raises(ConfigError, match="no safety limit"):
            panda_limits(**{name: (0.0, 0.0, 0.0, 1.0)})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_speed_m_s", 0.0),
        ("max_jump_m", -1.0),
        ("max_jump_m", "far"),
        ("box_upper_m", (0.2, 0.35, 0.5)),
        ("joint_margin_rad", 2.0),
        ("torque_n_m", (0.0,) * 7),
        ("box_lower_m", (0.3, 0.0)),
    ],
)
def test_impossible_limits_are_refused(name, value):
    with pytest.raises(ConfigError):
        panda_limits(**{name: value})


def test_the_workspace_of_rotations_is_convex():
    with pytest.raises(ConfigError, match="pi / 2"):
        replace(panda_limits(), max_rotation_rad=1.6)


TIP = (0.0, 0.0, 0.01, 0.02)


def test_spheres_are_added_or_grown_and_never_dropped():
    limits = panda_limits(spheres={"tip": TIP}, walls_lower_m=(-1.0, -1.0, 0.0))
    more = limits.tightened(spheres={"camera": [0.1, 0.0, -0.05, 0.04], "tip": (0.0, 0.0, 0.01, 0.03)})
    assert more.spheres == {"tip": (0.0, 0.0, 0.01, 0.03), "camera": (0.1, 0.0, -0.05, 0.04)}
    np.testing.assert_array_equal(more.arrays().spheres, [[0.0, 0.0, 0.01, 0.03], [0.1, 0.0, -0.05, 0.04]])
    assert limits.tightened(spheres={}).spheres == {"tip": TIP}
    for smaller in ((0.0, 0.0, 0.01, 0.01), (0.0, 0.0, 0.0, 0.02)):
        with pytest.raises(ConfigError, match="sphere 'tip'"):
            limits.tightened(spheres={"tip": smaller})


@pytest.mark.parametrize("sphere", [(0, 0, 0), (0, 0, 0, 0), (0, 0, np.nan, 0.1), "large", (0, 0, 0, 9.0)])
def test_impossible_spheres_are_refused(sphere):
    with pytest.raises(ConfigError, match="tip"):
        panda_limits(spheres={"tip": sphere}, walls_lower_m=(-1.0, -1.0, 0.0))


def test_the_force_source_is_written_out_and_never_taken_away():
    known = panda_limits(force_source="measured")
    assert known.tightened().force_source == "measured"
    with pytest.raises(ConfigError, match="as the arm says"):
        known.tightened(force_source="none")
    with pytest.raises(ConfigError, match="Valid: measured, none, simulated"):
        panda_limits(force_source="guessed")
    given = {name: getattr(known, name) for name in known.__dataclass_fields__ if name != "force_source"}
    with pytest.raises(TypeError, match="force_source"):
        type(known)(**given)
