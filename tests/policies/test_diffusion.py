"""The policy behind its contracts: noise, batches, checkpoints of weights, and what it can learn."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from policies.black_box import BlackBox
from policies.chunk_mlp import ChunkMlp
from policies.diffusion import DiffusionPolicy
from policies.features import Raw
from policies.image_encoder import ImageEncoder
from policies.noise_schedules import NoiseSchedule
from policies.samplers import DDIM, DDPM
from policies.unet1d import ChunkUnet
from robot_rl.errors import CheckpointError, ConfigError, SpecMismatchError
from robot_rl.interfaces import ChunkSampler, Denoiser, Policy
from robot_rl.learning.bc import BehaviourCloning
from robot_rl.types import ActContext, Array, ArraySpec, Pad
from tests.policies.tiny import SPEC, make_batch, make_policy, make_rows, make_window


def ready(**options: Any) -> DiffusionPolicy:
    """A policy with statistics and weights that do something."""
    policy = make_policy(**options)
    policy.fit_normalizer(make_rows())
    with torch.no_grad():
        draw = torch.Generator().manual_seed(9)
        for value in policy.module.parameters():
            value.add_(0.1 * torch.randn(value.shape, generator=draw))
    return policy


def act(policy: DiffusionPolicy, window: dict[str, Array], seeds: list[int]) -> Any:
    policy.reset(np.arange(len(seeds)), np.array(seeds))
    return policy.act(window, ActContext.start(len(seeds)))


def test_contracts() -> None:
    policy = ready()
    assert isinstance(policy, Policy) and isinstance(policy, Denoiser) and isinstance(BlackBox(policy), ChunkSampler)
    assert policy.spec.observation.keys() == SPEC.observation.keys()
    assert (policy.spec.history, policy.spec.horizon, policy.spec.execute) == (2, 8, 4)


def test_a_chunk_is_physical_starts_now_and_carries_its_noise() -> None:
    policy = ready()
    chunk = act(policy, make_window(3), [7, 8, 9])
    assert chunk.actions.shape == (3, 8, 2) and chunk.actions.dtype == np.float32
    assert chunk.execute == 4
    obs = {key: torch.from_numpy(value) for key, value in make_window(3).items()}
    again = policy.sample(obs, torch.from_numpy(chunk.decision["noise"]))
    np.testing.assert_array_equal(again.numpy(), chunk.actions)
    rows = make_rows()["action/commanded"]
    assert (chunk.actions <= rows.max(axis=(0)) + 1e-5).all()  # clipped samples stay within what was demonstrated


@pytest.mark.parametrize("network", [ChunkMlp, ChunkUnet])
def test_equal_seeds_give_equal_chunks_in_any_batch(network: Any) -> None:
    """To rounding without padding; to the bit with a constant padded batch."""
    options = {"width": 48, "blocks": 2} if network is ChunkMlp else {"channels": (16, 32)}
    build = functools.partial(ready, network=functools.partial(network, **options))
    window = make_window(5)
    together = act(build(), window, [1, 2, 3, 4, 5]).actions
    padded = act(build(batch_rows=4), window, [1, 2, 3, 4, 5]).actions
    np.testing.assert_allclose(padded, together, atol=1e-4)
    for row in (0, 4):
        one = {key: value[row : row + 1] for key, value in window.items()}
        np.testing.assert_allclose(act(build(), one, [row + 1]).actions[0], together[row], atol=1e-4)
        np.testing.assert_array_equal(act(build(batch_rows=4), one, [row + 1]).actions[0], padded[row])


def test_decisions_of_an_episode_differ_and_a_reset_repeats_them() -> None:
    policy, window = ready(), make_window(1)
    first = [act(policy, window, [4]).actions, policy.act(window, ActContext.start(1)).actions]
    again = [act(policy, window, [4]).actions, policy.act(window, ActContext.start(1)).actions]
    assert not np.array_equal(first[0], first[1])
    np.testing.assert_array_equal(first, again)


def test_ddpm_takes_all_its_noise_as_an_argument() -> None:
    policy = ready(sampler=functools.partial(DDPM, steps=6))
    chunk = act(policy, make_window(2), [1, 2])
    assert chunk.decision["noise"].shape == (2, 6, 8, 2)
    assert BlackBox(policy).spec.noise_shape == (6, 8, 2)
    np.testing.assert_array_equal(act(policy, make_window(2), [1, 2]).actions, chunk.actions)


def test_sampling_is_the_denoiser_stepped_by_hand() -> None:
    policy = ready()
    obs = {key: torch.from_numpy(value) for key, value in make_window(2).items()}
    noise = torch.randn(2, 8, 2, generator=torch.Generator().manual_seed(0))
    ddim, x = DDIM(policy.schedule, 8), noise
    with torch.no_grad():
        cond = policy.encode(obs)
        for index, t in enumerate(ddim.timesteps):
            x = ddim.step(index, x, policy.predict(x, torch.full((2,), t), cond))
    expected = policy.action_normalizer.denormalize("action", x)
    torch.testing.assert_close(policy.sample(obs, noise), expected, atol=1e-4, rtol=0)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")  # of torch's own compiler
@pytest.mark.parametrize("options", [{"precision": "bfloat16"}, {"compiled": True}], ids=["bfloat16", "compiled"])
def test_quicker_plans_agree_with_the_plain_one(options: dict[str, Any]) -> None:
    small = functools.partial(
        ready, sampler=functools.partial(DDIM, steps=2), network=functools.partial(ChunkMlp, width=16, blocks=1)
    )
    plain, quick = act(small(), make_window(1), [3]).actions, act(small(**options), make_window(1), [3]).actions
    np.testing.assert_allclose(quick, plain, atol=0.05 if "precision" in options else 1e-4)


def test_new_weights_replace_the_acting_plan_and_its_hash() -> None:
    policy, other = ready(), ready(seed=5)
    before, digest = act(policy, make_window(1), [3]).actions, policy.sha256()
    policy.load_state_dict(other.state_dict())
    assert policy.sha256() == other.sha256() != digest
    after = act(policy, make_window(1), [3])
    np.testing.assert_array_equal(after.actions, act(policy, make_window(1), [3]).actions)
    assert not np.array_equal(after.actions, before)
    with pytest.raises(CheckpointError, match="do not fit"):
        policy.load_state_dict(make_policy(horizon=4).state_dict())


def test_windows_ask_for_history_before_and_actions_from_now() -> None:
    windows = make_policy().windows
    assert {key: (o.start, o.stop) for key, o in windows.keys.items()} == {
        "obs/bead/position": (-1, 1),
        "obs/wire/angle": (-1, 1),
        "action/commanded": (0, 8),
    }
    assert (windows.pad, windows.pad_before, windows.pad_after) == (Pad.REPEAT, 1, 7)


def test_masked_steps_do_not_count_in_the_loss() -> None:
    policy = ready()
    batch = {key: torch.from_numpy(value) for key, value in make_batch().items()}
    batch["mask"][:, 5:] = False

    def loss() -> float:
        return policy.loss(batch, torch.Generator().manual_seed(0)).item()

    # The masked steps still enter the network, so only their own error must vanish: compare with the loss by hand.
    with torch.no_grad():
        draw = torch.Generator().manual_seed(0)
        t = torch.randint(0, 50, (16,), generator=draw)
        noise = torch.randn(16, 8, 2, generator=draw)
        alpha = torch.tensor(NoiseSchedule(steps=50).alphas_cumprod, dtype=torch.float32)[t][:, None, None]
        clean = policy.normalizer.normalize("action", batch["action/commanded"])
        cond = policy.encode({key.removeprefix("obs/"): value for key, value in batch.items()})
        output = policy.predict(alpha.sqrt() * clean + (1 - alpha).sqrt() * noise, t, cond)
    expected = (output - noise)[:, :5].square().mean().item()
    assert loss() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "velocity"])
def test_a_small_batch_is_learned_by_heart(prediction: str) -> None:
    sampler = functools.partial(DDIM, steps=10, prediction=prediction)
    policy = make_policy(sampler=sampler, horizon=4, noise_samples=8)
    batch = {key: torch.from_numpy(value)[None] for key, value in make_batch(4, horizon=4).items()}
    policy.fit_normalizer({**make_rows(), "action/commanded": batch["action/commanded"].reshape(-1, 2).numpy()})
    learner = BehaviourCloning(policy, steps=300, learning_rate=5e-3, warmup_steps=20, ema_maximum=0.98)
    for _ in range(300):
        learner.update({"demonstrations": batch})
    policy.load_state_dict(learner.acting_state())
    window = {key.removeprefix("obs/"): value[0].numpy() for key, value in batch.items() if key.startswith("obs/")}
    error = np.abs(act(policy, window, [0, 1, 2, 3]).actions - batch["action/commanded"][0].numpy())
    assert error.mean() < 0.08


def test_both_modes_of_a_bimodal_set_are_kept() -> None:
    """The same observation, demonstrators who go left or right: samples do both and none goes down the middle."""
    policy = make_policy(horizon=4, observation={"wire/angle": "raw"}, noise_samples=4)
    random = np.random.default_rng(0)
    side = random.choice([-1.0, 1.0], size=(64, 1, 1)).astype(np.float32)
    action = np.broadcast_to(side * np.array([1.0, 0.3], dtype=np.float32), (64, 4, 2)).copy()
    rows = {"obs/wire/angle": np.zeros((64, 1), dtype=np.float32), "action/commanded": action.reshape(-1, 2)}
    policy.fit_normalizer(rows)
    batch = {
        "obs/wire/angle": torch.zeros(1, 64, 2, 1),
        "action/commanded": torch.from_numpy(action)[None],
    }
    learner = BehaviourCloning(policy, steps=300, learning_rate=5e-3, warmup_steps=20, ema_maximum=0.98)
    for _ in range(300):
        learner.update({"demonstrations": batch})
    policy.load_state_dict(learner.acting_state())
    chunks = act(policy, {"wire/angle": np.zeros((200, 2, 1), dtype=np.float32)}, list(range(200))).actions
    assert (np.abs(np.abs(chunks[..., 0]) - 1) < 0.2).mean() > 0.85
    right = (chunks[:, 0, 0] > 0).mean()
    assert 0.3 < right < 0.7
    assert (np.sign(chunks[..., 0]) == np.sign(chunks[:, :1, 0])).mean() > 0.95  # a chunk stays with its mode


def test_weights_act_as_soon_as_training_has_changed_them() -> None:
    policy, fresh = ready(), make_policy()
    before = act(policy, make_window(2), [0, 1]).actions
    batch = {key: torch.from_numpy(value)[None] for key, value in make_batch().items()}
    BehaviourCloning(policy, learning_rate=0.1, warmup_steps=1).update({"demonstrations": batch})
    fresh.load_state_dict(policy.state_dict())
    after = act(policy, make_window(2), [0, 1]).actions
    np.testing.assert_array_equal(after, act(fresh, make_window(2), [0, 1]).actions)
    assert np.abs(after - before).max() > 1e-3


def test_an_image_policy_trains_and_acts() -> None:
    camera = functools.partial(
        ImageEncoder, height=40, width=44, crop_height=36, crop_width=40, channels=8, keypoints=4, size=8
    )
    policy = make_policy(observation={"bead/position": "raw"}, cameras={"front": camera})
    assert policy.image_size == (40, 44)
    assert policy.spec.observation["images/front"].shape == (40, 44, 3)
    policy.fit_normalizer(make_rows())
    images = np.random.default_rng(0).integers(0, 256, (16, 2, 40, 44, 3), dtype=np.uint8)
    batch = {key: torch.from_numpy(value)[None] for key, value in make_batch().items()}
    batch["images/front"] = torch.from_numpy(images)[None]
    learner = BehaviourCloning(policy, steps=30, learning_rate=3e-3, warmup_steps=1)
    losses = [learner.update({"demonstrations": batch})["loss"] for _ in range(30)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    window = {"bead/position": make_window(16)["bead/position"], "images/front": images}
    assert np.isfinite(act(policy, window, list(range(16))).actions).all()
    seen = {key: torch.from_numpy(value) for key, value in window.items()}
    inverted = {**seen, "images/front": 255 - seen["images/front"]}
    assert not torch.allclose(policy.encode(seen), policy.encode(inverted), atol=1e-3)


def test_with_cameras_only_what_a_robot_measures_is_read_unless_named() -> None:
    observation = {**SPEC.observation, "object/cube_pose": ArraySpec((7,), unit="m", privileged=True)}
    spec = replace(SPEC, observation=observation)
    camera = functools.partial(ImageEncoder, height=36, width=38, crop_height=34, crop_width=34, channels=8)
    assert "object/cube_pose" in make_policy(spec=spec).spec.observation
    seeing = make_policy(spec=spec, cameras={"front": camera})
    assert list(seeing.spec.observation) == ["bead/position", "wire/angle", "images/front"]
    assert seeing.spec.observation["images/front"].shape == (36, 38, 3)  # of the encoder, not of the source
    assert seeing.image_size == (36, 38)
    with pytest.raises(ConfigError, match="differ in image size"):
        both = replace(spec, cameras={**spec.cameras, "wrist": spec.cameras["front"]})
        make_policy(spec=both, cameras={"front": camera, "wrist": functools.partial(camera, height=35)})


def test_what_is_not_observed_is_refused_by_name() -> None:
    with pytest.raises(SpecMismatchError, match="Did you mean 'bead/position'"):
        make_policy(features=[Raw("bead/positio")])
    with pytest.raises(SpecMismatchError, match="front"):
        make_policy(cameras={"wrist": ImageEncoder})
    with pytest.raises(ConfigError, match="without observation"):
        make_policy(observation={})
    with pytest.raises(ConfigError, match="bfloat16"):
        act(ready(precision="float16"), make_window(1), [0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_the_same_noise_gives_the_same_chunk_on_the_gpu() -> None:
    on_cpu, on_gpu = act(ready(), make_window(3), [1, 2, 3]), act(ready(device="cuda"), make_window(3), [1, 2, 3])
    np.testing.assert_array_equal(on_gpu.decision["noise"], on_cpu.decision["noise"])
    np.testing.assert_allclose(on_gpu.actions, on_cpu.actions, atol=1e-3)
    assert math.isfinite(on_gpu.actions.sum())
