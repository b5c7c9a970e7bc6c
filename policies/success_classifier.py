"""Does a camera frame show success? A small network and the rule that turns its scores into a verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policies.encoders import ObservationEncoder, image_key
from robot_rl.data.normalizer import Normalizer
from robot_rl.errors import CheckpointError, ConfigError, SpecMismatchError, valid_choices
from robot_rl.runtime.success_rule import SuccessRule
from robot_rl.types import Array, Arrays, EnvSpec, Offsets, PolicySpec, WindowSpec

LABEL = "success"  # of a frame, in a training batch


class SuccessClassifier:
    """One encoder per camera, a hidden layer and a probability, as HIL-SERL's classifier (Luo et al. 2024).

    It has what supervised learning asks for (``module``, ``loss``, ``state_dict``) and is kept in checkpoints as
    policies are.

    Args:
        env_spec: of the env that it judges; kept in checkpoints.
        encoder: constructor of a camera's encoder, ConvEncoder or ImageEncoder.
        cameras: names of those it looks through; None are all colour cameras.
        hidden, dropout: of the layer behind the encoders.
        tcp_pose: the observation whose first three components the pose test looks at; None goes without.
        consecutive: frames in a row that make a success.
        margin_m: by which the box of the pose test is wider than where successes of the training data were.
        positives: last frames of a successful episode that show it, in training; all others do not,
        unsure: but for so many before them, which are not learnt from.
        held_out: share of the episodes by which the threshold is chosen.
        seed: of the initial weights.
    """

    def __init__(
        self,
        env_spec: EnvSpec,
        encoder: Callable[[], nn.Module],
        *,
        cameras: Sequence[str] | None = None,
        hidden: int = 64,
        dropout: float = 0.1,
        tcp_pose: str | None = "arm0/tcp_pose",
        consecutive: int = 3,
        margin_m: float = 0.02,
        positives: int = 3,
        unsure: int = 3,
        held_out: float = 0.3,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        if cameras is None:
            cameras = [name for name, camera in env_spec.cameras.items() if camera.channels == 3]
        if not cameras:
            raise ConfigError("a success classifier without cameras", remedy="Record with camera=front_wrist, say")
        if tcp_pose is not None and tcp_pose not in env_spec.observation:
            raise SpecMismatchError(f"no '{tcp_pose}' to test", remedy=valid_choices(tcp_pose, env_spec.observation))
        self.env_spec, self.device, self.tcp_pose = env_spec, torch.device(device), tcp_pose
        self.margin_m, self.positives, self.unsure, self.held_out = margin_m, positives, unsure, held_out
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            eyes = ObservationEncoder(env_spec, 1, [], dict.fromkeys(cameras, encoder))
            layers = (nn.Linear(eyes.size, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, 1))
            self.module = nn.ModuleDict({"encoder": eyes, "head": nn.Sequential(*layers)}).to(self.device)
        self.dropout = dropout
        self.rule = SuccessRule(1.0, consecutive)  # says no until a threshold is chosen
        pose = {} if tcp_pose is None else {tcp_pose: env_spec.observation[tcp_pose]}
        self.spec = PolicySpec({**eyes.inputs, **pose}, env_spec.action)

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras it looks through."""
        return tuple(key.removeprefix("images/") for key in self.spec.observation if key.startswith("images/"))

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) that images are brought to."""
        height, width, _ = self.spec.observation[image_key(self.cameras[0])].shape
        return height, width

    @property
    def windows(self) -> WindowSpec:
        """What it learns from: single frames; LabelledFrames says beside them what they show."""
        return WindowSpec({image_key(camera): Offsets(0, 1) for camera in self.cameras})

    def _logits(self, images: Mapping[str, Tensor], generator: torch.Generator | None) -> Tensor:
        """{images/<camera>: uint8 [B, 1, h, w, 3]} -> [B]; ``generator`` draws shifts and dropout (training)."""
        placed = {image_key(camera): images[image_key(camera)].to(self.device) for camera in self.cameras}
        seen = self.module["encoder"](placed, Normalizer({}, {}), generator)
        if generator is not None and self.dropout:
            kept = torch.rand(seen.shape, generator=generator).to(self.device) >= self.dropout
            seen = seen * kept / (1.0 - self.dropout)
        return self.module["head"](seen)[:, 0]

    def loss(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> Tensor:
        """Binary cross-entropy of frames {images/<camera>: [B, 1, h, w, 3], success: [B]}."""
        return F.binary_cross_entropy_with_logits(self._logits(batch, generator), batch[LABEL].to(self.device).float())

    @torch.inference_mode()
    def probability(self, window: Arrays) -> Array:
        """Score of each frame, float32 [B] in [0, 1], from {images/<camera>: uint8 [B, 1, h, w, 3]}."""
        images = {image_key(camera): torch.from_numpy(window[image_key(camera)]) for camera in self.cameras}
        return self._logits(images, None).sigmoid().cpu().numpy()

    def position_m(self, state: Arrays) -> Array:
        """TCP position [..., 3] that the pose test looks at, from observations {name: [..., D]}."""
        return np.zeros(3) if self.tcp_pose is None else np.asarray(state[self.tcp_pose])[..., :3]

    # --- checkpoints

    def state_dict(self) -> dict[str, Tensor]:
        """Weights under ``module.``, the rule under ``rule.``."""
        rule: dict[str, Any] = {"threshold": self.rule.threshold}
        rule |= {} if self.rule.lower_m is None else {"lower_m": self.rule.lower_m, "upper_m": self.rule.upper_m}
        weights = {f"module.{name}": value for name, value in self.module.state_dict().items()}
        return {**weights, **{f"rule.{key}": torch.tensor(value, dtype=torch.float64) for key, value in rule.items()}}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of ``state_dict``. Raises CheckpointError for the state of another network."""
        rule = {k.removeprefix("rule."): v.tolist() for k, v in state.items() if k.startswith("rule.")}
        try:
            self.module.load_state_dict(
                {k.removeprefix("module."): v for k, v in state.items() if k.startswith("module.")}
            )
        except RuntimeError as error:
            raise CheckpointError(f"weights do not fit the classifier: {' '.join(str(error).split())}") from error
        self.rule = replace(self.rule, **rule)
