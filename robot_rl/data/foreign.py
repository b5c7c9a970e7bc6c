"""What a path holds that is no episode store, and how to bring it in."""

from __future__ import annotations

import json
from pathlib import Path

_IMPORT = "Bring it in with: robot-rl dataset import source={path} format={format}"


def describe_foreign(path: Path) -> tuple[str, str]:
    """What lies at ``path``, and the remedy to print."""
    if not path.exists():
        return "there is no such folder", "Create it by recording, or with: robot-rl dataset import"
    if path.is_file():
        return _describe_file(path)
    names = sorted(entry.name for entry in path.iterdir())
    if "dataset.json" in names:
        return "its dataset.json is damaged or foreign", "Restore dataset.json from a copy; the episodes are intact"
    if not names:
        return "the folder is empty", "Record into it, or import: robot-rl dataset import"
    if {"data", "meta"} <= set(names) or ".zgroup" in names:
        return "a Zarr format 2 group (diffusion_policy layout)", _remedy(path, "diffusion_policy")
    if "zarr.json" in names:
        return f"a Zarr format 3 {_node_type(path / 'zarr.json')}", _remedy(path, "diffusion_policy")
    if "meta" in names and (path / "meta" / "info.json").exists():
        return "a LeRobot dataset", "Importing LeRobot datasets is not supported yet"
    found = next((name for name in names if name.endswith((".hdf5", ".h5"))), None)
    if found:
        return f"a folder with {found}", _remedy(path / found, "robomimic")
    return f"a folder with {', '.join(names[:5])}", "Name a folder that holds a dataset.json"


def _describe_file(path: Path) -> tuple[str, str]:
    if path.suffix in (".hdf5", ".h5"):
        return "an HDF5 file", _remedy(path, "robomimic")
    if path.suffix == ".zip":
        return "a zip file", "Open the folder that holds episodes/, or " + _remedy(path, "diffusion_policy")
    return "a file", "Name a folder that holds a dataset.json"


def _remedy(path: Path, format: str) -> str:
    return _IMPORT.format(path=path, format=format)


def _node_type(path: Path) -> str:
    try:
        return str(json.loads(path.read_bytes())["node_type"])
    except (ValueError, KeyError, OSError):
        return "node"
