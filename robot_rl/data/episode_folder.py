"""The files of a dataset's episodes: found, opened, checked, described and added."""

from __future__ import annotations

import logging
import os
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path

from robot_rl.data.commit import commit_episode
from robot_rl.data.episode import Episode
from robot_rl.data.episode_file import EpisodeFile
from robot_rl.data.index import EpisodeInfo, info_from_attributes
from robot_rl.data.verified_files import VerifiedFiles
from robot_rl.errors import CorruptEpisodeError, EpisodeError, RobotRlError

_SUFFIX = ".zarr.zip"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finding:
    """Something wrong with a file of the store."""

    id: str
    file: str
    problem: str


class EpisodeFolder:
    """``episodes/`` below ``root``, and which of its files were checked on this machine."""

    def __init__(self, root: Path) -> None:
        self._root, self._folder = root, root / "episodes"
        self._verified = VerifiedFiles(root / "verified.jsonl")

    def path(self, id: str) -> Path:
        """Where the file of an episode is, or would be."""
        return self._folder / f"{id}{_SUFFIX}"

    def ids(self) -> list[str]:
        """The id of every episode file, in order."""
        with os.scandir(self._folder) as entries:
            return sorted(entry.name[: -len(_SUFFIX)] for entry in entries if entry.name.endswith(_SUFFIX))

    def open_checked(self, info: EpisodeInfo) -> EpisodeFile:
        """The file of ``info``, compared with its checksum unless that was done before on this machine."""
        file = self._open(info)
        if not self._verified.knows(file.path, file.status):
            self._compare(file, info)
            self._verified.add(file.path, file.status)
        return file

    def examine(self, info: EpisodeInfo) -> str:
        """What is wrong with the file of ``info``, every checksum and every array checked; empty when nothing is."""
        try:
            file = self._open(info)
            self._compare(file, info)
            file.verify()
            file.read().validate()
        except (RobotRlError, OSError) as error:
            return str(error)
        self._verified.add(file.path, file.status)
        return ""

    def strays(self, known: Container[str]) -> list[Finding]:
        """Files of episodes that are not ``known``, and journals that recovery set aside."""
        problem = "cannot be read, or holds another episode, so it is not in the index: restore or remove the file"
        findings = [Finding(id, f"episodes/{id}{_SUFFIX}", problem) for id in self.ids() if id not in known]
        problem = "a damaged journal was set aside: what could be read of it is an episode"
        for path in sorted((self._root / "journal").glob("*.damaged")):
            findings.append(Finding(path.stem, f"journal/{path.name}", problem))
        return findings

    def describe(self, ids: Iterable[str]) -> list[EpisodeInfo]:
        """Index entries of these episodes, from their files.

        A file that cannot be read, or was copied to the name of another episode, is left out and logged; it stays for
        whoever wants to rescue it.
        """
        infos = []
        for id in ids:
            try:
                file = EpisodeFile(self.path(id))
                file.verify()
                if file.attributes.get("id") != id:
                    raise EpisodeError(f"the file holds episode {file.attributes.get('id')}", episode=id)
                infos.append(_describe(file, file.crc32c))
            except (EpisodeError, OSError) as error:
                _log.warning("left out of the index: %s", error)
        return infos

    def commit(self, episode: Episode) -> EpisodeInfo:
        """Add a file, durable and verified. Raises OSError on a full disk."""
        file, crc = commit_episode(self.path(episode.id), episode)
        self._verified.add(file.path, file.status)
        return _describe(file, crc)

    def _open(self, info: EpisodeInfo) -> EpisodeFile:
        try:
            return EpisodeFile(self._root / info.file, info.id)
        except OSError as error:
            raise CorruptEpisodeError(
                f"{info.file} cannot be opened: {error.strerror}", episode=info.id, remedy="Restore the file, or repair"
            ) from error

    @staticmethod
    def _compare(file: EpisodeFile, info: EpisodeInfo) -> None:
        if file.status.st_size == info.bytes and file.crc32c == info.crc32c:
            return
        file.verify()  # names the array where it can
        raise CorruptEpisodeError(
            f"{info.file} is not the file that was indexed",
            episode=info.id,
            limit=f"{info.bytes} bytes, crc32c {info.crc32c:08x}",
            remedy="Restore it, or accept it with: robot-rl dataset repair",
        )


def _describe(file: EpisodeFile, crc32c: int) -> EpisodeInfo:
    cameras = {name: track.frames for name, track in file.read().cameras.items()}
    name, size = f"{file.path.parent.name}/{file.path.name}", file.status.st_size
    return info_from_attributes(file.attributes, file=name, size=size, crc32c=crc32c, cameras=cameras)
