"""Learning on a GPU gives what learning on the CPU gives: same draws, same numbers to rounding; skipped without one."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch

from policies.gaussian import GaussianPolicy
from policies.gripper_values import GripperValues
from policies.q_ensemble import QEnsemble
from robot_rl.errors import ConfigError
from robot_rl.learning.batches import place
from robot_rl.learning.compilation import compiler
from robot_rl.learning.rlpd import Rlpd
from robot_rl.types import ActContext
from tests.learning.test_grasp_critic import SPEC, batch

CPU = torch.device("cpu")
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def make(device: str, **options: Any) -> Rlpd:
    gripper = functools.partial(GripperValues, hidden=(32,))
    policy = GaussianPolicy(SPEC, hidden=(32, 32), gripper=gripper, device=device, seed=1)
    rng = np.random.default_rng(0)
    policy.fit_normalizer({f"obs/{key}": rng.normal(size=(64, 1)).astype(np.float32) for key in SPEC.observation})
    critic = functools.partial(QEnsemble, members=5, hidden=(32, 32))
    return Rlpd(policy, critic, **{"demonstrations": False, "gripper_penalty": 0.1, **options})


def learnt(learner: Rlpd, steps: int = 5) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for step in range(steps):
        data = batch(seed=step, groups=2)
        data["online"]["reward"] += 0.5
        metrics = learner.update(data)
    return metrics


@cuda
@pytest.mark.parametrize(("compiled", "precision"), [(False, "float32"), (True, "float32"), (True, "bfloat16")])
def test_a_gpu_learns_what_a_cpu_learns(compiled: bool, precision: str) -> None:
    expected = learnt(make("cpu", compiled=False))
    found = learnt(make("cuda", compiled=compiled, precision=precision))
    rounding = 5e-2 if precision == "bfloat16" else 2e-3
    assert found == pytest.approx(expected, rel=rounding, abs=rounding)


@cuda
def test_a_run_moves_from_gpu_to_cpu_and_back() -> None:
    there, here = make("cuda", compiled=False), make("cpu", compiled=False)
    learnt(there)
    here.load_state_dict({name: value.cpu() for name, value in there.state_dict().items()})
    assert learnt(here) == pytest.approx(learnt(there), rel=2e-3, abs=2e-3)
    back = make("cuda", compiled=False)
    back.load_state_dict(here.state_dict())
    assert learnt(back) == pytest.approx(learnt(here), rel=2e-3, abs=2e-3)


@cuda
def test_a_gpu_acts_as_a_cpu_does() -> None:
    rng = np.random.default_rng(0)
    window = {key: rng.normal(size=(16, 1, 1)).astype(np.float32) for key in SPEC.observation}
    for explore in (False, True):
        actions = [
            learner.policy.act(window, ActContext.start(16, explore=explore)).actions  # type: ignore[attr-defined]
            for learner in (make("cpu"), make("cuda"))
        ]
        np.testing.assert_allclose(actions[0], actions[1], atol=1e-4)


@cuda
def test_batches_arrive_whole_while_others_are_on_their_way() -> None:
    device = torch.device("cuda")
    sent = [{"x": torch.full((1000, 1000), float(i))} for i in range(20)]
    arrived = [place(one, device)["x"] for one in sent]
    assert [one.unique().tolist() for one in arrived] == [[float(i)] for i in range(20)]


def test_on_a_cpu_nothing_is_copied_and_auto_does_not_compile() -> None:
    data = batch()["online"]
    assert all(value is data[key] for key, value in place(data, CPU).items())
    for choice in ("auto", False):
        assert compiler(choice, CPU)(learnt) is learnt
    with pytest.raises(ConfigError, match="compiled=sometimes"):
        compiler("sometimes", CPU)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_gpu_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigError, match=r"device 'cuda' is not available.*device=cpu"):
        make("cuda")
    assert make("auto").device == CPU
