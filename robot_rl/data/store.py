"""A folder of immutable episode files, with an index, annotations, and recovery of what a crash left behind.

dataset.json                  schema version, name, feature table (EnvSpec)
episodes/<id>.zarr.zip        the truth
journal/<id>.journal          only while recording, or after a crash
journal/<id>.remote           the same of an actor elsewhere, as far as it has arrived (robot_rl.transport)
outbox/<id>.journal           in an actor's store: a second name of each journal until the learner has the episode
index.jsonl, verified.jsonl   caches, rebuilt from the files
annotations.jsonl             edits by id, deletions too
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from robot_rl.data.catalogue import Catalogue
from robot_rl.data.commit import recover_journal
from robot_rl.data.dataset_file import DatasetFile, is_blank
from robot_rl.data.episode import Episode
from robot_rl.data.episode_folder import EpisodeFolder, Finding
from robot_rl.data.episode_id import check_id, new_id
from robot_rl.data.file_lock import remove_orphans
from robot_rl.data.foreign import describe_foreign
from robot_rl.data.index import EpisodeInfo
from robot_rl.data.journal import disk_error
from robot_rl.data.metadata import complete_metadata, plain
from robot_rl.data.stored_zip import MAX_BYTES
from robot_rl.data.writer import EpisodeWriter
from robot_rl.errors import EpisodeError, SpecMismatchError, StoreError
from robot_rl.types import ArraySpec, EnvSpec, compare_specs

_log = logging.getLogger(__name__)

__all__ = ["EpisodeInfo", "EpisodeStore", "EpisodeWriter", "Finding"]


class EpisodeStore:
    """Episodes by id. Several processes may record into and read from one store at the same time."""

    def __init__(self, root: Path, name: str, spec: EnvSpec | None) -> None:
        self.root, self.name, self.spec = root, name, spec
        for folder in ("episodes", "journal"):  # a copy may have lost the empty one
            (root / folder).mkdir(exist_ok=True)
        self._files = EpisodeFolder(root)
        self._catalogue = Catalogue(root, self._files)

    # --- opening ---------------------------------------------------------------------------------------------------

    @classmethod
    def create(cls, root: str | Path, *, name: str = "", spec: EnvSpec | None = None) -> EpisodeStore:
        """A new dataset in the folder ``root``, which may exist but must be empty. Raises StoreError."""
        root = Path(root)
        if root.exists() and not is_blank(root):
            raise StoreError(
                f"{root} is not empty ({describe_foreign(root)[0]})", remedy="Choose a new folder, or open this one"
            )
        root.mkdir(parents=True, exist_ok=True)
        store = cls(root, name or root.name, spec)
        DatasetFile(store.name, spec).write(root)
        return store

    @classmethod
    def open(cls, root: str | Path, *, recover: bool = True) -> EpisodeStore:
        """The dataset in ``root``, after recovering what a killed writer left there (``recover``).

        Where that is impossible now (no space, no permission to write) it is logged and left for later. A dataset
        without episodes opens; ``ids()`` is then empty. Raises StoreError when there is none, telling what is there
        instead, and SchemaVersionError when a newer software wrote it.
        """
        root = Path(root)
        described = DatasetFile.read(root)
        store = cls(root, described.name, described.spec)
        store.refresh()
        if recover:
            store._recover_if_possible()
        return store

    @classmethod
    def open_or_create(cls, root: str | Path, spec: EnvSpec | None = None, name: str = "") -> EpisodeStore:
        """``open`` where there is a dataset, else ``create``. Raises SpecMismatchError for another kind of data."""
        if not DatasetFile.exists(Path(root)):
            return cls.create(root, name=name, spec=spec)
        store = cls.open(root)
        if spec is not None:
            store.adopt(spec)
        return store

    # --- reading ---------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Take note of episodes and annotations that other processes added since."""
        self._catalogue.refresh()

    @property
    def annotation_bytes(self) -> int:
        """Grows with every edit, whichever process makes it; costs a look at the file's size."""
        return self._catalogue.annotation_bytes

    def ids(self, *, excluded: bool = False) -> list[str]:
        """Ids in order of recording; those annotated ``exclude`` only on demand, deleted ones never."""
        return [info.id for info in self.infos(excluded=excluded)]

    def infos(self, where: Callable[[EpisodeInfo], bool] | None = None, *, excluded: bool = False) -> list[EpisodeInfo]:
        """Index entries with annotations applied, in order of id, that satisfy ``where``."""
        return self._catalogue.infos(where, excluded)

    def deleted(self) -> list[EpisodeInfo]:
        """Entries of episodes marked as deleted whose files are still there."""
        return self._catalogue.deleted()

    def __contains__(self, id: str) -> bool:
        """Whether that id is taken, be it by an episode that was deleted."""
        return id in self._catalogue or self._catalogue.is_deleted(id)

    def read(self, id: str, *, annotated: bool = True) -> Episode:
        """The episode as read-only views of its memory-mapped file, annotations laid over its metadata (``annotated``).

        The whole file is checked the first time it is read on this machine. Raises StoreError for an unknown id,
        CorruptEpisodeError and SchemaVersionError.
        """
        episode = self._files.open_checked(self._catalogue.info(id)).read()
        edits = self._catalogue.said(id)
        return replace(episode, metadata={**episode.metadata, **edits}) if edits and annotated else episode

    def verify(self, ids: Iterable[str] | None = None) -> list[Finding]:
        """Read every byte of the given episodes (default: all) and report what is wrong; empty when all is well.

        Files that belong to no episode (unreadable ones, journals set aside) are reported in any case.
        """
        infos = self.infos(excluded=True) if ids is None else [self._catalogue.info(id) for id in ids]
        problems = ((info, self._files.examine(info)) for info in infos)
        found = [Finding(info.id, info.file, text) for info, text in problems if text]
        return found + self._files.strays(self._catalogue)

    # --- writing ---------------------------------------------------------------------------------------------------

    def begin(
        self,
        spec: EnvSpec,
        metadata: Mapping[str, Any] | None = None,
        *,
        extras: Mapping[str, ArraySpec] | None = None,
        ring_steps: int = 256,
        ring_bytes: int = 2**28,
        max_bytes: int = MAX_BYTES - 2**26,
    ) -> EpisodeWriter:
        """Begin recording an episode; ``extras`` declares the arrays of ``StepRow.extras``, stored as policy/<name>.

        The first episode gives the store its spec; later ones must agree with it (SpecMismatchError). Memory is bound
        by the ring: ``ring_steps`` rows and ``ring_bytes``; rows beyond ``max_bytes`` (2 GiB is the limit of the file)
        are refused. Raises DiskFullError.
        """
        self.adopt(spec)
        id = new_id()
        path = self.root / "journal" / f"{id}.journal"
        limits = {"ring_steps": ring_steps, "ring_bytes": ring_bytes, "max_bytes": max_bytes}
        writer = EpisodeWriter(id, path, spec, metadata or {}, self._commit_journal, extras=extras or {}, **limits)
        if (outbox := self.root / "outbox").is_dir():
            writer.share(outbox)
        return writer

    def adopt(self, spec: EnvSpec) -> None:
        """Take ``spec`` as that of a store without one. Raises SpecMismatchError when the store's disagrees with it."""
        if self.spec is None:
            self.spec = spec
            DatasetFile(self.name, spec).write(self.root)
            return
        refused, _ = compare_specs(self.spec, spec)
        if refused:
            raise SpecMismatchError(
                f"{self.root} holds other data: {'; '.join(refused)}", remedy="Record into a new dataset"
            )

    def write(self, episode: Episode) -> EpisodeInfo:
        """Store a whole episode (an import); an empty id gets a fresh one. Atomic, and validated before.

        Raises EpisodeError naming episode, array and row, also when the id is taken, and DiskFullError.
        """
        episode = replace(episode, id=check_id(episode.id) if episode.id else new_id())
        if self._catalogue.is_deleted(episode.id):
            raise EpisodeError("was deleted from the store", episode=episode.id, remedy="Give it another id, or none")
        if episode.id in self._catalogue or self._files.path(episode.id).exists():
            raise EpisodeError("is in the store already", episode=episode.id, remedy="Give it another id, or none")
        episode.validate()
        if self.spec is not None:
            episode.validate_spec(self.spec)
        return self._commit(replace(episode, metadata=plain(episode.metadata, episode.id)))

    def annotate(
        self,
        id: str,
        *,
        success: bool | None = None,
        success_step: int | None = None,
        exclude: bool | None = None,
        split: str | None = None,
        task: str | None = None,
        note: str | None = None,
        who: str = "",
    ) -> None:
        """Say something about an episode; None leaves what was said before.

        ``success_step`` is the control step that brought the success, where that is another than the recorded one; a
        word on ``success`` without it takes back what was said about the step. Raises StoreError for an unknown id,
        EpisodeError for a step that the episode does not have, and DiskFullError.
        """
        given = {"success": success, "exclude": exclude, "split": split, "task": task, "note": note}
        edits = {key: value for key, value in given.items() if value is not None}
        step = {} if success is None and success_step is None else {"success_step": success_step}
        self._catalogue.annotate(id, edits | step, who)

    def annotate_like(self, other: EpisodeStore) -> None:
        """Say what was said in ``other``, word for word, where it was not said here. Raises DiskFullError."""
        self._catalogue.annotate_like(other._catalogue)

    def delete(self, id: str, *, who: str = "") -> None:
        """Take an episode out of the dataset; its file stays until ``gc``."""
        self._catalogue.annotate(id, {"deleted": True}, who)

    def gc(self) -> list[str]:
        """Remove the files of deleted episodes for good; returns their ids."""
        self.refresh()
        gone = [id for id in self._files.ids() if self._catalogue.is_deleted(id)]
        for id in gone:
            self._files.path(id).unlink(missing_ok=True)
        if gone:
            self._catalogue.drop_dead()
        return gone

    def drop(self, ids: Iterable[str]) -> None:
        """Remove the files of episodes that are safe elsewhere; what is not here is left out."""
        paths = [self._files.path(id) for id in ids]
        there = [path for path in paths if path.exists()]
        for path in there:
            path.unlink()
        if there:
            self._catalogue.drop_dead()

    # --- recovery --------------------------------------------------------------------------------------------------

    def recover(self) -> list[EpisodeInfo]:
        """Commit what killed writers left in their journals, remove temporary files, complete the index.

        Touches nothing whose writer lives. Idempotent; ``open`` calls it. Returns the episodes recovered.
        """
        recovered = []
        remove_orphans(self.root)
        remove_orphans(self.root / "episodes")
        for path in sorted((self.root / "journal").glob("*.journal")):
            recovered += recover_journal(path, self._files.path(path.stem), self._commit)
        self._catalogue.complete()
        return recovered

    def commit_remote(self, journal: Path) -> EpisodeInfo | None:
        """Commit the episode of an actor elsewhere from the journal ``journal/<id>.remote`` that has arrived here.

        Returns None when it is committed already, or makes no episode (its journal is then set aside as
        ``<id>.damaged``, or removed when it has no row). Raises DiskFullError.
        """
        infos = recover_journal(journal, self._files.path(journal.stem), self._commit)
        return infos[0] if infos else None

    def repair(self) -> list[EpisodeInfo]:
        """``recover``, and the index made anew from the files; returns the episodes recovered."""
        recovered = self.recover()
        self.rebuild_index()
        return recovered

    def rebuild_index(self) -> None:
        """Make ``index.jsonl`` anew from the episode files; files that cannot be read are left out."""
        self._catalogue.rebuild()

    # --- inside ----------------------------------------------------------------------------------------------------

    def _recover_if_possible(self) -> None:
        try:
            self.recover()
        except OSError as error:  # DiskFullError is one
            _log.warning("%s is opened without recovering what a killed writer left: %s", self.root, error)

    def _commit_journal(self, path: Path) -> EpisodeInfo:
        (info,) = recover_journal(path, self._files.path(path.stem), self._commit, own=True)
        return info

    def _commit(self, episode: Episode) -> EpisodeInfo:
        try:
            info = self._files.commit(complete_metadata(episode, self.spec))
            self._catalogue.add(info)
        except OSError as error:
            raise disk_error(error, episode.id, "the episode file cannot be written") from error
        return info
