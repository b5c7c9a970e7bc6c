"""What an actor does with its episodes: act, evaluate when the learner asks, pause, try again after a fault, stop.

Everything but acting happens between two episodes, at a reset, when the arm is at rest.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

from robot_rl.data.file_lock import replace_file
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import RobotError
from robot_rl.interfaces import ActorTransport, Env, Signal
from robot_rl.runtime.actor import Actor, NewestPolicy
from robot_rl.runtime.evaluation import evaluate
from robot_rl.transport.signals import EVALUATE, GO_ON, NO_EVALUATION, PAUSE, SCORE, STOP
from robot_rl.types import EpisodeEnd

WAIT_S = 1.0  # at most, for what wakes earlier
RETRY_S = 2.0  # from a fault to the next reset
STALE_S = 60.0  # weights that an evaluation asks for and that do not come by then never will
SEED_FILE = "next_seed"  # in the actor's store


@dataclass
class _Evaluation:
    """What the learner asked for, and which seeds are left."""

    id: str
    version: int
    left: list[int]
    since_s: float = field(default_factory=time.monotonic)


class ActorService:
    """Runs episodes until the learner says stop.

    Args:
        actor: whose policy takes the newest weights; its next seed is remembered in ``store``.
        store: what ``actor`` records into and ``transport`` ships.
        retries: faults in a row after which the next one is raised.
        learner_timeout_s: after so long without a word of the learner the arm waits at its next reset until the learner
            is back, lest it outrun what can be learnt. None: it goes on.
        keep_local: whether episodes stay in ``store`` once the learner has them.
        evaluated_in: the same arm as the actor's env, where evaluations are judged otherwise; None: the actor's env.
        on_episode: hears of every training episode that ended.
        tell: hears in words of everything else.
    """

    def __init__(
        self,
        actor: Actor,
        policy: NewestPolicy,
        transport: ActorTransport,
        store: EpisodeStore,
        *,
        retries: int = 3,
        learner_timeout_s: float | None = None,
        keep_local: bool = False,
        evaluated_in: Env | None = None,
        on_episode: Callable[[EpisodeEnd], None] = lambda end: None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.actor, self.episodes = actor, 0
        self._policy, self._transport, self._store = policy, transport, store
        self._retries, self._keep_local, self._evaluated_in = retries, keep_local, evaluated_in or actor.env
        self._on_episode, self._tell = on_episode, tell
        self._learner_timeout_s = math.inf if learner_timeout_s is None else learner_timeout_s
        self._faults = 0  # in a row
        self._paused = self._stopped = self._alone = False
        self._evaluation: _Evaluation | None = None
        actor.next_seed = max(actor.next_seed, _remembered_seed(store))

    def run(self, episodes: int | None = None) -> None:
        """Until the learner says stop, or ``episodes`` were made. Raises RobotError after too many faults in a row."""
        while episodes is None or self.episodes < episodes:
            self._listen()
            if self._stopped:
                return
            try:
                if self._left_alone() or (self._paused and self._evaluation is None):
                    self._transport.wait(WAIT_S)
                elif self._evaluation is not None:
                    self._evaluate(self._evaluation)
                else:
                    self._act()
            except RobotError as error:
                self._recover(error)

    @property
    def dismissed(self) -> bool:
        """Whether the learner has said stop."""
        return self._stopped

    def tidy(self) -> None:
        """Remove the episodes that the learner has, unless they are to be kept."""
        delivered = self._transport.delivered()
        if not self._keep_local:
            self._store.drop(delivered)

    # --- what the learner says ----------------------------------------------------------------------------------------

    def _listen(self) -> None:
        for signal in self._transport.signals():
            if signal.kind == STOP:
                self._stopped = True
            elif signal.kind in (PAUSE, GO_ON):
                self._paused = signal.kind == PAUSE
            elif signal.kind == EVALUATE:
                self._evaluation = self._asked(signal)

    def _left_alone(self) -> bool:
        """Whether the learner has been silent for too long; both turns are told."""
        silent_s = self._transport.status().age_s
        alone = silent_s > self._learner_timeout_s
        if alone and not self._alone:
            self._tell(f"no word of the learner for {silent_s:.0f} s: waiting at the reset until it is back")
        elif self._alone and not alone:
            self._tell("the learner is back: going on")
        self._alone = alone
        return alone

    def _asked(self, signal: Signal) -> _Evaluation | None:
        """Several actors share the seeds: each begins at a place of its own."""
        asked = signal.payload
        if asked["id"] == NO_EVALUATION:
            return None
        first, count = int(asked["first_seed"]), int(asked["episodes"])
        place = zlib.crc32(self._transport.status().name.encode()) % count
        seeds = [first + (place + n) % count for n in range(count)]
        return _Evaluation(str(asked["id"]), int(asked["version"]), seeds)

    # --- one episode --------------------------------------------------------------------------------------------------

    def _act(self) -> None:
        _remember_seed(self._store, self.actor.next_seed + 1)  # it is used up whatever becomes of the episode
        end = self.actor.run_episode()
        self.episodes += 1
        self._on_episode(end)
        self.tidy()
        self._count_fault(end.reason)

    def _evaluate(self, wanted: _Evaluation) -> None:
        """One deterministic episode with just the weights that are asked for; nobody intervenes, nothing is learnt."""
        version = self._policy.take()
        if version != wanted.version:
            if version > wanted.version or time.monotonic() - wanted.since_s > STALE_S:
                self._evaluation = None  # of a learner that is no more
            else:
                self._transport.wait(WAIT_S)
            return
        (score,) = evaluate(self._evaluated_in, self._policy.policy, wanted.left[:1]).episodes
        told = {"id": wanted.id, "seed": score.seed, "success": score.success, "length": score.length}
        self._transport.report(SCORE, told)
        wanted.left.pop(0)
        if not wanted.left:
            self._tell(f"evaluated weights {wanted.version}")
            self._evaluation = None
        self._count_fault(score.reason)

    # --- faults -------------------------------------------------------------------------------------------------------

    def _count_fault(self, reason: str) -> None:
        """Raise RobotError for an episode that ended by a fault; any other end begins the count anew."""
        if reason.startswith("fault"):
            raise RobotError(f"the episode ended by a {reason}")
        self._faults = 0

    def _recover(self, error: RobotError) -> None:
        """Wait a little before the next reset, which fails while the fault stands. Raises RobotError when that is
        enough."""
        self._faults += 1
        if self._faults > self._retries:
            raise RobotError(
                f"{self._faults} faults in a row, the last: {error}",
                limit=f"retries={self._retries}",
                remedy="See what is wrong with the arm and clear its fault, then start again: nothing recorded is lost",
            ) from error
        self._tell(f"{error} -- trying again, {self._faults} of {self._retries}")
        until = time.monotonic() + RETRY_S
        while not self._stopped and (left_s := until - time.monotonic()) > 0:
            self._transport.wait(left_s)
            self._listen()


def _remembered_seed(store: EpisodeStore) -> int:
    path = store.root / SEED_FILE
    return int(path.read_text()) if path.exists() else 0


def _remember_seed(store: EpisodeStore, seed: int) -> None:
    replace_file(store.root / SEED_FILE, f"{seed}\n".encode())
