"""Between foreign recordings and a store: import that can be interrupted and resumed, and a store as recordings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from robot_rl.data.episode import Episode
from robot_rl.data.formats.interchange import Recording, RecordingSet
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import SpecMismatchError, StoreError
from robot_rl.types import EnvSpec, compare_specs


@dataclass(frozen=True)
class ImportSummary:
    """What an import did; ``skipped`` episodes were in the store already."""

    imported: int
    skipped: int
    steps: int


def import_recordings(
    store: EpisodeStore, foreign: RecordingSet, advance: Callable[[], None] = lambda: None
) -> ImportSummary:
    """Write every recording that the store does not hold yet, each committed whole: interrupted imports resume.

    Raises SpecMismatchError when the store was made for something else, EpisodeError for an episode that is not valid.
    """
    _check_spec(store, foreign.spec)
    known = {info.metadata.get("source_id") for info in store.infos()}
    imported = skipped = steps = 0
    for recording in foreign.recordings:
        if recording.source_id in known:
            skipped += 1
        else:
            info = store.write(recording.load())
            if recording.split:
                store.annotate(info.id, split=recording.split, who="import")
            imported, steps = imported + 1, steps + recording.steps
        advance()
    return ImportSummary(imported, skipped, steps)


def stored_recordings(
    store: EpisodeStore, where: Callable[[Any], bool] | None = None, advance: Callable[[], None] = lambda: None
) -> RecordingSet:
    """The episodes of a store as a format writes them; ``advance`` is called as each is read."""
    if store.spec is None:
        raise StoreError(f"'{store.root}' does not say what it holds", remedy="Record or import into it first")

    def recording(info: Any) -> Recording:
        def load() -> Episode:
            episode = store.read(info.id)
            advance()
            return replace(episode, metadata={**episode.metadata, "success": info.success})

        return Recording(info.id, info.length, load, split=info.split or "")

    recordings: Sequence[Recording] = [recording(info) for info in store.infos(where)]
    return RecordingSet(store.spec, recordings)


def _check_spec(store: EpisodeStore, spec: EnvSpec) -> None:
    if store.spec is None:
        return
    refused, listed = compare_specs(store.spec, spec)
    if set(spec.cameras) != set(store.spec.cameras):
        refused.append(f"cameras: {sorted(store.spec.cameras)} in the store, {sorted(spec.cameras)} in the source")
    if refused:
        raise SpecMismatchError(
            f"the source does not fit dataset '{store.root.name}': {'; '.join(refused + listed)}",
            remedy="Import it under another name",
        )
