"""Scores of camera frames, made on a thread of their own: decoding and networks never hold up a control step."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from robot_rl.errors import RobotRlError, StaleObservationError
from robot_rl.runtime.success_rule import SuccessJudge
from robot_rl.runtime.window import ObservationWindow
from robot_rl.types import Array, Observation


@dataclass(frozen=True)
class ScoredFrame:
    """What was found in the observation that opens control step ``step``."""

    step: int
    score: float
    position_m: Array  # [3] of the TCP


class FrameScorer:
    """Scores the newest observation handed over; one that still waits when the next comes is left out.

    ``submit`` and ``take`` return at once. An error on the thread, but for a frame that is missing, is raised by the
    next ``take`` or ``wait``.
    """

    def __init__(self, judge: SuccessJudge) -> None:
        self._judge = judge
        self._changed = threading.Condition()
        self._waiting: tuple[int, Observation] | None = None
        self._episode = 0
        self._busy = self._closed = False
        self._done: list[ScoredFrame] = []
        self._error: BaseException | None = None
        threading.Thread(target=self._serve, name="frame-scorer", daemon=True).start()

    def reset(self) -> None:
        """An episode begins: what comes of frames of the last one is dropped."""
        with self._changed:
            self._episode += 1
            self._waiting, self._done = None, []

    def submit(self, observation: Observation) -> None:
        """Have it scored as soon as the thread is free."""
        with self._changed:
            self._waiting = self._episode, observation
            self._changed.notify_all()

    def take(self) -> list[ScoredFrame]:
        """What has been scored since the last call, in order of time."""
        with self._changed:
            self._raise()
            done, self._done = self._done, []
        return done

    def wait(self) -> None:
        """Until everything handed over is scored: for simulated time, which stands still meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: self._error or self._closed or not (self._waiting or self._busy))
            self._raise()

    def close(self) -> None:
        """End the thread; idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _raise(self) -> None:
        if self._error is not None:
            raise RobotRlError(f"frames cannot be scored: {self._error}") from self._error

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._waiting)
                if self._closed or self._waiting is None:
                    return
                (episode, observation), self._waiting, self._busy = self._waiting, None, True
            scored, error = self._attempt(observation)
            with self._changed:
                self._busy, self._error = False, self._error or error
                if scored is not None and episode == self._episode:
                    self._done.append(scored)
                self._changed.notify_all()

    def _attempt(self, observation: Observation) -> tuple[ScoredFrame | None, BaseException | None]:
        window = ObservationWindow(self._judge.spec)
        window.push(observation)
        try:
            score = float(self._judge.probability(window.arrays())[0])
            return ScoredFrame(observation.step, score, self._judge.position_m(observation.state)), None
        except StaleObservationError:  # a camera dropped this frame: it has no score
            return None, None
        except BaseException as error:
            return None, error
