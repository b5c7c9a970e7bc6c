"""Renaming between layouts: an expression says which foreign columns make up one array.

    "state[0:2]"                            columns 0 and 1 of the array ``state``
    "robot0_eef_pos + robot0_eef_quat"      two arrays side by side

Arrays of more than two axes are flattened to [T, D] first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import numpy as np

from robot_rl.errors import ConfigError, StoreError, valid_choices
from robot_rl.types import Array

_TERM = re.compile(r"([^\[\]+\s]+)(?:\[(\d*):(\d*)\])?")


def select(expression: str, arrays: Mapping[str, Array]) -> Array:
    """The columns [T, D] that ``expression`` names. Raises ConfigError or StoreError with the valid names."""
    parts = []
    for term in expression.split("+"):
        match = _TERM.fullmatch(term.strip())
        if match is None:
            raise ConfigError(f"'{expression}' is no column expression", remedy="Write it like 'state[0:2] + pose'")
        key, start, stop = match.groups()
        if key not in arrays:
            raise StoreError(f"the source has no array '{key}'", remedy=valid_choices(key, arrays))
        value = arrays[key].reshape(len(arrays[key]), math.prod(arrays[key].shape[1:]))
        part = value[:, int(start) if start else 0 : int(stop) if stop else None]
        if not part.shape[1]:
            raise ConfigError(f"'{term.strip()}' selects nothing", limit=f"{value.shape[1]} columns")
        parts.append(part)
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def names_in(expression: str) -> list[str]:
    """The arrays an expression reads."""
    return [term.strip().partition("[")[0] for term in expression.split("+")]


def flat_name(name: str) -> str:
    """A name of ours as one key of a layout that has no folders: arm0/tcp_pose -> arm0__tcp_pose."""
    return name.replace("/", "__")
