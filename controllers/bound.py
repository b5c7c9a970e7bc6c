"""Many arrays handed to a kernel as one argument.

A call from Python unpacks every array of a named tuple anew, some 0.2 us each: 14 us for the sixty of a servo. Bound
once, they stay unpacked, and a call costs one microsecond whatever their number.
"""

# pyright: reportAttributeAccessIssue=false
# (numba ships no type information)
from __future__ import annotations

from typing import Any

from numba import config
from numba.core import types
from numba.experimental import structref

from controllers.compiled import kernel


@structref.register
class _BoundType(types.StructRef):
    def preprocess_fields(self, fields: Any) -> Any:
        return tuple((name, types.unliteral(kind)) for name, kind in fields)


class Bound(structref.StructRefProxy):
    """A named tuple of arrays and numbers on the compiled side; kernels read it as ``bound.parts``.

    It shares the memory of the arrays it was made from.
    """


structref.define_proxy(Bound, _BoundType, ["parts"])


class _Unbound:
    """The same in plain Python, for a debugger."""

    def __init__(self, parts: Any) -> None:
        self.parts = parts


def bind(parts: Any) -> Any:
    """A ``Bound`` of the named tuple ``parts``."""
    return _Unbound(parts) if getattr(config, "DISABLE_JIT", False) else _bind(parts)


@kernel
def _bind(parts: Any) -> Any:
    return Bound(parts)
