"""Arrays on the stack of a kernel."""

import numpy as np

from controllers.compiled import kernel
from controllers.scratch import scratch


@kernel
def fill(value: float, out: np.ndarray) -> float:
    row, table = scratch(3), scratch((2, 4))
    for i in range(3):
        row[i] = value + i
    for i in range(2):
        for j in range(4):
            table[i, j] = row[i] + 10.0 * j
    out[:] = table
    return row[1:].sum()


@kernel
def deep(levels: int) -> float:
    """Every call has arrays of its own."""
    own = scratch(2)
    own[0] = own[1] = levels
    return 0.0 if levels == 0 else deep(levels - 1) + own[0] + own[1]


@kernel
def again(rounds: int) -> float:
    """Asked for in a loop it takes no more of the stack: 8 GB would not fit."""
    total = 0.0
    for k in range(rounds):
        table = scratch((6, 6))
        table[5, 5] = k
        total += table[5, 5]
    return total


def test_they_are_arrays_of_their_shape():
    out = np.zeros((2, 4))
    assert fill(1.0, out) == 5.0
    np.testing.assert_array_equal(out, [[1, 11, 21, 31], [2, 12, 22, 32]])


def test_each_call_has_its_own():
    assert deep(4) == 2.0 * (4 + 3 + 2 + 1)


def test_a_loop_takes_no_more_of_them():
    assert again(30_000_000) == 30_000_000 * 29_999_999 / 2
