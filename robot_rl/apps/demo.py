"""``robot-rl demo``: record scripted lift episodes, train a diffusion policy, evaluate it; prints a table and paths."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_rl.apps.main import run_command


@dataclass
class Config:
    """Keys of ``robot-rl demo``."""

    root: str
    name: str
    episodes: int
    image_episodes: int
    evaluations: int
    steps: int | None
    seed: int


def run(config: Any) -> None:
    """Run the commands one after another; what is there already is not done again."""
    from rich.console import Console

    began = time.monotonic()
    run_folder = Path(config.root) / "runs" / config.name
    plain = config.episodes - config.image_episodes
    record = ["record", "task=lift", "teleop=scripted", f"name={config.name}"]
    train = ["train", "task=lift", f"data={config.name}", f"name={config.name}", f"seed={config.seed}", "resume=true"]
    steps = [f"steps={config.steps}"] if config.steps else []
    minutes: dict[str, float] = {}
    for title, words in (
        ("record", [*record, f"episodes={plain}"]),
        ("record with images", [*record, f"episodes={config.episodes}", "camera=front_wrist"]),
        ("train", [*train, *steps]),
        ("evaluate", ["evaluate", f"checkpoint={run_folder}", f"episodes={config.evaluations}"]),
    ):
        start = time.monotonic()
        command = [*words, f"root={config.root}"]
        Console().print(f"\n[bold]robot-rl {shlex.join(command)}[/bold]", soft_wrap=True, highlight=False)
        run_command(command[0], command[1:])
        minutes[title] = (time.monotonic() - start) / 60
    _summary(config, run_folder, minutes, (time.monotonic() - began) / 60)


def _summary(config: Any, run_folder: Path, minutes: dict[str, float], total: float) -> None:
    from rich.console import Console
    from rich.table import Table

    from robot_rl.data.store import EpisodeStore
    from robot_rl.runtime.scores import EvaluationReport

    store = EpisodeStore.open(Path(config.root) / "data" / config.name)
    newest = max((run_folder / "evaluation").glob("*.json"), key=lambda path: path.stat().st_mtime)
    report = EvaluationReport.load(newest)
    low, high = report.success_interval
    table = Table("", "", title="robot-rl demo: lift", show_header=False)
    infos = store.infos()
    table.add_row("demonstrations", f"{len(infos)} episodes, {sum(info.length for info in infos)} steps")
    table.add_row(
        "success",
        f"{report.successes} of {len(report.episodes)} seeds: {report.success_rate:.2f} [{low:.2f}, {high:.2f}]",
    )
    table.add_row(
        "minutes", ", ".join(f"{name} {value:.1f}" for name, value in minutes.items()) + f"; {total:.1f} in all"
    )
    table.add_row("plots", f"{run_folder / 'loss.png'}\n{run_folder / 'samples.png'}")
    table.add_row("videos", "\n".join(str(path) for path in sorted((run_folder / "evaluation").glob("*.mp4"))))
    table.add_row("next", f"robot-rl evaluate checkpoint={run_folder} episodes=200")
    Console().print(table)
