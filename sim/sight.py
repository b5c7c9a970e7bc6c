"""What the robot sees of its world, measured state and camera frames, perhaps late."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from robot_rl.types import Array, Frame
from sim.cameras import SceneRenderer
from sim.world import World


@dataclass(frozen=True)
class Glance:
    """The world at one tick of the episode."""

    tick: int
    state: dict[str, Array]
    frames: Mapping[str, Frame]


class Sight:
    """Looks at ``world`` so often that an observation every ``period`` ticks can show it some ticks late."""

    def __init__(self, world: World, renderer: SceneRenderer | None, period: int) -> None:
        self._world, self._renderer, self._period, self._delay = world, renderer, period, 0
        self._glances: deque[Glance] = deque()

    def start(self, delay_ticks: int, stamp_ns: int) -> None:
        """An episode begins; until something later is old enough, its start is what is seen."""
        self._delay = delay_ticks
        self._glances.clear()
        self.look(0, stamp_ns)

    def due_in(self, tick: int) -> int:
        """Ticks from ``tick`` to the next look that an observation needs, at least one."""
        return self._period - (tick + self._delay) % self._period

    def look(self, tick: int, stamp_ns: int) -> None:
        """Keep what there is to see at ``tick``. A quaternion is the one near its last: streams have no jumps."""
        before = self._glances[-1].state if self._glances else None
        frames = {} if self._renderer is None else self._renderer.frames(self._world.physics.data, stamp_ns)
        self._glances.append(Glance(tick, self._world.measure(before), frames))

    def seen(self, tick: int) -> Glance:
        """What an observation at ``tick`` shows."""
        while len(self._glances) > 1 and self._glances[1].tick <= tick - self._delay:
            self._glances.popleft()
        return self._glances[0]
