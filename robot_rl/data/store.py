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

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from robot_rl.data.annotations import AnnotationLog
from robot_rl.data.commit import recover_journal
from robot_rl.data.episode import SCHEMA, SCHEMA_VERSION, Episode
from robot_rl.data.episode_file import check_version
from robot_rl.data.episode_folder import EpisodeFolder
from robot_rl.data.episode_id import check_id, new_id
from robot_rl.data.file_lock import remove_orphans, replace_file
from robot_rl.data.foreign import describe_foreign
from robot_rl.data.index import EpisodeIndex, EpisodeInfo
from robot_rl.data.journal import disk_error
from robot_rl.data.recording import describe_arrays, plain
from robot_rl.data.stored_zip import MAX_BYTES
from robot_rl.data.writer import EpisodeWriter
from robot_rl.errors import EpisodeError, SpecMismatchError, StoreError, valid_choices
from robot_rl.types import ArraySpec, EnvSpec, compare_specs

_log = logging.getLogger(__name__)

__all__ = ["EpisodeInfo", "EpisodeStore", "EpisodeWriter", "Finding"]


@dataclass(frozen=True)
class Finding:
    """Something wrong with a file of the store."""

    id: str
    file: str
    problem: str


class EpisodeStore:
    """Episodes by id. Several processes may record into and read from one store at the same time."""

    def __init__(self, root: Path, name: str, spec: EnvSpec | None) -> None:
        self.root, self.name, self.spec = root, name, spec
        for folder in ("episodes", "journal"):  # a copy may have lost the empty one
            (root / folder).mkdir(exist_ok=True)
        self._index = EpisodeIndex(root / "index.jsonl")
        self._annotations = AnnotationLog(root / "annotations.jsonl")
        self._files = EpisodeFolder(root)

    # --- opening ---------------------------------------------------------------------------------------------------

    @classmethod
    def create(cls, root: str | Path, *, name: str = "", spec: EnvSpec | None = None) -> EpisodeStore:
        """A new dataset in the folder ``root``, which may exist but must be empty. Raises StoreError."""
        root = Path(root)
        if root.exists() and not _is_blank(root):
            raise StoreError(
                f"{root} is not empty ({describe_foreign(root)[0]})", remedy="Choose a new folder, or open this one"
            )
        root.mkdir(parents=True, exist_ok=True)
        store = cls(root, name or root.name, spec)
        store._write_dataset()
        return store

    @classmethod
    def open(cls, root: str | Path, *, recover: bool = True) -> EpisodeStore:
        """The dataset in ``root``, after recovering what a killed writer left there (``recover``).

        Where that is impossible now (no space, no permission to write) it is logged and left for later. A dataset
        without episodes opens; ``ids()`` is then empty. Raises StoreError when there is none, telling what is there
        instead, and SchemaVersionError when a newer software wrote it.
        """
        root = Path(root)
        try:
            described = json.loads((root / "dataset.json").read_bytes())
            if described["schema"] != SCHEMA:
                raise StoreError(f"{root} is of schema '{described['schema']}'", limit=SCHEMA)
            check_version(str(described["schema_version"]))
            name, spec = described["name"], described["spec"]
            spec = None if spec is None else EnvSpec.from_json(spec)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            found, remedy = describe_foreign(root)
            raise StoreError(f"{root} is no episode store: {found}", remedy=remedy) from error
        store = cls(root, name, spec)
        store.refresh()
        if recover:
            store._recover_if_possible()
        return store

    @classmethod
    def open_or_create(cls, root: str | Path, spec: EnvSpec | None = None, name: str = "") -> EpisodeStore:
        """``open`` where there is a dataset, else ``create``. Raises SpecMismatchError for another kind of data."""
        if not (Path(root) / "dataset.json").exists():
            return cls.create(root, name=name, spec=spec)
        store = cls.open(root)
        if spec is not None:
            store.adopt(spec)
        return store

    # --- reading ---------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Take note of episodes and annotations that other processes added since."""
        self._index.refresh()
        self._annotations.refresh()

    @property
    def annotation_bytes(self) -> int:
        """Grows with every edit, whichever process makes it; costs a look at the file's size."""
        return self._annotations.bytes

    def ids(self, *, excluded: bool = False) -> list[str]:
        """Ids in order of recording; those annotated ``exclude`` only on demand, deleted ones never."""
        return [info.id for info in self.infos(excluded=excluded)]

    def infos(self, where: Callable[[EpisodeInfo], bool] | None = None, *, excluded: bool = False) -> list[EpisodeInfo]:
        """Index entries with annotations applied, in order of id, that satisfy ``where``."""
        alive = (self._index.infos[key] for key in sorted(self._index.infos) if not self._deleted(key))
        infos = (self._annotations.apply(info) for info in alive)
        return [info for info in infos if (excluded or not info.exclude) and (where is None or where(info))]

    def deleted(self) -> list[EpisodeInfo]:
        """Entries of episodes marked as deleted whose files are still there."""
        self.refresh()
        return [info for key, info in sorted(self._index.infos.items()) if self._deleted(key)]

    def read(self, id: str) -> Episode:
        """The episode as read-only views of its memory-mapped file, annotations laid over its metadata.

        The whole file is checked the first time it is read on this machine. Raises StoreError for an unknown id,
        CorruptEpisodeError and SchemaVersionError.
        """
        episode = self._files.open_checked(self._info(id)).read()
        edits = self._annotations.of(id)
        return replace(episode, metadata={**episode.metadata, **edits}) if edits else episode

    def verify(self, ids: Iterable[str] | None = None) -> list[Finding]:
        """Read every byte of the given episodes (default: all) and report what is wrong; empty when all is well.

        Files that belong to no episode (unreadable ones, journals set aside) are reported in any case.
        """
        infos = self.infos(excluded=True) if ids is None else [self._info(id) for id in ids]
        problems = ((info, self._files.examine(info)) for info in infos)
        return [Finding(info.id, info.file, text) for info, text in problems if text] + self._stray_files()

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
        writer = EpisodeWriter(
            id,
            path,
            spec,
            metadata or {},
            self._commit_journal,
            extras=extras or {},
            ring_steps=ring_steps,
            ring_bytes=ring_bytes,
            max_bytes=max_bytes,
        )
        self._give_to_outbox(writer, path)
        return writer

    def adopt(self, spec: EnvSpec) -> None:
        """Take ``spec`` as that of a store without one. Raises SpecMismatchError when the store's disagrees with it."""
        if self.spec is None:
            self.spec = spec
            self._write_dataset()
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
        if self._deleted(episode.id):
            raise EpisodeError("was deleted from the store", episode=episode.id, remedy="Give it another id, or none")
        if episode.id in self._index.infos or self._files.path(episode.id).exists():
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
        info = self._info(id)
        if success_step is not None and not (success and 0 <= success_step < info.length):
            limit = f"a success, in steps 0 to {info.length - 1}"
            raise EpisodeError(f"success={success} at step {success_step}", episode=id, limit=limit)
        given = {"success": success, "exclude": exclude, "split": split, "task": task, "note": note}
        edits = {key: value for key, value in given.items() if value is not None}
        self._say(id, edits | ({} if success is None else {"success_step": success_step}), who)

    def delete(self, id: str, *, who: str = "") -> None:
        """Take an episode out of the dataset; its file stays until ``gc``."""
        self._info(id)
        self._say(id, {"deleted": True}, who)

    def gc(self) -> list[str]:
        """Remove the files of deleted episodes for good; returns their ids."""
        self.refresh()
        gone = [id for id in self._files.ids() if self._deleted(id)]
        for id in gone:
            self._files.path(id).unlink(missing_ok=True)
        if gone:
            self._index.rewrite(self._entries_with_files)
        return gone

    def drop(self, ids: Iterable[str]) -> None:
        """Remove the files of episodes that are safe elsewhere; what is not here is left out."""
        paths = [self._files.path(id) for id in ids]
        there = [path for path in paths if path.exists()]
        for path in there:
            path.unlink()
        if there:
            self._index.rewrite(self._entries_with_files)

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
        self._index_missing()
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
        self._index.rewrite(lambda: self._files.describe(self._files.ids()))

    # --- inside ----------------------------------------------------------------------------------------------------

    def _recover_if_possible(self) -> None:
        try:
            self.recover()
        except OSError as error:  # DiskFullError is one
            _log.warning("%s is opened without recovering what a killed writer left: %s", self.root, error)

    def _give_to_outbox(self, writer: EpisodeWriter, journal: Path) -> None:
        """A second name for the journal where there is an outbox, before the first row: no row can miss its way."""
        outbox = self.root / "outbox"
        if not outbox.is_dir():
            return
        try:
            (outbox / journal.name).hardlink_to(journal)
        except OSError as error:
            writer.discard("it would not be shipped")
            raise StoreError(
                f"episode {writer.id} cannot be put into {outbox}: {error.strerror}",
                remedy="Put the actor's store on a local disk whose file system has hard links",
            ) from error

    def _index_missing(self) -> None:
        """Entries for files that have none, e.g. after a kill between rename and index line; drop dead entries."""
        found = self._files.ids()
        missing = [id for id in found if id not in self._index.infos]
        if missing:
            self._index.append(self._files.describe(missing))
        if not self._index.infos.keys() <= set(found):
            self._index.rewrite(self._entries_with_files)

    def _entries_with_files(self) -> list[EpisodeInfo]:
        self._index.refresh()
        return [info for info in self._index.infos.values() if (self.root / info.file).exists()]

    def _stray_files(self) -> list[Finding]:
        unread = [id for id in self._files.ids() if id not in self._index.infos]
        problem = "cannot be read, or holds another episode, so it is not in the index: restore or remove the file"
        findings = [Finding(id, f"episodes/{self._files.path(id).name}", problem) for id in unread]
        problem = "a damaged journal was set aside: what could be read of it is an episode"
        for path in sorted((self.root / "journal").glob("*.damaged")):
            findings.append(Finding(path.stem, f"journal/{path.name}", problem))
        return findings

    def _commit_journal(self, path: Path) -> EpisodeInfo:
        (info,) = recover_journal(path, self._files.path(path.stem), self._commit, own=True)
        return info

    def _commit(self, episode: Episode) -> EpisodeInfo:
        own = {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "id": episode.id,
            "part": 0,
            "length": episode.steps,
            "rows": episode.rows,
        }
        defaults: dict[str, Any] = {
            "success": None,
            "ended": True,
            "recovered": False,
            "policies": [],
            "total_reward": float(episode.arrays["rl/reward"].sum(dtype="float64")),
        }
        if self.spec is not None:
            spec = self.spec
            defaults |= {
                "task": spec.task,
                "robot": spec.robot,
                "spec": spec.to_json(),
                "arrays": describe_arrays(spec),
            }
        episode = replace(episode, metadata={**defaults, **episode.metadata, **own})
        try:
            info = self._files.commit(episode)
            self._index.append([info])
        except OSError as error:
            raise disk_error(error, episode.id, "the episode file cannot be written") from error
        return info

    def _info(self, id: str) -> EpisodeInfo:
        if id not in self._index.infos:
            self.refresh()
        if id not in self._index.infos or self._deleted(id):
            raise StoreError(f"no episode '{id}' in {self.root}", remedy=valid_choices(id, self.ids()[:50]))
        return self._annotations.apply(self._index.infos[id])

    def _say(self, id: str, edits: Mapping[str, Any], who: str) -> None:
        try:
            self._annotations.append(id, edits, who)
        except OSError as error:
            raise disk_error(error, id, "the annotation cannot be written") from error

    def _deleted(self, id: str) -> bool:
        return bool(self._annotations.of(id).get("deleted"))

    def _write_dataset(self) -> None:
        described = {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "spec": None if self.spec is None else self.spec.to_json(),
        }
        replace_file(self.root / "dataset.json", json.dumps(described, indent=2).encode())


def _is_blank(root: Path) -> bool:
    """Whether ``root`` is an empty folder, or one whose making was interrupted."""
    if not root.is_dir():
        return False
    ours = ("episodes", "journal")
    return all(
        path.name.startswith(".dataset.json") or (path.name in ours and not any(path.iterdir()))
        for path in root.iterdir()
    )
