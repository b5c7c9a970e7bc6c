"""Where real demonstrations lie; tests that need them skip with a reason where they are absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def shared_data(name: str) -> Path:
    """Folder ``name`` of $ROBOT_RL_SHARED_DATA (default: shared/data beside the checkout), or a skip."""
    root = Path(os.environ.get("ROBOT_RL_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    folder = root / name
    if not folder.exists():
        pytest.skip(f"real demonstrations '{name}' are not at hand; set ROBOT_RL_SHARED_DATA to their folder")
    return folder
