"""Many arrays handed to a kernel as one argument.

A call from Python unpacks every array of a named tuple anew, some 0.2 us each: 14 us for the sixty of a servo. Bound
once, they stay unpacked, and a call costs one microsecond whatever their number.

Nor do kernels count references to bound arrays: hundreds of atomic increments in a tick take a third of its time. The
``Bound`` itself keeps what it was made from alive, so a kernel must not let an array outlive it.
"""

# pyright: reportAttributeAccessIssue=false
# (numba ships no type information)
from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import config
from numba.core import types
from numba.experimental import structref
from numba.extending import intrinsic

from controllers.compiled import kernel


@structref.register
class _BoundType(types.StructRef):
    def preprocess_fields(self, fields: Any) -> Any:
        return tuple((name, types.unliteral(kind)) for name, kind in fields)


class Bound(structref.StructRefProxy):
    """A named tuple of arrays and numbers on the compiled side; kernels read it as ``bound.parts``.

    It shares the memory of the arrays it was made from.
    """

    owner: Any  # of that memory


structref.define_proxy(Bound, _BoundType, ["parts"])


class _Unbound:
    """The same in plain Python, for a debugger."""

    def __init__(self, parts: Any) -> None:
        self.parts = parts


def bind(parts: Any) -> Any:
    """A ``Bound`` of the named tuple ``parts``."""
    if getattr(config, "DISABLE_JIT", False):
        return _Unbound(parts)
    bound = _bind(parts)
    bound.owner = parts
    return bound


@kernel
def _bind(parts: Any) -> Any:
    return Bound(_borrowed(parts))


def _borrow(typing_context: Any, parts: Any) -> Any:
    """``parts`` with arrays that own nothing: what counts references passes them by."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _without_owner(builder, parts, arguments[0])

    return parts(parts), generate


def _without_owner(builder: Any, kind: Any, value: Any) -> Any:
    if isinstance(kind, types.Array):
        return builder.insert_value(value, ir.Constant(value.type.elements[0], None), 0)  # meminfo
    if isinstance(kind, types.BaseTuple):
        for index, part in enumerate(kind.types):
            inner = _without_owner(builder, part, builder.extract_value(value, index))
            value = builder.insert_value(value, inner, index)
    return value


_borrowed: Any = intrinsic(_borrow)
