"""Decoded messages of an MCAP file. Needs no ROS: the definitions of the messages are in the file."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_rl.errors import StoreError

ABOUT, END = "robot_rl", "robot_rl_end"  # names of the metadata at the beginning and at the end of a recording


@dataclass(frozen=True)
class Message:
    """``received_ns`` runs with the monotonic clock of the recorder, ``header_ns`` is that less the header's age."""

    topic: str
    received_ns: int
    header_ns: int
    content: Any


def topics(path: Path) -> list[str]:
    """The topics of a file. Raises StoreError."""
    return [channel.topic for channel in _summary(path).channels.values()]


def end_ns(path: Path) -> int:
    """When the last message was received."""
    statistics = _summary(path).statistics
    return 0 if statistics is None else statistics.message_end_time


def metadata(path: Path, name: str) -> dict[str, str]:
    """The metadata of that name, empty where there is none."""
    with path.open("rb") as stream:
        found = {entry.name: entry.metadata for entry in _mcap("mcap.reader").make_reader(stream).iter_metadata()}
    return found.get(name, {})


def messages(path: Path, wanted: list[str], first: int | None = None, end: int | None = None) -> Iterator[Message]:
    """Messages of the topics ``wanted`` in the order they were received, from ``first`` to before ``end`` [ns]."""
    reader, decoder = _mcap("mcap.reader"), _mcap("mcap_ros2.decoder").DecoderFactory()
    with path.open("rb") as stream:
        made = reader.make_reader(stream, decoder_factories=[decoder])
        for _, channel, record, content in made.iter_decoded_messages(wanted, starting_at=first, ending_before=end):
            yield Message(channel.topic, record.log_time, record.publish_time, content)


def _summary(path: Path) -> Any:
    """The index of a file. Raises StoreError for what is none, or was not finished."""
    reader, errors = _mcap("mcap.reader"), _mcap("mcap.exceptions")
    try:
        with path.open("rb") as stream:
            summary = reader.make_reader(stream).get_summary()
    except (errors.McapError, OSError, ValueError) as error:
        raise StoreError(
            f"'{path}' is no finished MCAP file: {error!r}", remedy="One of a crash is completed by: mcap recover"
        ) from error
    if summary is None:
        raise StoreError(f"'{path}' has no index", remedy="mcap recover makes one")
    return summary


def _mcap(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise StoreError(
            f"format=mcap needs {module.partition('.')[0]}", remedy="pip install -c constraints.txt 'robot-rl[formats]'"
        ) from error
