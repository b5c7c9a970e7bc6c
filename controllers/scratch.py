"""Small arrays of fixed size on the stack of a kernel.

``np.empty`` asks the heap, some 40 ns each time, and hides from the compiler that nobody else sees the array.
"""

# pyright: reportAttributeAccessIssue=false
# (numba ships no type information)
from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array


def _on_the_stack(typing_context: Any, shape: Any) -> Any:
    """float64 array of a ``shape`` written out in the kernel, not initialised, gone when the kernel returns."""
    lengths = [length.literal_value for length in ([shape] if isinstance(shape, types.IntegerLiteral) else shape)]
    array = types.Array(types.float64, len(lengths), "C")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word, number = ir.IntType(64), ir.DoubleType()
        memory = cgutils.alloca_once(builder, ir.ArrayType(number, math.prod(lengths)))
        strides = [8 * math.prod(lengths[axis + 1 :]) for axis in range(len(lengths))]
        result = make_array(array)(context, builder)
        populate_array(
            result, builder.bitcast(memory, number.as_pointer()), [word(length) for length in lengths],
            [word(stride) for stride in strides], word(8), None,
        )  # fmt: skip
        return result._getvalue()

    return array(shape), generate


scratch: Any = np.empty if getattr(config, "DISABLE_JIT", False) else intrinsic(prefer_literal=True)(_on_the_stack)
