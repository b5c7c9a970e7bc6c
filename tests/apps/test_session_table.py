"""What a session shows: figures of both ends in a table on a terminal, lines elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from robot_rl.apps.session_table import SessionTable
from robot_rl.runtime.processes import Told

EPISODE = {
    "episode": 1, "length": 20, "reason": "success", "success": True, "steps": 20, "human_steps": 5,
    "period_p50_ms": 50.04, "period_p99_ms": 51.2, "version": 8, "learner_age_s": 0.1, "lag_bytes": 0,
}  # fmt: skip
LEARNER = {
    "steps": 1200, "robot_minutes": 1.0, "actors": 1, "lag_bytes": 300, "lag_s": 0.05, "problem": "",
    "head": 1260.0, "updates": 2400.0, "update_ratio": 2.0, "staleness_updates": 16.0, "staleness_s": 0.4,
}  # fmt: skip


def shown(*told: Told, terminal: bool = False) -> tuple[SessionTable, str]:
    """The table after all of this, and what was written."""
    out = io.StringIO()
    with SessionTable(Console(file=out, width=100, force_terminal=terminal)) as table:
        for one in told:
            table.take(one)
        table.draw()
    return table, out.getvalue()


def test_the_table_tells_of_both_ends() -> None:
    failed = {**EPISODE, "reason": "time_limit", "success": False, "human_steps": 0}
    unjudged = {**EPISODE, "success": None, "reason": "fault: reflex"}
    episodes = [Told("actor", figures) for figures in (EPISODE, failed, unjudged)]
    table, text = shown(*episodes, Told("learner", LEARNER), terminal=True)
    assert table.rows() == {
        "episode": "3, the last 20 steps: fault: reflex",
        "success of the last 3": "0.50 [0.01, 0.99]",  # of two that were judged, Clopper-Pearson
        "interventions": "16.7% of steps",
        "cycle p50, p99": "50.0, 51.2 ms",
        "updates per step": "2.00 over 1200 steps",
        "staleness": "16 updates, 0.4 s",
        "queue": "300 bytes, 0.1 s",
        "robot minutes": "1.0",
    }
    assert "16.7% of steps" in text


def test_without_a_terminal_there_is_a_line_per_episode() -> None:
    _, text = shown(Told("learner", LEARNER), Told("actor", EPISODE), Told("actor", EPISODE), Told("actor", line="oh"))
    first, second, third = text.splitlines()
    assert first.startswith("episode    1   20 steps  success     success 1.00 [0.03, 1.00]  cycle 50.0 ms  human 5")
    assert second.startswith("episode    2") and second.endswith("updates/step 2.00  stale 16")
    assert third == "actor   | oh"


@pytest.mark.parametrize("told", [(), (Told("learner", LEARNER),), (Told("actor", code=0),)])
def test_before_anything_is_known_there_are_dashes(told: tuple[Told, ...]) -> None:
    table, _ = shown(*told)
    assert table.rows()["episode"] == table.rows()["interventions"] == "-"
