"""What a calibration ended with: numbers with their limits, a verdict, pictures, and what is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from calibration.storage import Calibration


@dataclass(frozen=True)
class Line:
    """One number of the table; ``good`` is what it should be, in words, ``fine`` whether it is."""

    name: str
    value: str
    good: str = ""
    fine: bool = True


@dataclass(frozen=True)
class Figure:
    """A picture of the report, PNG."""

    title: str
    png: bytes


@dataclass(frozen=True, eq=False)
class Outcome:
    """``name`` is that of the stored file; ``exports`` are further files, name -> text."""

    name: str
    title: str
    calibration: Calibration
    lines: Sequence[Line]
    figures: Sequence[Figure] = ()
    exports: Mapping[str, str] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """In a sentence."""
        missed = [line.name for line in self.lines if not line.fine]
        if not missed and not self.calibration.weak:
            return "Good: every number is within its limit."
        weak = [*(f"{name} is outside its limit" for name in missed), *self.calibration.weak]
        return "Usable, with weaknesses: " + "; ".join(weak) + "."
