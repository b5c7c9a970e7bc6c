"""Arrays bound once for kernels."""

from typing import Any, NamedTuple

import numpy as np

from controllers.bound import Bound, bind
from controllers.compiled import kernel


class Inner(NamedTuple):
    vector: Any
    scale: float


class Outer(NamedTuple):
    inner: Inner
    counts: Any


@kernel
def scale_in_place(bound: Bound) -> float:
    inner, counts = bound.parts
    total = 0.0
    for i in range(inner.vector.shape[0]):
        inner.vector[i] *= inner.scale
        total += inner.vector[i]
    counts[0] += 1
    return total


def test_a_kernel_works_on_the_arrays_themselves():
    vector, counts = np.array([1.0, 2.0]), np.zeros(1, dtype=np.int64)
    bound = bind(Outer(Inner(vector, 3.0), counts))
    assert scale_in_place(bound) == 9.0
    vector[0] = 1.0  # written from Python, read by the kernel
    assert scale_in_place(bound) == 21.0
    np.testing.assert_array_equal(vector, [3.0, 18.0])
    assert counts[0] == 2


def test_what_is_bound_outlives_its_names():
    view = np.arange(1000.0)[::2]
    bound = bind(Outer(Inner(view.copy(), 1.0), np.zeros(1, dtype=np.int64)))
    np.full(500, -1.0)  # would fall into freed memory
    assert scale_in_place(bound) == view.sum()


def test_other_types_are_bound_as_well():
    bound = bind(Outer(Inner(np.array([2.0], dtype=np.float32), 0.5), np.zeros(1, dtype=np.int32)))
    assert scale_in_place(bound) == 1.0
