from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from robot_rl.data.normalizer import Normalizer
from robot_rl.errors import ConfigError, InvalidArrayError
from robot_rl.types import ActionKind, ActionPart, ActionSpec

ROWS = {"pose": np.array([[0.0, 10.0, 7.0], [4.0, 30.0, 7.0], [2.0, 20.0, 7.0]], dtype=np.float32)}


def test_range_by_hand_and_a_constant_is_only_shifted() -> None:
    normalizer = Normalizer.fit(ROWS)
    np.testing.assert_allclose(normalizer.normalize("pose", ROWS["pose"]), [[-1, -1, 0], [1, 1, 0], [0, 0, 0]])
    np.testing.assert_allclose(normalizer.normalize("pose", np.array([2.0, 20.0, 8.5])), [0, 0, 1.5])


def test_gaussian_by_hand_with_a_floor_under_the_deviation() -> None:
    rows = {"x": np.array([[0.0, 1.0], [4.0, 1.02]], dtype=np.float32)}
    scaled = Normalizer.fit(rows, "gaussian").normalize("x", rows["x"])
    np.testing.assert_allclose(scaled, [[-1, -0.1], [1, 0.1]], atol=1e-5)


def test_limits_of_an_action_spec_become_plus_and_minus_one() -> None:
    action = ActionSpec((ActionPart("a", ActionKind.RAW, (0.0, -4.0), (1.0, 2.0)),))
    normalizer = Normalizer.from_limits(action)
    np.testing.assert_allclose(normalizer.normalize("action", np.array([[0.0, -4.0], [1.0, 2.0]])), [[-1, -1], [1, 1]])


@settings(max_examples=50, deadline=None)
@given(
    arrays.arrays(np.float32, (7, 3), elements=st.floats(-1e3, 1e3, width=32)), st.sampled_from(["range", "gaussian"])
)
def test_round_trip_in_numpy_and_torch(rows: np.ndarray, mode: str) -> None:
    normalizer = Normalizer.fit({"x": rows}, mode)
    back = normalizer.denormalize("x", normalizer.normalize("x", rows))
    np.testing.assert_allclose(back, rows, atol=1e-3, rtol=1e-5)
    scaled = normalizer.normalize("x", torch.from_numpy(rows))
    np.testing.assert_array_equal(scaled.numpy(), normalizer.normalize("x", rows))
    assert torch.isfinite(scaled).all()


def test_state_dict_brings_back_the_same_numbers_and_hash() -> None:
    normalizer = Normalizer.fit({"a/b": ROWS["pose"], "c": ROWS["pose"] * 2})
    state = {key: torch.from_numpy(value) for key, value in normalizer.state_dict().items()}
    again = Normalizer.from_state_dict(state)
    assert again.sha256() == normalizer.sha256()
    np.testing.assert_array_equal(again.offset["a/b"], normalizer.offset["a/b"])
    assert Normalizer.fit({"c": ROWS["pose"]}).sha256() != normalizer.sha256()


def test_bad_data_is_named() -> None:
    with pytest.raises(InvalidArrayError, match="no rows of 'x'"):
        Normalizer.fit({"x": np.zeros((0, 2))})
    with pytest.raises(InvalidArrayError, match=r"'x' holds nan at \[1, 0\]"):
        Normalizer.fit({"x": np.array([[0.0], [np.nan]])})
    with pytest.raises(InvalidArrayError, match="Did you mean 'pose'"):
        Normalizer.fit(ROWS).normalize("pos", ROWS["pose"])
    with pytest.raises(ConfigError, match="gaussian"):
        Normalizer.fit(ROWS, "normal")
