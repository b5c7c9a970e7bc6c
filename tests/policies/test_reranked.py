"""Re-ranking: the base at K = 1, nested candidates, and choices computed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from policies.black_box import BlackBox
from policies.chunk_critic import ChunkCritic
from policies.diffusion import DiffusionPolicy
from policies.q_ensemble import QEnsemble
from policies.reranked import Reranked, preferred, supported
from robot_rl.errors import CheckpointError, ConfigError
from robot_rl.learning.checkpoint import save_checkpoint
from robot_rl.types import ActContext
from tests.policies.tiny import CONFIG, SPEC, decisions, make_acting, make_rows, make_window


class Rightmost(nn.Module):
    """Members that value a chunk by its first component, times ``signs``."""

    def __init__(self, feature_size: int, action_size: int, signs: tuple[float, ...] = (1.0, 1.0)) -> None:
        super().__init__()
        self.signs = torch.tensor(signs)

    def forward(self, features: Tensor, action: Tensor) -> Tensor:
        return self.signs[:, None] * action[:, 0]


def make_critic(make: Any = Rightmost, **options: Any) -> ChunkCritic:
    critic = ChunkCritic(SPEC, make, **{"history": 2, "horizon": 4, **options})
    critic.fit_normalizer(make_rows())
    return critic


@pytest.fixture(scope="module")
def base() -> DiffusionPolicy:
    return make_acting(seed=4)


@pytest.mark.parametrize("batch_rows", [None, 2])
def test_one_candidate_is_the_base_bit_for_bit(batch_rows: int | None) -> None:
    base = make_acting(seed=4, batch_rows=batch_rows)
    before = base.sha256()
    for ours, theirs in zip(decisions(Reranked(base, make_critic(), 1)), decisions(base), strict=True):
        np.testing.assert_array_equal(ours.actions, theirs.actions)
        np.testing.assert_array_equal(ours.decision["noise"], theirs.decision["noise"])
        assert ours.execute == theirs.execute
    assert base.sha256() == before


def test_more_candidates_are_nested_and_worth_more(base: DiffusionPolicy) -> None:
    """Without a filter the best of 16 is at least the best of the first 4 of them, to rounding between batches."""
    chunks = {k: decisions(Reranked(base, make_critic(), k, support=1.0)) for k in (1, 4, 16)}
    for few, more in ((1, 4), (4, 16)):
        for first, second in zip(chunks[few], chunks[more], strict=True):
            np.testing.assert_allclose(second.decision["scores"][:, :few], first.decision["scores"], atol=1e-4)
            assert (second.actions[:, 0, 0] >= first.actions[:, 0, 0] - 1e-5).all()
    assert any((a.actions != b.actions).any() for a, b in zip(chunks[1], chunks[16], strict=True))


def test_what_acts_has_the_highest_score(base: DiffusionPolicy) -> None:
    (chunk,) = decisions(Reranked(base, make_critic(), 8, support=1.0), count=1)
    seen = {key: torch.from_numpy(value) for key, value in make_window(3, 0).items()}
    again = BlackBox(base).sample(seen, torch.from_numpy(chunk.decision["noise"]))
    np.testing.assert_allclose(chunk.actions, again.numpy(), atol=1e-5)
    critic = make_critic()
    (alone,) = decisions(base, count=1)
    both = torch.from_numpy(np.stack((alone.actions, chunk.actions), axis=1))
    values = critic.values(seen, both).mean(dim=0)
    np.testing.assert_allclose(values[:, 1] - values[:, 0], chunk.decision["scores"].max(axis=1), atol=1e-5)
    assert (chunk.decision["scores"][:, 0] == 0.0).all()


def test_a_sampler_alone_is_base_enough(base: DiffusionPolicy) -> None:
    whole, box = Reranked(base, make_critic(), 5), Reranked(BlackBox(base), make_critic(), 5)
    for one, other in zip(decisions(whole), decisions(box), strict=True):
        np.testing.assert_array_equal(one.actions, other.actions)


def test_members_that_contradict_each_other_change_nothing(base: DiffusionPolicy) -> None:
    """A critic that knows nothing has a direction of its own in every member: the mean would follow the longest."""
    contradicting = make_critic(lambda **sizes: Rightmost(**sizes, signs=(1.0, -1.0, 3.0, -1.0)))
    for ours, theirs in zip(decisions(Reranked(base, contradicting, 16)), decisions(base), strict=True):
        np.testing.assert_allclose(ours.actions, theirs.actions, atol=1e-5)  # to rounding between batches
    follows = zip(decisions(Reranked(base, contradicting, 16, deviations=0.0)), decisions(base), strict=True)
    assert any(np.abs(one.actions - other.actions).max() > 1e-3 for one, other in follows)


def test_the_bases_own_chunk_may_always_act(base: DiffusionPolicy) -> None:
    """Where one candidate in 16 is dense enough and nothing is gained by it, the base acts, dense or not."""
    worthless = make_critic(lambda **sizes: Rightmost(**sizes, signs=(0.0, 0.0)))
    for ours, theirs in zip(decisions(Reranked(base, worthless, 16, support=0.01)), decisions(base), strict=True):
        np.testing.assert_array_equal(ours.decision["noise"], theirs.decision["noise"])


def test_what_the_base_rarely_does_is_not_chosen() -> None:
    """Of 0, 1, 2, 9 the second neighbour is 2, 1, 2, 8 away: 9 goes first, then the later of the equal ones."""
    points = torch.tensor([[0.0, 1.0, 2.0, 9.0]])[..., None, None]
    assert supported(points, 0.75).tolist() == [[True, True, True, False]]
    assert supported(points, 0.5).tolist() == [[True, True, False, False]]
    assert supported(points, 1.0).all()
    scores = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    assert preferred(scores, supported(points, 0.75), torch.zeros(1, 4), 0.0).tolist() == [2]


@pytest.mark.parametrize("many", range(1, 20))
def test_the_share_that_may_be_chosen_is_rounded_up(many: int) -> None:
    points = torch.randn((3, many, 2, 2), generator=torch.Generator().manual_seed(many))
    assert (supported(points, 0.75).sum(dim=1) == int(np.ceil(0.75 * many))).all()


def test_a_soft_choice_follows_the_softmax() -> None:
    """Scores 0 and ln 3 at temperature 1: 1/4 and 3/4, within 5 standard deviations of 20,000 draws."""
    chance = torch.randn((20_000, 3), generator=torch.Generator().manual_seed(0))
    scores = torch.tensor([0.0, np.log(3.0), 9.0]).expand(20_000, 3)
    chosen = preferred(scores, torch.tensor([True, True, False]).expand(20_000, 3), chance, 1.0)
    assert set(chosen.tolist()) == {0, 1}
    assert abs(chosen.float().mean().item() - 0.75) < 0.0154


def test_a_critic_comes_from_its_run_and_knows_its_base(base: DiffusionPolicy, tmp_path: Path) -> None:
    network = {"_target_": "policies.q_ensemble.QEnsemble", "_partial_": True, "hidden": [8]}
    config = {"_target_": "policies.chunk_critic.ChunkCritic", "ensemble": network, "history": 2, "horizon": 4}
    critic = make_critic(lambda **sizes: QEnsemble(**sizes, hidden=[8]))
    saved = {"weights": critic.state_dict(), "env_spec": SPEC}
    folder = save_checkpoint(tmp_path / "own", **saved, config={**config, "base_sha256": base.sha256()})
    for ours, theirs in zip(
        decisions(Reranked(base, str(folder), 4)), decisions(Reranked(base, critic, 4)), strict=True
    ):
        np.testing.assert_array_equal(ours.actions, theirs.actions)

    other = save_checkpoint(tmp_path / "other", **saved, config={**config, "base_sha256": "0" * 64})
    with pytest.raises(ConfigError, match="another base"):
        Reranked(base, str(other), 4)
    assert Reranked(base, str(other), 4, other_base=True).spec.execute == 4
    no_critic = save_checkpoint(tmp_path / "policy", weights=base.state_dict(), env_spec=SPEC, config=CONFIG)
    with pytest.raises(CheckpointError, match="no ChunkCritic"):
        Reranked(base, str(no_critic), 4)


MISTAKES: dict[str, dict[str, Any]] = {
    "candidates=0": {"candidates": 0},
    "support=0.0": {"support": 0.0},
    "temperature=-1.0": {"temperature": -1.0},
    "judges 2 steps": {"critic": make_critic(horizon=2)},
    "sees 1 observations": {"critic": make_critic(history=1)},
}


@pytest.mark.parametrize("said", MISTAKES)
def test_what_cannot_be_is_refused(said: str, base: DiffusionPolicy) -> None:
    with pytest.raises(ConfigError, match=said):
        Reranked(base, **{"critic": make_critic(), **MISTAKES[said]})


def test_a_chunk_counts_as_the_env_executes_it() -> None:
    """Limits are -2 to 2 m: 7 m is 2 m, and what is not executed does not count."""
    critic = make_critic()
    chunk = torch.zeros((1, 1, 8, 2))
    beyond = chunk.clone()
    beyond[..., 0, 0], beyond[..., 4:, :] = 7.0, 1.0
    chunk[..., 0, 0] = 2.0
    seen = {key: torch.from_numpy(value) for key, value in make_window(1).items()}
    torch.testing.assert_close(critic.values(seen, chunk), critic.values(seen, beyond))


def test_equal_seeds_choose_alike_softly(base: DiffusionPolicy) -> None:
    policy = Reranked(base, make_critic(), 8, temperature=0.5)
    first, again = decisions(policy), decisions(policy)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.actions, other.actions)
    policy.reset(np.arange(3), np.arange(3) + 50)
    assert (policy.act(make_window(3, 0), ActContext.start(3)).actions != first[0].actions).any()
