"""The learner's side of a session: rows in, updates in their governed ratio, weights out.

No env and no network in here. What comes in lies in the session's store, what goes out goes to a publisher; one
process or two make no difference. Replay is a cache of the store, the rest of the state is in the checkpoints.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor

from robot_rl.data.live import LiveEpisodes
from robot_rl.data.replay import ReplaySampler
from robot_rl.data.replay_union import ReplayUnion, SessionReplay, SessionSuccesses
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import ConfigError
from robot_rl.interfaces import Learner, LearnerTransport, Report
from robot_rl.learning.checkpoint import load_training_state
from robot_rl.learning.diagnostics import ValueLearner, diagnose
from robot_rl.learning.hand_over import outcomes_of
from robot_rl.learning.offline_training import Provenance
from robot_rl.learning.training_run import TrainingRun
from robot_rl.learning.update_ratio import UpdateRatio
from robot_rl.types import Array, Cut

DEMONSTRATIONS, ONLINE = "demonstrations", "online"
DIAGNOSED_EPISODES = 5


@dataclass(frozen=True)
class OnlineSchedule:
    """How often. ``group`` critic steps share one actor step; the rest counts received control steps, 0 is never."""

    group: int = 2
    pretrain: int = 0  # updates on demonstrations alone, before the first step
    publish_every: int = 1  # updates
    log_every: int = 200
    diagnose_every: int = 1000


class OnlineReplay:
    """Batches of every view of a learner, from a session's store and from demonstrations.

    The view ``online`` draws from all steps of the session, ``demonstrations`` from the demonstrations and from the
    session's corrections: steps in which a human was in command. With ``corrections_only`` from these alone; with
    ``successes`` also from the session's episodes that succeeded (self-imitation, Oh et al. 2018).
    """

    def __init__(
        self,
        views: Mapping[str, Any],
        session: EpisodeStore,
        demonstrations: EpisodeStore | None,
        *,
        batch: int,
        seed: int = 0,
        images: Any = None,
        corrections_only: bool = False,
        successes: bool = False,
    ) -> None:
        if batch % len(views):
            raise ConfigError(f"batch={batch} for views {', '.join(views)}", limit=f"a multiple of {len(views)}")
        live = LiveEpisodes(session.root)
        self.views, self.session = dict(views), session
        self.unions: dict[str, ReplayUnion] = {}
        self._annotation_bytes = 0
        self._arrays: dict[tuple[str, int], dict[str, Array]] = {}
        seen = views.get(ONLINE) or next(iter(views.values()))
        self.online = SessionReplay(session, live, seen, images=images)  # counts, also where nothing is drawn from it
        self._parts = [self.online]
        for place, (name, view) in enumerate(views.items()):
            parts, fixed = [self.online], []
            if name != ONLINE:
                parts = [SessionReplay(session, live, replace(view, cut=Cut.HUMAN), images=images)]
                parts += [SessionSuccesses(session, live, view, images=images)] if successes else []
                self._parts += parts
                if demonstrations is None and not corrections_only:
                    raise ConfigError(f"the learner's view '{name}' needs data", remedy="Name a dataset with demos=")
                if demonstrations is not None and not corrections_only:
                    fixed = [ReplaySampler(demonstrations, view, batch=1, images=images)]
            self.unions[name] = ReplayUnion(fixed, parts, batch=batch // len(views), seed=seed + place)

    def follow(self) -> None:
        """Take in what the running episodes brought."""
        for part in self._parts:
            part.follow()

    def refresh(self) -> None:
        """Take in rows, episodes and labels."""
        self._annotation_bytes = self.session.annotation_bytes  # first: what is said meanwhile is for the next time
        for part in self._parts:
            part.refresh()

    @property
    def relabelled(self) -> bool:
        """Whether something was said about episodes of the session since, by any process."""
        return self.session.annotation_bytes != self._annotation_bytes

    @property
    def ready(self) -> bool:
        """Whether every view has something to draw."""
        return all(len(union) for union in self.unions.values())

    def batches(self, first: int, count: int, views: Iterable[str] | None = None) -> dict[str, dict[str, Tensor]]:
        """Batches number ``first`` ... ``first + count - 1`` of ``views`` (None: of every one), with a leading group
        axis; until the next call, which fills the same memory."""
        drawn = {}
        for name in self.unions if views is None else views:
            union, arrays = self.unions[name], self._room(name, count)
            for group in range(count):
                union.batch(first + group, {key: value[group] for key, value in arrays.items()})
            drawn[name] = {key: torch.from_numpy(value) for key, value in arrays.items()}
        return drawn

    def _room(self, name: str, count: int) -> dict[str, Array]:
        """Arrays [count, B, ...] for a view, the same ones every time."""
        if (name, count) not in self._arrays:
            union = self.unions[name]
            flat = union.allocate(count * union.batch_size)
            shaped = {key: value.reshape(count, union.batch_size, *value.shape[1:]) for key, value in flat.items()}
            self._arrays[name, count] = shaped
        return self._arrays[name, count]


class OnlineTraining:
    """One learner, its replay and its run folder.

    Args:
        learner: updated in groups of ``schedule.group`` critic steps.
        replay: whose ``online`` view counts the received steps.
        ratio: says how many updates these are worth.
        transport: tells what has arrived in the session's store; gets the acting state after every
            ``schedule.publish_every`` updates.
    """

    def __init__(
        self,
        learner: Learner,
        replay: OnlineReplay,
        ratio: UpdateRatio,
        run: TrainingRun,
        schedule: OnlineSchedule,
        provenance: Provenance,
        transport: LearnerTransport,
    ) -> None:
        self.learner, self.replay, self.ratio, self.run = learner, replay, ratio, run
        self.schedule, self.provenance, self.transport = schedule, provenance, transport
        self.version = 0
        self._published: dict[int, float] = {0: time.monotonic()}
        self._sums: dict[str, float] = {}
        self._summed = self._logged = self._diagnosed = 0
        self._heard, self._handed = -1, dict[str, float]()
        self.latest: dict[str, float] = {}
        self.reports: list[Report] = []  # what actors told; whoever reads them takes them out
        self.withheld = False  # the acting state is not given out while the last one is evaluated
        self._resumed = False
        if schedule.pretrain and not getattr(learner, "pretrains", False):
            raise ConfigError(
                f"pretrain={schedule.pretrain}: this algorithm learns nothing from demonstrations alone",
                remedy="Set pretrain=0, or algorithm=residual or expo with imitation",
            )

    def begin(self) -> None:
        """Take in what is there and give out what acts first; of a new run, once it has learnt from demonstrations."""
        self.replay.refresh()
        if self.schedule.pretrain and not self._resumed:
            self._pretrain()
        self.publish()

    def _pretrain(self) -> None:
        """An offline phase: it counts no steps and leaves no debt."""
        if not len(self.replay.unions.get(DEMONSTRATIONS, ())):
            raise ConfigError(f"pretrain={self.schedule.pretrain} without demonstrations", remedy="Set pretrain=0")
        group = self.schedule.group
        for first in track(range(0, self.schedule.pretrain, group), "learning from demonstrations", transient=True):
            self.learner.update(self.replay.batches(first, group, [DEMONSTRATIONS]))

    @property
    def steps(self) -> int:
        """Control steps taken in: those that ``work`` has seen, not what is arriving meanwhile."""
        return self.replay.online.steps

    @property
    def behind(self) -> bool:
        """Whether steps that were received are worth another group of updates."""
        return self.replay.ready and self.ratio.verdict(self.steps).updates >= self.schedule.group

    def work(self, most: int | None = None) -> int:
        """Take in what has come and make the updates it is worth, whole groups of them and at most ``most``; returns
        how many."""
        self._take_in()
        allowed = self.ratio.verdict(self.steps).updates if self.replay.ready else 0
        groups = (allowed if most is None else min(allowed, most)) // self.schedule.group
        for _ in range(groups):
            self._update()
        self._log_when_due()
        return groups * self.schedule.group

    def _take_in(self) -> None:
        arrived = self.transport.arrivals()
        self.reports += arrived.reports
        # a whole episode may have come since the last look
        if arrived.edited or arrived.committed or self.replay.relabelled:
            self.replay.refresh()
        elif arrived.steps:
            self.replay.follow()

    def _update(self) -> None:
        count = self.schedule.group
        metrics = self.learner.update(self.replay.batches(self.ratio.updates, count))
        self.ratio.add(count)
        for name, value in metrics.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._summed += 1
        due = self.ratio.updates // self.schedule.publish_every > self.version // self.schedule.publish_every
        if due and not self.withheld:
            self._hand_over()
            self.publish()

    def _hand_over(self) -> None:
        """Tell a learner that shares the arm with a base how episodes ended. Only where weights follow: a share that
        is not given out yet is not in force, nor is it in a checkpoint."""
        hand_over, table = getattr(self.learner, "hand_over", None), self.replay.online.committed.table
        if hand_over is not None and table.rows and table.revision != self._heard:
            self._heard = table.revision
            outcomes, gate_open = outcomes_of(table)
            hand_over.heard(outcomes)
            self._handed = {**hand_over.figures, **gate_open}

    def publish(self) -> None:
        """Give the acting state out; its version is the number of updates it has seen."""
        self.version = self.ratio.updates
        tensors = {name: value.cpu().numpy() for name, value in self.learner.acting_state().items()}
        self.transport.publish(self.version, tensors, {"steps": self.steps, "policy": self.provenance.policy_config})
        self._published[self.version] = time.monotonic()
        for version in list(self._published)[:-1000]:
            del self._published[version]

    def _log_when_due(self) -> None:
        every, steps = self.schedule.log_every, self.steps
        if not every or steps // every <= self._logged // every or not self._summed:
            return
        self._logged = steps
        self.latest = {name: value / self._summed for name, value in self._sums.items()} | self.traffic() | self._handed
        self._sums, self._summed = {}, 0
        if self.schedule.diagnose_every and steps // self.schedule.diagnose_every > self._diagnosed:
            self._diagnosed = steps // self.schedule.diagnose_every
            self.latest |= self._diagnosis()
        self.run.log(steps, self.latest)

    @property
    def robot_minutes(self) -> float:
        """Time the arm has moved for learning."""
        return self.steps / self.provenance.env_spec.step_rate_hz / 60.0

    def traffic(self) -> dict[str, float]:
        """Rows visible, updates per step, and how far what acts lags behind what was learnt."""
        online = self.replay.online
        acting = max(online.newest_version, 0)
        age = time.monotonic() - self._published.get(acting, next(iter(self._published.values())))
        return {
            "head": float(online.head),
            "human_share": online.human_steps / max(online.steps, 1),
            "updates": float(self.ratio.updates),
            "update_ratio": self.ratio.ratio(self.steps),
            "staleness_updates": float(self.ratio.updates - acting),
            "staleness_s": round(age, 3),
        }

    def _diagnosis(self) -> dict[str, float]:
        """Of the newest episodes that have ended."""
        online, learner = self.replay.online, self.learner
        ids = online.committed.episodes[-DIAGNOSED_EPISODES:]
        if not ids or not isinstance(learner, ValueLearner):
            return {}
        episodes = [self.replay.session.read(id) for id in ids]
        return diagnose(learner, self.replay.views[ONLINE], episodes)

    # --- checkpoints

    def save(self, meta: Mapping[str, Any], *, best: bool = False) -> Path:
        """Checkpoint of now; ``meta`` goes into its manifest."""
        return self.run.save(
            self.steps,
            weights=self.learner.acting_state(),
            training=self.learner.state_dict(),
            config=self.provenance.policy_config,
            env_spec=self.provenance.env_spec,
            meta={**self.provenance.meta, "updates": self.ratio.updates, **meta},
            best=best,
        )

    def resume(self) -> dict[str, Any]:
        """Take the state of the newest checkpoint; returns its manifest. Raises CheckpointError."""
        state, manifest = load_training_state(self.run.folder)
        self.learner.load_state_dict(state)
        self._resumed = True
        self.ratio.updates = int(manifest["updates"])
        steps = int(manifest["step"])
        self._logged, self._diagnosed = steps, steps // max(self.schedule.diagnose_every, 1)
        self.run.forget_after(steps)
        return manifest
