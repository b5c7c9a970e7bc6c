"""One world with an arm, episode after episode: control steps of physics, what is seen of them, what disturbs them."""

# pyright: reportAttributeAccessIssue=false
# (mujoco ships no type information)
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from controllers.arbiter import Arbiter
from controllers.law import Gains
from controllers.operational_space import OperationalSpaceGains
from controllers.safety_limits import SafetyLimits
from robot_rl.types import Array, CommandReport, Frame, ResetRequest
from sim.arms.arm import Arm
from sim.cameras import CameraRig, SceneRenderer
from sim.control_step import ControlStep
from sim.delayed_law import DelayedGains
from sim.disturbances import ARM, Disturbances, Disturber
from sim.divergence import DivergenceGuard
from sim.randomization import Randomization, Variation
from sim.reset import arrange
from sim.scene import TIMESTEP_S, Scene, build_scene
from sim.sight import Sight
from sim.world import World

TICK_NS = round(TIMESTEP_S * 1e9)


@dataclass(frozen=True)
class Outfit:
    """What makes a simulation besides scene and arm."""

    limits: SafetyLimits
    gains: Gains | None
    cameras: CameraRig
    randomization: Randomization
    disturbances: Disturbances
    dump_folder: str | None


class Simulation:
    """``period`` ticks of physics make a control step, at whose ends ``arbiter`` says who commands."""

    def __init__(self, scene: Scene, arm: Arm, outfit: Outfit, arbiter: Arbiter, period: int) -> None:
        self.step = 0  # of the episode
        self._period, self._outfit, self._tick = period, outfit, 0  # of the step
        ranges = outfit.randomization
        self._most_delay = round(ranges.action_delay_s[1] / TIMESTEP_S)
        gains = outfit.gains
        if self._most_delay:
            gains = DelayedGains(gains or OperationalSpaceGains(), self._most_delay)
        self.world = World(scene, arm, outfit.limits, gains, period * TIMESTEP_S)
        arrange(self.world, ResetRequest())
        built = self.world.physics.built
        self._variations = [Variation(built, ranges)]
        self.renderer: SceneRenderer | None = None
        if outfit.cameras.cameras:
            dressed = build_scene(scene, arm, outfit.cameras.cameras, look=outfit.cameras.profile)
            self.renderer = SceneRenderer(dressed.model, outfit.cameras)
            self._variations.append(Variation(dressed, ranges))
        self._control = ControlStep(self.world, arbiter)
        self._sight = Sight(self.world, self.renderer, period)
        self._guard = DivergenceGuard(self.world.physics, outfit.dump_folder)
        things = [thing.name for thing in scene.objects if thing.free]
        bodies = {name: int(built.model.body(name).id) for name in things}
        self._disturber = Disturber(self.world.physics.data, {ARM: int(built.model.body(arm.hand_body).id), **bodies})
        self._sight.start(0, 0)

    def start(self, request: ResetRequest, stamp_ns: int) -> tuple[int, CommandReport]:
        """Arrange the start of an episode; returns the ticks it took and the report of what the arm is latched onto.
        Raises ResetError."""
        self.step = self._tick = 0
        self._vary(request.seed)
        self._guard.reset()
        try:
            took = round(arrange(self.world, request) / TIMESTEP_S)
            self._disturber.start(self._outfit.disturbances.draw(request.seed, TIMESTEP_S))
        except BaseException:  # also an interrupt leaves a world without pushes of an episode that did not begin
            self._disturber.start([])
            self._sight.start(0, stamp_ns)
            raise
        late = self._outfit.randomization.draw("observation_delay_s", request.seed)
        self._sight.start(round(late / TIMESTEP_S), stamp_ns + took * TICK_NS)
        return took, self._control.reset()

    def run(self, most: int, stamp_ns: int) -> tuple[int, CommandReport | None]:
        """Advance by at most ``most`` ticks from ``stamp_ns`` on, within one control step; returns the ticks and, when
        the step ended, its report. Raises SimulationDivergedError."""
        if self._tick == 0:
            self._guard.remember(self._control.begin(self.step))
        else:
            self._control.go_on()
        now = self.step * self._period + self._tick
        look = self._sight.due_in(now)
        ticks = min(most, self._period - self._tick, look, self._disturber.apply(now))
        self.world.advance(ticks)
        self._tick += ticks
        ended = self._tick == self._period
        if ended:
            self._tick = 0
            self._guard.check(self.step)
        if ticks == look:
            self._sight.look(now + ticks, stamp_ns + ticks * TICK_NS)
        if not ended:
            return ticks, None
        self.step += 1
        return ticks, self._control.end(self.step - 1)

    def seen(self) -> tuple[dict[str, Array], Mapping[str, Frame]]:
        """State and frames of an observation that opens the present step."""
        glance = self._sight.seen(self.step * self._period)
        return glance.state, glance.frames

    def lost(self) -> CommandReport:
        """The report of the step that diverged, which ends without being seen."""
        self.step += 1
        return self._control.lost(self.step - 1)

    def close(self) -> None:
        """Release the graphics memory."""
        if self.renderer is not None:
            self.renderer.close()

    def _vary(self, seed: int) -> None:
        """The model of this episode."""
        ranges = self._outfit.randomization
        if ranges == _UNVARIED:
            return
        self._variations[0].apply_physics(seed)
        for variation in self._variations[1:]:
            variation.apply_appearance(seed)
        if self._most_delay:
            self.world.servo.arrays.law.delay[0] = round(ranges.draw("action_delay_s", seed) / TIMESTEP_S)


_UNVARIED = Randomization()
