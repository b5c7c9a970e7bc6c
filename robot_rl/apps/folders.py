"""Where datasets and runs of a root lie, and which names they may have."""

from __future__ import annotations

from pathlib import Path

from robot_rl.errors import ConfigError

_LONGEST = 200  # bytes; file systems take 255, and more is put behind it


def dataset_folder(root: str, name: str) -> Path:
    """<root>/data/<name>. Raises ConfigError for a name that is not that of one folder in there."""
    return _named(Path(root) / "data", name)


def run_folder(root: str, name: str) -> Path:
    """<root>/runs/<name>. Raises ConfigError for a name that is not that of one folder in there."""
    return _named(Path(root) / "runs", name)


def _named(parent: Path, name: str) -> Path:
    if name != Path(name).name or name.startswith(".") or "\0" in name or len(name.encode()) > _LONGEST:
        raise ConfigError(
            f"'{name[:_LONGEST]}' cannot be the name of a folder in {parent}",
            limit=f"one name of at most {_LONGEST} bytes, without '/' and without '.' in front",
            remedy="Choose where with root=",
        )
    return parent / name
