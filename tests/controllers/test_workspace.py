import numpy as np
import pytest

from controllers.workspace import sphere_room, spheres_free, workspace_layer
from robot_rl.geometry import geodesic_angle, quat_xyzw_from_rotvec, quat_xyzw_multiply
from tests.controllers.panda import panda_limits

pytestmark = pytest.mark.robot
DOWN = [1.0, 0.0, 0.0, 0.0]  # the tool's z axis points down: a centre at +z is below the TCP
TIP = {"tip": (0.0, 0.03, 0.01, 0.02)}
ARRAYS = panda_limits(walls_lower_m=(-1.0, -0.2, 0.0), spheres=TIP).arrays()


def test_a_sphere_keeps_above_the_table_and_within_its_walls():
    """Its lowest point is 30 mm below the TCP; turned over x, its centre is at -30 mm in y, 50 mm with the radius."""
    low = np.array([0.5, 0.0, 0.01, *DOWN])
    assert sphere_room(ARRAYS, low) == pytest.approx(-0.02)
    assert workspace_layer(ARRAYS, low)
    np.testing.assert_allclose(low, [0.5, 0.0, 0.03, *DOWN], atol=1e-12)
    aside = np.array([0.5, -0.3, 0.2, *DOWN])
    assert workspace_layer(ARRAYS, aside)
    np.testing.assert_allclose(aside, [0.5, -0.15, 0.2, *DOWN], atol=1e-12)


def test_what_is_inside_is_left_as_it_is():
    pose = np.array([0.5, 0.1, 0.031, *DOWN])
    before = pose.copy()
    assert not workspace_layer(ARRAYS, pose)
    np.testing.assert_array_equal(pose, before)
    assert sphere_room(ARRAYS, pose) == pytest.approx(0.001)


def test_the_room_that_a_sphere_needs_depends_on_the_rotation():
    """Turned by 90 degrees about x, what was beside the TCP is below it."""
    turned = quat_xyzw_multiply(quat_xyzw_from_rotvec([np.pi / 2, 0.0, 0.0]), DOWN)
    pose = np.array([0.5, 0.1, 0.0, *turned])
    limits = panda_limits(walls_lower_m=(-1.0, -0.2, 0.0), spheres=TIP)
    workspace_layer(limits.arrays(), pose)
    assert geodesic_angle(pose[3:], DOWN) == pytest.approx(limits.max_rotation_rad, abs=1e-6)
    assert sphere_room(limits.arrays(), pose) == pytest.approx(0.0, abs=1e-12)
    assert pose[2] == pytest.approx(0.05, abs=1e-3)


@pytest.mark.parametrize(("reach", "turned", "free"), [(0.009, 0.0, True), (0.011, 0.0, False), (0.005, 0.2, False)])
def test_far_from_the_walls_no_sphere_can_come_to_them(reach, turned, free):
    """10 mm are left above the table; the centre is 31.6 mm from the TCP, so 0.2 rad may lead it 6.3 mm."""
    pose = np.array([0.5, 0.1, 0.04, *DOWN])
    assert spheres_free(ARRAYS, pose, np.full(3, reach), turned) is free


def test_without_spheres_there_is_room_without_end():
    assert sphere_room(panda_limits().arrays(), np.array([0.5, 0.0, 0.01, *DOWN])) == np.inf


def test_a_sphere_keeps_below_the_walls_above_it():
    """Its centre is at -30 mm in y and 10 mm below the TCP, its radius 20 mm: 10 mm further in y, 10 mm less in z."""
    arrays = panda_limits(walls_upper_m=(1.0, 0.1, 0.3), spheres=TIP).arrays()
    pose = np.array([0.5, 0.3, 0.45, *DOWN])
    assert sphere_room(arrays, pose) == pytest.approx(-0.19)
    assert workspace_layer(arrays, pose)
    np.testing.assert_allclose(pose, [0.5, 0.11, 0.31 - 0.02, *DOWN], atol=1e-12)
    assert spheres_free(arrays, pose - [0.0, 0.02, 0.02, 0, 0, 0, 0], np.full(3, 0.019), 0.0)
    assert not spheres_free(arrays, pose - [0.0, 0.02, 0.02, 0, 0, 0, 0], np.full(3, 0.021), 0.0)
