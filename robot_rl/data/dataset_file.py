"""``dataset.json``: what a folder holds, said once for all its episodes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from robot_rl.data.episode import SCHEMA, SCHEMA_VERSION
from robot_rl.data.episode_file import check_version
from robot_rl.data.file_lock import replace_file
from robot_rl.data.foreign import describe_foreign
from robot_rl.errors import StoreError
from robot_rl.types import EnvSpec

_NAME = "dataset.json"


@dataclass(frozen=True)
class DatasetFile:
    """Name and feature table; a dataset without an episode may have none yet."""

    name: str
    spec: EnvSpec | None

    @staticmethod
    def exists(root: Path) -> bool:
        """Whether there is a dataset in ``root``."""
        return (root / _NAME).exists()

    @staticmethod
    def read(root: Path) -> DatasetFile:
        """That of the dataset in ``root``.

        Raises StoreError when there is none, telling what is there instead, and SchemaVersionError when a newer
        software wrote it.
        """
        try:
            described = json.loads((root / _NAME).read_bytes())
            if described["schema"] != SCHEMA:
                raise StoreError(f"{root} is of schema '{described['schema']}'", limit=SCHEMA)
            check_version(str(described["schema_version"]))
            name, spec = described["name"], described["spec"]
            return DatasetFile(name, None if spec is None else EnvSpec.from_json(spec))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            found, remedy = describe_foreign(root)
            raise StoreError(f"{root} is no episode store: {found}", remedy=remedy) from error

    def write(self, root: Path) -> None:
        """Put it into ``root``, in place of an older one."""
        described = {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "spec": None if self.spec is None else self.spec.to_json(),
        }
        replace_file(root / _NAME, json.dumps(described, indent=2).encode())


def is_blank(root: Path) -> bool:
    """Whether ``root`` is an empty folder, or one whose making was interrupted."""
    if not root.is_dir():
        return False
    ours = ("episodes", "journal")
    return all(
        path.name.startswith(f".{_NAME}") or (path.name in ours and not any(path.iterdir())) for path in root.iterdir()
    )
