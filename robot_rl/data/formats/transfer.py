"""Between foreign recordings and a store: import that can be interrupted and resumed, and a store as recordings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from robot_rl.data.episode import Episode
from robot_rl.data.formats.interchange import Recording, RecordingSet
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import EpisodeError, SpecMismatchError, StoreError
from robot_rl.types import EnvSpec, compare_specs


@dataclass(frozen=True)
class ImportSummary:
    """What an import did; ``skipped`` episodes were in the store already, ``invalid`` says why some were left out."""

    imported: int
    skipped: int
    steps: int
    invalid: Sequence[str] = ()


def import_recordings(
    store: EpisodeStore,
    foreign: RecordingSet,
    advance: Callable[[], None] = lambda: None,
    *,
    skip_invalid: bool = False,
) -> ImportSummary:
    """Write every recording that the store does not hold yet, each committed whole: interrupted imports resume.

    Raises SpecMismatchError when the store was made for something else, and EpisodeError for an episode that is not
    valid (``skip_invalid`` leaves those out instead); what was written before stays.
    """
    _check_spec(store, foreign.spec)
    known = {info.metadata.get("source_id"): info for info in store.infos(excluded=True)}
    imported = skipped = steps = 0
    invalid: list[str] = []
    for recording in foreign.recordings:
        if recording.source_id in known:
            info = known[recording.source_id]
            if recording.split and not info.split:  # killed between the episode and its annotation
                store.annotate(info.id, split=recording.split, who="import")
            skipped += 1
        else:
            try:
                _import_one(store, recording)
                imported, steps = imported + 1, steps + recording.steps
            except EpisodeError as error:
                if not skip_invalid:
                    raise
                invalid.append(str(error))
        advance()
    return ImportSummary(imported, skipped, steps, invalid)


def _import_one(store: EpisodeStore, recording: Recording) -> None:
    try:
        info = store.write(recording.load())
    except EpisodeError as error:
        what = f"{recording.source_id} cannot be imported, {error.what}"
        raise EpisodeError(what, limit=error.limit, remedy=error.remedy) from error
    if recording.split:
        store.annotate(info.id, split=recording.split, who="import")


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
