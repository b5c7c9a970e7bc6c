"""Which episodes a dataset has and what was said about them: the index, with the annotations laid over it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from robot_rl.data.annotations import AnnotationLog
from robot_rl.data.episode_folder import EpisodeFolder
from robot_rl.data.index import EpisodeIndex, EpisodeInfo
from robot_rl.data.journal import disk_error
from robot_rl.errors import EpisodeError, StoreError, valid_choices


class Catalogue:
    """``index.jsonl`` and ``annotations.jsonl`` below ``root``, about the episodes in ``files``."""

    def __init__(self, root: Path, files: EpisodeFolder) -> None:
        self._root, self._files = root, files
        self._index = EpisodeIndex(root / "index.jsonl")
        self._annotations = AnnotationLog(root / "annotations.jsonl")

    def refresh(self) -> None:
        """Take note of what other processes added since."""
        self._index.refresh()
        self._annotations.refresh()

    @property
    def annotation_bytes(self) -> int:
        """Size of the annotations, which grows with every edit, whoever makes it."""
        return self._annotations.bytes

    def __contains__(self, id: str) -> bool:
        """Whether there is an episode of that id, deleted or not."""
        return id in self._index.infos

    def infos(self, where: Callable[[EpisodeInfo], bool] | None, excluded: bool) -> list[EpisodeInfo]:
        """Entries with annotations applied, in order of id, that satisfy ``where``; deleted ones never."""
        alive = (self._index.infos[id] for id in sorted(self._index.infos) if not self.is_deleted(id))
        infos = (self._annotations.apply(info) for info in alive)
        return [info for info in infos if (excluded or not info.exclude) and (where is None or where(info))]

    def info(self, id: str) -> EpisodeInfo:
        """The entry of one episode, annotations applied. Raises StoreError for an unknown or deleted one."""
        if id not in self:
            self.refresh()
        if id not in self or self.is_deleted(id):
            known = [info.id for info in self.infos(None, excluded=False)]
            raise StoreError(f"no episode '{id}' in {self._root}", remedy=valid_choices(id, known[:50]))
        return self._annotations.apply(self._index.infos[id])

    def deleted(self) -> list[EpisodeInfo]:
        """Entries of deleted episodes whose files are still there."""
        self.refresh()
        return [info for id, info in sorted(self._index.infos.items()) if self.is_deleted(id)]

    def is_deleted(self, id: str) -> bool:
        """Whether that episode was deleted, its file be there or not."""
        return bool(self.said(id).get("deleted"))

    def said(self, id: str) -> Mapping[str, Any]:
        """What was said about an episode; the last word counts."""
        return self._annotations.of(id)

    def annotate(self, id: str, edits: Mapping[str, Any], who: str) -> None:
        """Add to what is said about an episode.

        Raises StoreError for an unknown id, EpisodeError for the step of a success that the episode does not have, and
        DiskFullError.
        """
        info, step = self.info(id), edits.get("success_step")
        if step is not None and not (edits.get("success") and 0 <= step < info.length):
            limit = f"a success, in steps 0 to {info.length - 1}"
            raise EpisodeError(f"success={edits.get('success')} at step {step}", episode=id, limit=limit)
        try:
            self._annotations.append(id, edits, who)
        except OSError as error:
            raise disk_error(error, id, "the annotation cannot be written") from error

    def annotate_like(self, other: Catalogue) -> None:
        """Add what ``other`` says. Raises DiskFullError."""
        try:
            self._annotations.append_missing(other._annotations)
        except OSError as error:
            raise disk_error(error, "*", "annotations cannot be written") from error

    def add(self, info: EpisodeInfo) -> None:
        """Add an entry durably. Raises OSError on a full disk."""
        self._index.append([info])

    def complete(self) -> None:
        """Entries for files that have none, e.g. after a kill between rename and index line; drop dead entries."""
        found = self._files.ids()
        missing = [id for id in found if id not in self]
        if missing:
            self._index.append(self._files.describe(missing))
        if not self._index.infos.keys() <= set(found):
            self.drop_dead()

    def drop_dead(self) -> None:
        """Take out entries whose files are gone."""
        self._index.rewrite(self._entries_with_files)

    def rebuild(self) -> None:
        """Make the index anew from the files; those that cannot be read are left out."""
        self._index.rewrite(lambda: self._files.describe(self._files.ids()))

    def _entries_with_files(self) -> list[EpisodeInfo]:
        self._index.refresh()
        return [info for info in self._index.infos.values() if (self._root / info.file).exists()]
