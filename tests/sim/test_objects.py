"""Objects of a scene as physics sees them."""

import mujoco
import numpy as np
import pytest

from robot_rl.errors import ConfigError
from sim.arms.panda import panda
from sim.objects import Part, SceneObject
from sim.scene import Scene, build_scene, set_mass

PANDA = panda()
TETRAHEDRON = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"


def dumbbell(**changes) -> SceneObject:
    """Two equal balls 6 cm apart on a rod without extent that matters."""
    ends = [Part("sphere", (0.01,), (x, 0.0, 0.0)) for x in (-0.03, 0.03)]
    return SceneObject("bell", parts=ends, mass_kg=0.2, **changes)


def test_a_composite_has_the_mass_of_the_whole_spread_over_its_parts():
    model = build_scene(Scene([dumbbell()]), PANDA).model
    body = model.body("bell")
    assert body.mass[0] == pytest.approx(0.2)
    ball = 0.4 * 0.1 * 0.01**2
    across = 2 * (ball + 0.1 * 0.03**2)
    np.testing.assert_allclose(np.sort(body.inertia), [2 * ball, across, across], rtol=1e-6)
    assert [model.geom(name).bodyid[0] for name in ("bell", "bell/1")] == [body.id] * 2


def test_the_mass_can_be_changed_without_changing_its_distribution():
    built = build_scene(Scene([dumbbell()]), PANDA)
    before = built.model.body("bell").inertia.copy()
    set_mass(built.model, "bell", 0.4)
    np.testing.assert_allclose(built.model.body("bell").inertia, 2 * before)
    # what contacts are solved with follows: a free body of 0.4 kg
    dof = built.model.joint("bell").dofadr[0]
    assert built.model.dof_invweight0[dof] == pytest.approx(1 / 0.4)


def test_a_fixed_object_carries_what_falls_on_it_and_has_no_coordinates():
    shelf = SceneObject("shelf", "box", (0.1, 0.1, 0.01), fixed=True, position_m=(0.5, 0.0, 0.2))
    cube = SceneObject("cube", "box", (0.02, 0.02, 0.02), position_m=(0.5, 0.0, 0.25))
    built = build_scene(Scene([shelf, cube]), PANDA)
    assert set(built.object_qpos) == {"cube"}
    assert set(built.object_mocap) == {"shelf"}
    data = mujoco.MjData(built.model)
    mujoco.mj_step(built.model, data, nstep=300)
    assert data.joint("cube").qpos[2] == pytest.approx(0.23, abs=1e-3)
    np.testing.assert_array_equal(data.body("shelf").xpos, [0.5, 0.0, 0.2])


def test_a_peg_falls_through_a_hole_of_boxes_and_a_wider_one_does_not():
    walls = [
        Part("box", (0.02, 0.051, 0.03), (0.031, 0.0, 0.0)), Part("box", (0.02, 0.051, 0.03), (-0.031, 0.0, 0.0)),
        Part("box", (0.011, 0.02, 0.03), (0.0, 0.031, 0.0)), Part("box", (0.011, 0.02, 0.03), (0.0, -0.031, 0.0)),
    ]  # fmt: skip
    hole = SceneObject("hole", parts=walls, fixed=True, position_m=(0.5, 0.0, 0.1))
    heights = []
    for half_m in (0.0108, 0.0115):
        peg = SceneObject("peg", "box", (half_m, half_m, 0.03), position_m=(0.5, 0.0, 0.165))
        built = build_scene(Scene([hole, peg]), PANDA)
        data = mujoco.MjData(built.model)
        mujoco.mj_step(built.model, data, nstep=400)
        heights.append(data.joint("peg").qpos[2])
    assert heights[0] < 0.1
    assert heights[1] > 0.155


def test_contacts_are_those_of_the_description():
    soft = SceneObject("ball", "sphere", (0.02,), condim=6, solref=(0.02, 0.7), friction=(0.4, 0.01, 0.002))
    geom = build_scene(Scene([soft]), PANDA).model.geom("ball")
    assert geom.condim[0] == 6
    np.testing.assert_allclose(geom.solref, [0.02, 0.7])
    np.testing.assert_allclose(geom.friction, [0.4, 0.01, 0.002])
    assert [
        build_scene(Scene([SceneObject("it", shape, size)]), PANDA).model.geom("it").condim[0]
        for shape, size in (("box", (0.02,) * 3), ("cylinder", (0.02, 0.02)))
    ] == [3, 4]


def test_a_mesh_is_an_object(tmp_path):
    file = tmp_path / "corner.obj"
    file.write_text(TETRAHEDRON)
    corner = SceneObject("corner", parts=[Part("mesh", (0.06,) * 3, mesh_file=str(file))], mass_kg=0.1)
    model = build_scene(Scene([corner]), PANDA).model
    assert model.body("corner").mass[0] == pytest.approx(0.1)
    np.testing.assert_allclose(model.body("corner").ipos, [0.015] * 3, atol=1e-6)  # a quarter of its edges


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SceneObject("it"), "shape and parts, or neither"),
        (lambda: dumbbell(shape="box", size_m=(0.1,) * 3), "shape and parts, or neither"),
        (lambda: SceneObject("it", "boxx", (0.1,) * 3), "'it'.*Did you mean 'box'"),
        (lambda: SceneObject("it", "box", (0.1, 0.1)), "'it'.*3 positive sizes"),
        (lambda: SceneObject("it", "box", (0.1,) * 3, mass_kg=0.0), "> 0"),
        (lambda: SceneObject("it", "box", (0.1,) * 3, condim=2), "1, 3, 4 or 6"),
        (lambda: Part("mesh", (1, 1, 1)), "a file for a mesh"),
        (lambda: Part("mesh", (1, 1, 1), mesh_file="nowhere.obj"), "no mesh file"),
    ],
)
def test_wrong_descriptions_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
