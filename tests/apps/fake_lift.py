"""A root with two demonstrations of a fake arm and a tiny base made for it: what learning around a base begins with."""

from __future__ import annotations

from pathlib import Path

from robot_rl.apps.main import main
from robot_rl.data.store import EpisodeStore
from tests.contracts.trained_base import save_base

ARM = ["task=lift", "robot=fake", "robot.objects=[cube]", "env.max_steps=20"]


def make_root(root: Path) -> Path:
    """``root`` with data/lift and runs/base in it."""
    assert main(["record", *ARM, "episodes=2", "keep_failures=true", f"root={root}"]) == 0
    spec = EpisodeStore.open(root / "data" / "lift").spec
    assert spec is not None
    save_base(root / "runs" / "base", spec)
    return root
