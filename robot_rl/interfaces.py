"""The contracts. Everything else is a concrete class; variation is by wrapping one of these in another.

Tensors appear as ``Tensor`` (torch on the learner's side) without importing torch, which a robot computer lacks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from robot_rl.types import (
    ActContext,
    ActionChunk,
    ActionSpec,
    Array,
    Arrays,
    Decision,
    EnvSpec,
    EpisodeEnd,
    EpisodeEvent,
    Judgement,
    Observation,
    Phase,
    PolicySpec,
    ReplayView,
    ResetRequest,
    StepResult,
    StepRow,
    TargetChunk,
    WindowSpec,
)

if TYPE_CHECKING:
    from torch import Tensor
else:
    Tensor = Any

# --- robot side -----------------------------------------------------------------------------------------------------


class Clock(Protocol):
    """Time of a robot: hardware waits, a simulator advances its physics."""

    @property
    def stepped(self) -> bool:
        """True when time advances inside ``wait_until`` alone (lockstep simulation), False in real time."""
        ...

    def now_ns(self) -> int:
        """Monotonic time [ns]."""
        ...

    def wait_until(self, stamp_ns: int) -> int:
        """Return at or after ``stamp_ns``; returns the time it is then [ns]. A stamp in the past returns at once."""
        ...


@runtime_checkable
class Robot(Protocol):
    """An arm, real or simulated. A context manager; computes no reward; every command passes its safety chain."""

    @property
    def clock(self) -> Clock: ...

    def connect(self) -> EnvSpec:
        """Open the device and describe it. Raises RobotConnectionError."""
        ...

    def read(self) -> Observation:
        """The newest aligned observation. Raises StaleObservationError when a stream is silent."""
        ...

    def command(self, chunk: TargetChunk) -> None:
        """Replace the plan in force. Returns at once. Raises CommandRefusedError; the previous plan then runs out."""
        ...

    def reset(self, request: ResetRequest) -> Observation:
        """Move to the start of an episode; ends verified within ``request.timeout_s`` or raises ResetError."""
        ...

    def stop(self) -> None:
        """Controlled stop, from any state and any thread, idempotent. Commands are refused until the next reset."""
        ...

    def close(self) -> None:
        """Stop and release everything; idempotent."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


class Controller(Protocol):
    """Control law without clock, I/O or ROS: same state, target and dt, same command."""

    def reset(self, state: Arrays) -> None:
        """Forget history and latch onto ``state``."""
        ...

    def compute(self, state: Arrays, target: Arrays, dt: float) -> Array:
        """Command for the next ``dt`` seconds."""
        ...


class Task(Protocol):
    """What an episode is about. Has no time limit (the env truncates) and touches no hardware."""

    @property
    def name(self) -> str: ...

    @property
    def requires(self) -> frozenset[str]:
        """Observation names that ``judge`` reads; refused where the robot does not measure them."""
        ...

    def reset_request(self, seed: int) -> ResetRequest:
        """The start of the episode with that seed; equal seeds give equal starts."""
        ...

    def judge(self, observation: Observation, action: Array, next_observation: Observation) -> Judgement:
        """Reward and end of one transition by rule; sparse 0/1 unless configured dense."""
        ...


# --- env and loop ---------------------------------------------------------------------------------------------------


@runtime_checkable
class Env(Protocol):
    """A robot with a task and a time limit, or an adapted simulator benchmark."""

    @property
    def spec(self) -> EnvSpec: ...

    @property
    def max_steps(self) -> int:
        """Control steps before the env truncates."""
        ...

    @property
    def clock(self) -> Clock:
        """The clock of its observations' stamps; the loop stamps with it and the env paces by it."""
        ...

    def reset(self, seed: int) -> Observation:
        """Start the episode of that seed."""
        ...

    def anchor(self, actions: Array, observation: Observation, source: Phase = ...) -> TargetChunk:
        """Integrate a plan [H, A] of ``source`` (Phase.POLICY unless given) once, onto the target in force at
        ``observation``, into absolute targets."""
        ...

    def step(self, plan: TargetChunk) -> StepResult:
        """Run one control step under what remains of a plan."""
        ...

    def hold(self) -> TargetChunk:
        """One step of targets that keep the robot where it is commanded to be."""
        ...

    def stop(self) -> None:
        """Controlled stop of whatever moves, from any state, idempotent; the next reset resumes."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class Intervention(Protocol):
    """A device by which a person takes over from a policy, or what stands for the person.

    Asked at every tick, so nothing here may wait. What is commanded by it, and when it is handed back, is decided in
    ``robot_rl.runtime.handover``.
    """

    @property
    def age_s(self) -> float:
        """Time since the device was heard of; 0 where it is asked directly."""
        ...

    def reset(self, seed: int) -> None:
        """The episode of ``seed`` starts; whatever was pressed before is void."""
        ...

    def action(self, observation: Observation) -> Array | None:
        """The action [A] of this step, in physical units; None while nothing is pressed."""
        ...

    def events(self) -> Sequence[EpisodeEvent]:
        """Keys pressed since the last call, in order."""
        ...

    def close(self) -> None:
        """Let go of the device; idempotent."""
        ...


class Listener(Protocol):
    """Hears everything the loop does; must not block it and must not change it."""

    def on_reset(self, observation: Observation, spec: EnvSpec, seed: int) -> None: ...

    def on_decision(self, decision: Decision) -> None: ...

    def on_step(self, row: StepRow) -> None: ...

    def on_end(self, final: StepRow, end: EpisodeEnd) -> None:
        """Always called once per started episode, also when it ends by an exception."""
        ...


# --- policies --------------------------------------------------------------------------------------------------------


@runtime_checkable
class Policy(Protocol):
    """Maps a window of observations to a plan; physical units at its edge, normalises inside.

    ``act`` always sees a leading batch axis; the loop uses B = 1, batched evaluation more.
    """

    @property
    def spec(self) -> PolicySpec: ...

    def reset(self, rows: Array, seeds: Array) -> None:
        """Forget what is remembered of batch rows ``rows`` [R] and reseed each with ``seeds`` [R]."""
        ...

    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        """Plan from ``window``: {name: [B, T_o, ...]} (padded by repetition at the start of an episode)."""
        ...


@dataclass(frozen=True)
class SamplerSpec:
    """What a black-box chunk sampler tells of itself."""

    observation: Mapping[str, Any]
    action: ActionSpec
    history: int  # T_o
    horizon: int  # T_p
    execute: int  # T_a
    noise_shape: tuple[int, ...]
    prior: str  # "normal"
    rate_hz: float
    sha256: str  # of the parameters
    seed: int = 0  # of the noise that the policy itself acts with: whoever draws alike reproduces it


@runtime_checkable
class ChunkSampler(Protocol):
    """Generates chunks from noise, deterministic in the noise; exposes no gradient and nothing else."""

    @property
    def spec(self) -> SamplerSpec: ...

    def sample(self, obs: Mapping[str, Tensor], noise: Tensor) -> Tensor:
        """[B, T_o, ...] observations and [B, *noise_shape] noise -> chunks [B, T_p, A] in physical units."""
        ...


@runtime_checkable
class Denoiser(Protocol):
    """White-box view of a diffusion policy, for warm starts, real-time chunking and composition."""

    @property
    def schedule(self) -> Any:
        """Its noise schedule (policies.noise_schedules)."""
        ...

    @property
    def action_normalizer(self) -> Any: ...

    def encode(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Observations [B, T_o, ...] -> conditioning vector [B, C]."""
        ...

    def predict(self, x: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """Network output for noisy normalised chunks x [B, T_p, A] at timesteps t [B]."""
        ...


# --- learning --------------------------------------------------------------------------------------------------------


@runtime_checkable
class Learner(Protocol):
    """One update rule: no env, no network, no files."""

    @property
    def views(self) -> Mapping[str, ReplayView | WindowSpec]:
        """The views of the rows it needs, by the name under which ``update`` receives their batches."""
        ...

    def update(self, batches: Mapping[str, Mapping[str, Tensor]]) -> dict[str, float]:
        """One call may serve several gradient steps: every tensor has a leading group axis [G, B, ...]."""
        ...

    def acting_state(self) -> dict[str, Tensor]:
        """Everything acting needs, as one atomic version."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class Weights:
    """A published acting state: whole, checked, never changed afterwards."""

    version: int
    tensors: Arrays  # read-only, by name
    meta: Mapping[str, Any]


@dataclass(frozen=True)
class Signal:
    """Something a learner tells its actors: pause_at_reset, stop, discard, relabel, ..."""

    id: str
    kind: str
    payload: Mapping[str, Any]


@dataclass(frozen=True)
class Report:
    """Something an actor tells its learner beside its rows: the score of an evaluation episode, say."""

    kind: str
    payload: Mapping[str, Any]


@dataclass(frozen=True)
class Arrivals:
    """What came into the learner's store since it was asked last."""

    steps: int = 0  # control steps: rows that have a successor, so an episode of N + 1 observations counts N
    committed: tuple[str, ...] = ()  # ids of episodes that have become files
    edited: tuple[str, ...] = ()  # ids whose outcome, note or exclusion was changed, deletion included
    reports: tuple[Report, ...] = ()  # in order of each actor; a restart of either end may repeat one

    def __add__(self, later: Arrivals) -> Arrivals:
        """Both, one after the other."""
        return Arrivals(
            self.steps + later.steps,
            self.committed + later.committed,
            self.edited + later.edited,
            self.reports + later.reports,
        )


@dataclass(frozen=True)
class PeerStatus:
    """The other end of a transport, as its heartbeats tell."""

    name: str
    age_s: float  # since it was heard; inf before the first time
    version: int | None = None  # of the acting state it has (actor) or offers (learner)
    lag_bytes: int = 0  # journaled by the actor, not yet durable at the learner
    lag_s: float = 0.0  # age of the oldest such byte
    problem: str = ""  # what keeps rows from being delivered, e.g. a full disk


class ActorTransport(Protocol):
    """The actor's end. Rows need no call: the journals of the actor's store are the outbox.

    ``latest``, ``signals`` and ``status`` return at once and touch neither disk nor network.
    """

    def latest(self) -> Weights | None:
        """The newest acting state there is, None before the first; never a backlog, never a half-updated one."""
        ...

    def signals(self) -> Sequence[Signal]:
        """What the learner told since the last call, in order, each id once."""
        ...

    def annotate(self, episode: str, edits: Mapping[str, Any]) -> None:
        """Say something about an episode that has ended: ``success``, ``exclude``, ``note`` or ``deleted`` (True).

        Durable on return (a disk call: between episodes, not in a step); applied once the learner has the episode.
        """
        ...

    def report(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Tell the learner something; durable on return (a disk call), told at least once."""
        ...

    def delivered(self) -> Sequence[str]:
        """Ids of the episodes of which the learner has a file of its own now, since the last call."""
        ...

    def wait(self, timeout_s: float) -> None:
        """Wait for weights, signals or acknowledgements, at most so long; may return early. Not in a step."""
        ...

    def status(self) -> PeerStatus:
        """The learner, and how far this actor's journals lag behind."""
        ...

    def close(self) -> None: ...


class LearnerTransport(Protocol):
    """The learner's end: rows arrive in its store, as growing journals and then as episodes."""

    def arrivals(self) -> Arrivals:
        """What has become durable since the last call."""
        ...

    def wait(self, timeout_s: float) -> None:
        """Wait for arrivals, at most so long; may return early."""
        ...

    def publish(self, version: int, tensors: Arrays, meta: Mapping[str, Any]) -> None:
        """Offer an acting state, copied here; versions rise. Actors get the newest only."""
        ...

    def signal(self, kind: str, payload: Mapping[str, Any] = ..., *, actor: str = "", keep: bool = False) -> None:
        """Tell all actors that are there, or the one named; at least once, and each hears it once.

        With ``keep`` an actor that joins later hears the last of this kind too (a pause, say).
        """
        ...

    def actors(self) -> Sequence[PeerStatus]:
        """The actors that were heard of lately."""
        ...

    def close(self) -> None: ...
