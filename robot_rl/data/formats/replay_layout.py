"""Which keys of a replay buffer hold what, there and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from robot_rl.data import pusht
from robot_rl.data.formats.columns import flat_name
from robot_rl.types import EnvSpec


@dataclass(frozen=True)
class Layout:
    """How keys of the foreign store and our names relate; expressions as in robot_rl.data.formats.columns.

    ``keys`` is the way back: foreign key -> (expression over our names, shape per step).
    """

    spec: EnvSpec
    observation: Mapping[str, str]
    action: str
    cameras: Mapping[str, str]
    keys: Mapping[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)


def is_pusht(arrays: Mapping[str, Any]) -> bool:
    """Whether these are the arrays of the published Push-T demonstrations."""
    wanted = {"state": (5,), "action": (2,), "keypoint": (9, 2)}
    return all(name in arrays and arrays[name].shape[1:] == shape for name, shape in wanted.items())


def pusht_layout(arrays: Mapping[str, Any], images: bool) -> Layout:
    """The layout of the Push-T demonstrations, with their camera where they have one and ``images`` asks for it."""
    size = arrays["img"].shape[1] if images and "img" in arrays else None
    return Layout(
        spec=pusht.pusht_spec(size),
        observation={"agent/position": "state[0:2]", "tee/pose": "state[2:5]", "tee/keypoints": "keypoint"},
        action="action",
        cameras={} if size is None else {pusht.CAMERA: "img"},
        keys={
            "state": ("obs/agent/position + obs/tee/pose", (5,)),
            "keypoint": ("obs/tee/keypoints", (9, 2)),
            "action": ("action/commanded", (2,)),
        },
    )


def export_layout(spec: EnvSpec, images: bool) -> Layout:
    """Push-T gets the keys its training code expects, everything else keys made from our names."""
    if spec.task == "pusht" and set(spec.observation) == set(pusht.pusht_spec().observation):
        size = next((camera.height for camera in spec.cameras.values()), 0)
        image = {"img": np.empty((0, size, size, 3), dtype=np.uint8)} if spec.cameras else {}
        layout = pusht_layout(image, images)
        return Layout(spec if images else layout.spec, layout.observation, "action", layout.cameras, layout.keys)
    keys = {flat_name(name): (f"obs/{name}", value.shape) for name, value in spec.observation.items()}
    keys["action"] = ("action/commanded", (spec.action.size,))
    cameras = {name: flat_name(f"{name}_rgb") for name in spec.cameras if images}
    return Layout(spec, {name: flat_name(name) for name in spec.observation}, "action", cameras, keys)
