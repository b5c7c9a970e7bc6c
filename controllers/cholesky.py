"""Small symmetric positive definite systems in place; LAPACK's overhead is larger than the work at n = 7."""

from __future__ import annotations

import math

from controllers.compiled import kernel
from robot_rl.types import Array


@kernel
def cholesky(matrix: Array) -> None:
    """Lower factor in place (the upper triangle is left as it is)."""
    n = matrix.shape[0]
    for j in range(n):
        pivot = matrix[j, j]
        for k in range(j):
            pivot -= matrix[j, k] ** 2
        pivot = math.sqrt(max(pivot, 1e-12))
        matrix[j, j] = pivot
        for i in range(j + 1, n):
            value = matrix[i, j]
            for k in range(j):
                value -= matrix[i, k] * matrix[j, k]
            matrix[i, j] = value / pivot


@kernel
def solve_cholesky(factor: Array, vector: Array) -> None:
    """Solve L L^T x = vector in place."""
    n = factor.shape[0]
    for i in range(n):
        for k in range(i):
            vector[i] -= factor[i, k] * vector[k]
        vector[i] /= factor[i, i]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            vector[i] -= factor[k, i] * vector[k]
        vector[i] /= factor[i, i]
