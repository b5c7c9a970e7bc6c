"""What a session shows while it runs: a live table on a terminal, else a line per episode."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from robot_rl.runtime.processes import Told
from robot_rl.runtime.statistics import clopper_pearson

RECENT = 50  # episodes that success and interventions are told of


class SessionTable:
    """Takes what the processes of a session tell."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self._episodes: deque[Mapping[str, Any]] = deque(maxlen=RECENT)
        self._count = 0
        self._learner: Mapping[str, Any] = {}
        self._stack = ExitStack()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live = self._stack.enter_context(Live(console=self.console, auto_refresh=False))
        return self

    def __exit__(self, *exception: object) -> None:
        self.draw()
        self._stack.close()

    def take(self, told: Told) -> None:
        """Note figures, pass on lines."""
        if told.line:
            self.console.print(f"{told.name:<7} | {told.line}", markup=False, highlight=False, soft_wrap=True)
        elif told.figures and "episode" in told.figures:
            self._count += 1
            self._episodes.append(told.figures)
            if self._live is None:
                self.say(self._line(told.figures))
        elif told.figures:
            self._learner = told.figures

    def say(self, text: str) -> None:
        """A line above the table."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def draw(self) -> None:
        """Show the newest figures."""
        if self._live is not None:
            self._live.update(self.table(), refresh=True)

    def table(self) -> Table:
        """Two columns: what, how much."""
        table = Table(title="session", title_justify="left", show_header=False)
        for name, text in self.rows().items():
            table.add_row(name, text)
        return table

    def rows(self) -> dict[str, str]:
        """The table's texts by name."""
        episodes, learner = list(self._episodes), self._learner
        last = episodes[-1] if episodes else {}
        steps = sum(episode["steps"] for episode in episodes)
        human = sum(episode["human_steps"] for episode in episodes)
        return {
            "episode": f"{self._count}, the last {last['length']} steps: {last['reason']}" if last else "-",
            f"success of the last {len(episodes)}": _rate(episodes),
            "interventions": f"{human / steps:.1%} of steps" if steps else "-",
            "cycle p50, p99": f"{last['period_p50_ms']:.1f}, {last['period_p99_ms']:.1f} ms" if last else "-",
            "updates per step": f"{learner['update_ratio']:.2f} over {learner['steps']} steps" if learner else "-",
            "staleness": f"{learner['staleness_updates']:.0f} updates, {learner['staleness_s']:.1f} s"
            if learner
            else "-",
            "queue": f"{learner['lag_bytes']} bytes, {learner['lag_s']:.1f} s{learner['problem']}" if learner else "-",
            "robot minutes": f"{learner['robot_minutes']:.1f}" if learner else "-",
        }

    def _line(self, episode: Mapping[str, Any]) -> str:
        learner = self._learner
        shown = f"episode {self._count:4d}  {episode['length']:3d} steps  {episode['reason']:<10}"
        shown += f"  success {_rate(list(self._episodes))}  cycle {episode['period_p50_ms']:.1f} ms"
        if episode["human_steps"]:
            shown += f"  human {episode['human_steps']}"
        if learner:
            shown += f"  step {learner['steps']}  {learner['robot_minutes']:.1f} robot min"
            shown += f"  updates/step {learner['update_ratio']:.2f}  stale {learner['staleness_updates']:.0f}"
        return shown


def _rate(episodes: list[Mapping[str, Any]]) -> str:
    """Success of those that somebody judged, with the interval of Clopper and Pearson."""
    judged = [bool(episode["success"]) for episode in episodes if episode["success"] is not None]
    if not judged:
        return "-"
    low, high = clopper_pearson(sum(judged), len(judged))
    return f"{sum(judged) / len(judged):.2f} [{low:.2f}, {high:.2f}]"
