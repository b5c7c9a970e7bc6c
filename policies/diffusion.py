"""Diffusion policy (Chi et al. 2023): chunks denoised from noise under a window of observations.

Implements Policy and Denoiser, and ChunkSampler by policies.black_box. Deterministic in its noise, which is drawn by
counter and recorded with every decision. Row 0 of a chunk is the current step, and training windows are cut alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from policies.denoising_plan import PRECISIONS, DenoisingPlan
from policies.device import chosen_device
from policies.encoders import FEATURES, ObservationEncoder
from policies.features import Feature, every_feature, named_features
from policies.image_encoder import ImageEncoder
from policies.noise_schedules import Schedule
from policies.policy_state import digest, pack, unpack
from policies.row_noise import RowNoise
from policies.samplers import Predict, Sampler
from policies.symmetry import CanonicalReflection
from robot_rl.data.normalizer import Normalizer
from robot_rl.errors import ConfigError, valid_choices
from robot_rl.types import ActContext, ActionChunk, Array, Arrays, EnvSpec, Offsets, Pad, PolicySpec, WindowSpec

ACTION = "action/commanded"
OBSERVATION = "obs/"  # array paths of an episode: obs/<name>, images/<camera>


class DiffusionPolicy:
    """A denoising network behind the contracts of a policy.

    Args:
        env_spec: what is observed and commanded; kept in checkpoints.
        network: constructor of the denoiser (ChunkMlp, ChunkUnet), called with horizon, action_size, condition_size.
        sampler: constructor of the sampler (DDIM, DDPM; Euler of a flow), called with ``schedule``.
        schedule: noise schedule of training and sampling; policies.flow_matching.StraightPath makes this a flow.
        observation: {key: raw | position | rot6d}; features for more than that. None and no features: all observed,
            beside cameras only what a real robot measures.
        cameras: {camera: constructor of its ImageEncoder}.
        fourier, fourier_scale: random Fourier features of the low-dimensional observation, see ObservationEncoder.
        symmetry: a mirror symmetry of the task, to plan in one half of the workspace only.
        history, horizon, execute: T_o, T_p and T_a in control steps.
        pad, pad_after: how far a training window may reach past the episode's end [steps]; ``repeat`` repeats the last
            action there, ``mask`` takes those steps out of the loss.
        normalization: ``range`` or ``gaussian``, fitted from data.
        noise_samples: draws of (timestep, noise) per training window; they share the observation's encoding.
        snr_clip: weight of the x0 loss, min(SNR, snr_clip) (Hang et al. 2023); for prediction ``sample`` only.
        training_precision, precision: float32 or bfloat16, in training and in acting.
        compiled_training, compiled: compile the denoising error, and the network of acting (slow first call).
        batch_rows: act in batches of exactly this many rows, padded: a row's chunk is then bit-equal in any batch.
        device: ``cpu``, ``cuda`` or ``auto``.
        seed: of the initial weights and of the acting noise.
    """

    def __init__(
        self,
        env_spec: EnvSpec,
        network: Callable[..., nn.Module],
        sampler: Callable[..., Sampler],
        schedule: Schedule,
        *,
        observation: Mapping[str, str] | None = None,
        features: Sequence[Feature] = (),
        cameras: Mapping[str, Callable[[], ImageEncoder]] | None = None,
        fourier: int = 0,
        fourier_scale: float = 0.5,
        symmetry: CanonicalReflection | None = None,
        history: int = 2,
        horizon: int = 16,
        execute: int = 8,
        pad: str = "repeat",
        pad_after: int = 7,
        normalization: str = "range",
        noise_samples: int = 1,
        snr_clip: float = 5.0,
        training_precision: str = "float32",
        compiled_training: bool = False,
        precision: str = "float32",
        compiled: bool = False,
        batch_rows: int | None = None,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        if not 1 <= execute <= horizon or noise_samples < 1:
            raise ConfigError(f"execute={execute}, noise_samples={noise_samples}", limit=f"1 to {horizon}, at least 1")
        if training_precision not in PRECISIONS:
            raise ConfigError(
                f"no precision '{training_precision}'", remedy=valid_choices(training_precision, PRECISIONS)
            )
        chosen = [*named_features(observation or {}, env_spec.observation), *features]
        if observation is None and not features:
            chosen = every_feature(env_spec.observation, privileged=not cameras)
        self.env_spec, self.schedule, self.device, self.seed = env_spec, schedule, chosen_device(device), seed
        self.history, self.horizon, self.execute = history, horizon, execute
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = ObservationEncoder(env_spec, history, chosen, cameras or {}, fourier, fourier_scale)
            denoiser = network(horizon=horizon, action_size=env_spec.action.size, condition_size=encoder.size)
        self.module = nn.ModuleDict({"encoder": encoder, "network": denoiser}).to(self.device)
        self.encoder, self.network = encoder, denoiser
        self.sampler: Sampler = sampler(schedule=schedule)
        self.normalization, self.normalizer = normalization, Normalizer({}, {})
        self.noise_samples, self.snr_clip, self.training_precision = noise_samples, snr_clip, training_precision
        self.precision, self.compiled, self.batch_rows = precision, compiled, batch_rows
        self.symmetry, self.pad, self.pad_after = symmetry, Pad(pad), pad_after
        self.spec = PolicySpec(encoder.inputs, env_spec.action, history, horizon, execute)
        self._noise = RowNoise(seed)
        self._plans: dict[tuple[int, ...], DenoisingPlan] = {}  # by timesteps
        self._signal = torch.tensor(schedule.signal, dtype=torch.float32, device=self.device)
        self._sigma = torch.tensor(schedule.sigma, dtype=torch.float32, device=self.device)
        self._error = torch.compile(self._denoising_error) if compiled_training else self._denoising_error

    # --- Policy

    def reset(self, rows: Array, seeds: Array) -> None:
        """Restart the noise of batch rows ``rows`` [R] at decision 0 of the episodes ``seeds`` [R]."""
        self._noise.reset(rows, seeds)

    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        """Windows {key: [B, T_o, ...]} -> chunks [B, T_p, A] from the current step on, their noise in ``decision``."""
        noise = self._noise.draw(len(context.step), self.noise_shape)
        tensors = {key: torch.from_numpy(np.ascontiguousarray(window[key])) for key in self.spec.observation}
        actions = self.sample(tensors, torch.from_numpy(noise))
        return ActionChunk(actions.cpu().numpy(), self.execute, decision={"noise": noise})

    # --- what policies.black_box offers as a ChunkSampler

    @property
    def rate_hz(self) -> float:
        """Control steps per second."""
        return self.env_spec.step_rate_hz

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of the noise of one chunk."""
        return self.sampler.noise_shape((self.horizon, self.env_spec.action.size))

    @torch.inference_mode()
    def sample(self, obs: Mapping[str, Tensor], noise: Tensor) -> Tensor:
        """[B, T_o, ...] observations and [B, *noise_shape] noise -> chunks [B, T_p, A] in physical units."""
        if self.batch_rows is None or self.batch_rows == len(noise):
            return self._denoised(obs, noise)
        size, parts = self.batch_rows, []
        for first in range(0, len(noise), size):
            part = {key: _rows(obs[key], first, size) for key in self.spec.observation}
            parts.append(self._denoised(part, _rows(noise, first, size)))
        return torch.cat(parts)[: len(noise)]

    def _denoised(self, obs: Mapping[str, Tensor], noise: Tensor) -> Tensor:
        placed = {key: obs[key].to(self.device) for key in self.spec.observation}
        clean = self.sampler.sample(self.predictor(placed, self.sampler), noise.to(self.device))
        return self.physical(placed, clean)

    # --- Denoiser

    @property
    def action_normalizer(self) -> Normalizer:
        """Statistics under the key 'action'."""
        return self.normalizer

    def encode(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Observations [B, T_o, ...] -> conditioning vectors [B, C]; of the canonical half, given a symmetry."""
        placed = {key: obs[key].to(self.device) for key in self.spec.observation}
        if self.symmetry is not None:
            placed = self.symmetry.observation(placed, self.symmetry.reflected(placed))
        return self.encoder(placed, self.normalizer)

    def predict(self, x: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """Network output for noisy normalised chunks x [B, T_p, A] at timesteps t [B] under cond [B, C]."""
        return self.network(x, t, cond)

    # --- what policies.white_box asks beyond that

    def predictor(self, obs: Mapping[str, Tensor], sampler: Sampler) -> Predict:
        """``predict(x, index)`` at the timesteps of ``sampler`` under observations [B, T_o, ...], the quickest way."""
        if self.module.training:  # walking through all modules costs as much as a network call
            self.module.eval()
        key = tuple(sampler.timesteps)
        if key not in self._plans:
            self._plans[key] = DenoisingPlan(self.network, sampler, self.precision, self.compiled)
        return self._plans[key].predictor(self.encode(obs))

    def physical(self, obs: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Clean chunks [B, T_p, A] as the network makes them under ``obs`` -> physical units."""
        actions = self.normalizer.denormalize("action", x)
        return actions if self.symmetry is None else self.symmetry.action(actions, self._reflected(obs))

    def normalized(self, obs: Mapping[str, Tensor], actions: Tensor) -> Tensor:
        """Inverse of ``physical``."""
        actions = actions.to(self.device)
        actions = actions if self.symmetry is None else self.symmetry.action(actions, self._reflected(obs))
        return self.normalizer.normalize("action", actions)

    def _reflected(self, obs: Mapping[str, Tensor]) -> Tensor:
        assert self.symmetry is not None
        return self.symmetry.reflected({key: obs[key].to(self.device) for key in self.spec.observation})

    # --- training

    @property
    def windows(self) -> WindowSpec:
        """The training windows: history of every input, actions from the current step on."""
        history = Offsets(1 - self.history, 1)
        keys = {key if key.startswith("images/") else f"{OBSERVATION}{key}": history for key in self.spec.observation}
        return WindowSpec({**keys, ACTION: Offsets(0, self.horizon)}, self.pad, self.history - 1, self.pad_after)

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(height, width) that training images are brought to; None without cameras."""
        return self.encoder.image_size

    def fit_normalizer(self, rows: Arrays) -> None:
        """Statistics from rows {array path: [N, D]} of the demonstrations. Raises InvalidArrayError for none."""
        keys = [key for key in self.spec.observation if not key.startswith("images/")]
        observation = {key: torch.from_numpy(rows[f"{OBSERVATION}{key}"])[:, None] for key in keys}
        action = torch.from_numpy(rows[ACTION])[:, None]
        observation, action = self._canonical(observation, action)
        fitted = {"action": action[:, 0].numpy()}
        if self.encoder.features:
            fitted[FEATURES] = self.encoder.vector(observation)[:, 0].numpy()
        self.normalizer = Normalizer.fit(fitted, self.normalization)
        self._plans = {}

    def loss(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> Tensor:
        """Denoising error (Ho et al. 2020, eq. 14) of windows {array path: [B, L, ...]} as ``windows`` cuts them.

        Timesteps, noise and crops come from ``generator`` (CPU), so that every device sees the same draws. ``mask``
        [B, T_p], if there, drops steps beyond the episode's end.
        """
        self.module.train()
        self._plans = {}  # weights are about to change
        observation = {
            key: batch[key if key.startswith("images/") else f"{OBSERVATION}{key}"].to(self.device)
            for key in self.spec.observation
        }
        observation, action = self._canonical(observation, batch[ACTION].to(self.device))
        repeats = self.noise_samples
        clean = self.normalizer.normalize("action", action).repeat_interleave(repeats, dim=0)
        t = torch.randint(0, self.schedule.steps, (len(clean),), generator=generator).to(self.device)
        noise = torch.randn(clean.shape, generator=generator).to(self.device)
        cond = self.encoder(observation, self.normalizer, generator)
        mask = batch["mask"].to(self.device) if "mask" in batch else torch.ones(action.shape[:2], device=self.device)
        weight = mask.float().repeat_interleave(repeats, dim=0).unsqueeze(-1)
        return self._error(clean, noise, t, cond, weight)

    def _canonical(self, observation: dict[str, Tensor], action: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        if self.symmetry is None:
            return observation, action
        where = self.symmetry.reflected(observation)
        return self.symmetry.observation(observation, where), self.symmetry.action(action, where)

    def _denoising_error(self, clean: Tensor, noise: Tensor, t: Tensor, cond: Tensor, weight: Tensor) -> Tensor:
        signal, sigma = self._signal[t][:, None, None], self._sigma[t][:, None, None]
        x = signal * clean + sigma * noise
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.training_precision == "bfloat16"):
            output = self.network.denoise(x, self._modulation(t, cond))  # type: ignore[operator]
        prediction, velocity = self.sampler.prediction, signal * noise - sigma * clean
        target = {"epsilon": noise, "sample": clean, "velocity": velocity, "flow": noise - clean}[prediction]
        error = (output.float() - target).square()
        if prediction == "sample":
            error = error * (signal / sigma).square().clamp(max=self.snr_clip)
        return (error * weight).sum() / (weight.sum() * error.shape[-1]).clamp(min=1)

    def _modulation(self, t: Tensor, cond: Tensor) -> Tensor:
        """As the network's own sum, with every timestep embedded once and every observation encoded once."""
        network: Any = self.network
        condition = network.condition(cond).repeat_interleave(self.noise_samples, dim=0)
        if len(t) < self.schedule.steps:
            return network.time(t) + condition
        table = network.time(torch.arange(self.schedule.steps, device=self.device))
        chosen = nn.functional.one_hot(t, self.schedule.steps).to(table.dtype)
        return chosen @ table + condition  # a product: its gradient is quicker than that of indexing

    # --- weights

    def state_dict(self) -> dict[str, Tensor]:
        """Weights by name and the normaliser under 'normalizer.'."""
        return pack(self.module, self.normalizer)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of ``state_dict``. Raises CheckpointError when names or shapes differ."""
        sizes = {"action": self.env_spec.action.size, FEATURES: self.encoder.feature_size}
        self.normalizer, self._plans = unpack(state, self.module, sizes), {}

    def sha256(self) -> str:
        """Of weights and statistics."""
        return digest(self.state_dict())


def _rows(value: Tensor, first: int, size: int) -> Tensor:
    """Rows first .. first + size, the last one repeated where there are no more."""
    part = value[first : first + size]
    missing = size - len(part)
    return part if missing == 0 else torch.cat((part, part[-1:].expand(missing, *part.shape[1:])))
