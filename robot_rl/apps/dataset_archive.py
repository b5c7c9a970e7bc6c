"""robot-rl dataset archive | restore: a dataset on the shelf, its frames smaller, and back bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

Progress = Callable[[str, int], AbstractContextManager[Callable[[], None]]]


def archive(store: Any, target: Path, progress: Progress) -> None:
    """Copy the dataset to the folder ``target`` with its JPEG frames as JPEG XL; later episodes are added next time."""
    from robot_rl.data.archive import archived
    from robot_rl.data.store import EpisodeStore

    _copy(store, EpisodeStore.open_or_create(target, spec=store.spec, name=store.name), archived, progress)


def restore(source: Path, folder: Path, name: str, progress: Progress) -> None:
    """Bring the episodes of the archive ``source`` into the dataset in ``folder``, as they were recorded."""
    from robot_rl.data.archive import restored
    from robot_rl.data.store import EpisodeStore

    store = EpisodeStore.open(source, recover=False)
    _copy(store, EpisodeStore.open_or_create(folder, spec=store.spec, name=name), restored, progress)


def _copy(source: Any, target: Any, change: Any, progress: Progress) -> None:
    from robot_rl.data.archive import copy_episodes

    total = len(source.ids(excluded=True))
    try:
        with progress(f"copy {source.name}", total) as advance:
            done = copy_episodes(source, target, change, advance)
    except KeyboardInterrupt:
        print(f"{len(target.ids(excluded=True))} of {total} episodes are in {target.root}; run again to continue")
        raise
    before, after = done.bytes_read / 1e6, done.bytes_written / 1e6
    print(f"{done.copied} episodes, {before:.1f} MB, written to {target.root}, {after:.1f} MB")
    if done.skipped:
        print(f"{done.skipped} episodes were there already and were left alone")
