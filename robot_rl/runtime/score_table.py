"""Evaluations and their comparison as tables for the terminal; rates always with their interval."""

from __future__ import annotations

from rich.table import Table

from robot_rl.runtime.evaluation import PairedComparison
from robot_rl.runtime.scores import EvaluationReport


def score_table(*reports: EvaluationReport) -> Table:
    """One row per report."""
    tasks = ", ".join(dict.fromkeys(report.task for report in reports))
    table = Table(title=f"evaluation on {tasks}")
    table.add_column("policy", overflow="fold")
    for heading in ("episodes", "success (95 %)", "best reward (95 %)", "steps"):
        table.add_column(heading, no_wrap=True)
    for report in reports:
        table.add_row(
            report.policy,
            str(len(report.episodes)),
            f"{report.success_rate:.3f} {_interval(report.success_interval)}",
            f"{report.best_reward_mean:.3f} {_interval(report.best_reward_interval)}",
            f"{report.mean_length:.0f}",
        )
    faults = [episode for report in reports for episode in report.faults]
    if faults:
        table.caption = f"{len(faults)} episodes ended by a fault; seed {faults[0].seed}: {faults[0].reason}"
    return table


def comparison_table(result: PairedComparison) -> Table:
    """Differences, first minus second, over the seeds both ran."""
    title = f"{result.first} minus {result.second}, {result.pairs} paired seeds"
    table = Table("", "difference", "95 %", "p", "test", title=title)
    discordant = f"exact McNemar, {result.only_first} : {result.only_second}"
    table.add_row("success", f"{result.success_difference:+.3f}", "", f"{result.p_success:.4f}", discordant)
    table.add_row(
        "best reward",
        f"{result.best_reward_difference:+.4f}",
        _interval(result.best_reward_interval_95),
        f"{result.p_best_reward:.4f}",
        "sign flips",
    )
    return table


def _interval(bounds: tuple[float, float]) -> str:
    return f"({bounds[0]:.3f}, {bounds[1]:.3f})"
