"""Attributes of an episode file: plain JSON, and what every file says of itself."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from robot_rl.data.episode import SCHEMA, SCHEMA_VERSION, Episode
from robot_rl.errors import EpisodeError
from robot_rl.types import EnvSpec


def plain(metadata: Mapping[str, Any], episode: str = "") -> dict[str, Any]:
    """``metadata`` as plain JSON types; raises EpisodeError naming what has none."""
    try:
        text = json.dumps(dict(metadata), allow_nan=False, ensure_ascii=False, default=_to_plain)
        return json.loads(text.encode())  # half a character, from a file name that is no UTF-8, fails here
    except (TypeError, ValueError) as error:
        raise EpisodeError(f"metadata cannot be stored: {error}", episode=episode, limit="JSON types") from error


def _to_plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"{type(value).__name__} is no JSON type")


def complete_metadata(episode: Episode, spec: EnvSpec | None) -> Episode:
    """``episode`` with all the attributes that readers rely on; ``spec`` is that of its dataset."""
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
    if spec is not None:
        defaults |= {
            "task": spec.task, "robot": spec.robot, "spec": spec.to_json(), "arrays": describe_arrays(spec)
        }  # fmt: skip
    return dataclasses.replace(episode, metadata={**defaults, **episode.metadata, **own})


def describe_arrays(spec: EnvSpec) -> dict[str, dict[str, Any]]:
    """Attributes of the arrays in the file: unit, frame and names of observations, parts of the action."""
    described: dict[str, dict[str, Any]] = {}
    for name, s in spec.observation.items():
        described[f"obs/{name}"] = {
            "unit": s.unit, "frame": s.frame, "names": list(s.names), "privileged": s.privileged
        }  # fmt: skip
    parts = spec.to_json()["action"]["parts"]
    for kind in ("commanded", "executed", "policy", "human"):
        described[f"action/{kind}"] = {"parts": parts}
    described["time/t_ns"] = {"unit": "ns", "clock": "robot monotonic"}
    return described
