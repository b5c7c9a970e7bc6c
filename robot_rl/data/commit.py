"""How an episode becomes a file, in steps of which every one may be the last: the data is whole before and after.

temporary file, fsync -> read back and compare -> rename, fsync folder -> index line -> journal unlinked
"""

from __future__ import annotations

import logging
import mmap
import os
from collections.abc import Callable
from pathlib import Path

from robot_rl.data.episode import Episode
from robot_rl.data.episode_file import EpisodeFile, write_episode
from robot_rl.data.file_lock import create_locked, fsync_folder, lock_orphan
from robot_rl.data.index import EpisodeInfo
from robot_rl.data.journal import MAGIC
from robot_rl.data.recording import compile_episode, read_recording
from robot_rl.data.stored_zip import ZipFormatError
from robot_rl.errors import CorruptEpisodeError, EpisodeError, SchemaVersionError

_log = logging.getLogger(__name__)

Commit = Callable[[Episode], EpisodeInfo]


def commit_episode(path: Path, episode: Episode) -> tuple[EpisodeFile, int]:
    """Put ``episode`` at ``path``, durable and verified; returns the open file and its CRC32C.

    Raises OSError when the disk is full; the temporary file is then removed.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    descriptor = create_locked(temporary)
    try:
        size, crc = write_episode(descriptor, episode)
        os.fsync(descriptor)
        file = EpisodeFile(temporary, episode.id)
        if file.status.st_size != size or file.crc32c != crc:
            raise CorruptEpisodeError("read back differs from what was written", episode=episode.id)
        temporary.rename(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, ZipFormatError):
            raise EpisodeError(str(error), episode=episode.id, remedy="Split the episode") from error
        raise
    finally:
        os.close(descriptor)
    file.path, file.status = path, path.stat()
    fsync_folder(path.parent)
    return file, crc


def recover_journal(journal: Path, target: Path, commit: Commit, *, own: bool = False) -> list[EpisodeInfo]:
    """Commit the episode in ``journal`` unless ``target`` holds it already, then remove the journal.

    A journal whose writer lives, or of a newer software, is left alone; ``own`` says that the caller is that writer.
    One without a whole first record was never begun. Bytes behind the last whole record are counted in the metadata;
    when they are damage rather than the torn tail of a kill, the journal is kept as ``<id>.damaged``. So is one that
    makes no valid episode file: it must not stand between its owner and the other episodes.
    """
    lock = os.open(journal, os.O_RDONLY | os.O_CLOEXEC) if own else lock_orphan(journal)
    if lock is None:
        return []
    try:
        if _holds_episode(target):
            journal.unlink()
            return []
        size = os.fstat(lock).st_size
        if size == 0:
            journal.unlink()
            return []
        infos, keep = _compile(memoryview(mmap.mmap(lock, 0, access=mmap.ACCESS_READ)), commit, own)
        if keep:
            journal.rename(journal.with_suffix(".damaged"))
        else:
            journal.unlink()
        return infos
    except SchemaVersionError:
        return []
    except EpisodeError as error:
        if own:
            raise
        _log.warning("%s is set aside, since it makes no episode file: %s", journal.name, error)
        journal.rename(journal.with_suffix(".damaged"))
        return []
    finally:
        os.close(lock)


def _compile(content: memoryview, commit: Commit, own: bool) -> tuple[list[EpisodeInfo], bool]:
    """The committed episode, and whether the journal holds more than could be read."""
    recording = read_recording(content)
    if recording is None:
        return [], MAGIC in bytes(content[1:])  # a torn first record, or a damaged one with others behind it
    if not recording.rows:
        return [], recording.damaged
    recovered = not own and recording.end is None  # one that ended is whole, whoever commits it
    return [commit(compile_episode(recording, recovered=recovered))], recording.damaged


def _holds_episode(path: Path) -> bool:
    try:
        EpisodeFile(path).verify()
    except SchemaVersionError:
        return True  # of a newer software, which will take care of it
    except (OSError, EpisodeError):
        return False
    return True
