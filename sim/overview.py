"""A scene seen from outside, for people: pictures and videos, apart from what the robot's cameras see."""

from __future__ import annotations

from dataclasses import replace

from robot_rl.types import Array
from sim.arms.arm import Arm
from sim.cameras import CameraRig, Profile, SceneCamera, SceneRenderer
from sim.physics import Physics
from sim.randomization import Randomization, Variation
from sim.scene import Scene, build_scene

CAMERA = SceneCamera("overview", (1.42, -0.9, 0.85), (0.34, 0.03, 0.27), fovy_deg=39.5, height=360, width=480)
"""The whole arm at home and the table before it."""
_SMOOTH = 4


class Overview:
    """Draws the world of an arm from ``camera``, in light and colours of the episode as ``randomization`` draws them.
    Raises RobotError where nothing can be drawn."""

    def __init__(
        self,
        scene: Scene,
        arm: Arm,
        profile: Profile = Profile.FAST,
        camera: SceneCamera = CAMERA,
        randomization: Randomization | None = None,
    ) -> None:
        rig = CameraRig([camera], profile=profile)
        built = build_scene(scene, arm, rig.cameras, look=profile)
        self.renderer = SceneRenderer(built.model, rig, samples=_SMOOTH)
        still = replace(randomization or Randomization(), camera_position_m=0.0, camera_rotation_rad=0.0)
        self._name, self._variation = camera.name, Variation(built, still)

    def vary(self, seed: int) -> None:
        """Dress for the episode of ``seed``."""
        self._variation.apply_appearance(seed)

    def draw(self, physics: Physics) -> Array:
        """RGB uint8 [h, w, 3] of the present."""
        return self.renderer.pixels(physics.data)[self._name]

    def close(self) -> None:
        """Release the graphics memory."""
        self.renderer.close()
