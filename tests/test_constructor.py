"""Arguments from a configuration are held to the constructor's annotations."""

from __future__ import annotations

from typing import Any

import pytest

from robot_rl.constructor import check_arguments
from robot_rl.errors import ConfigError


class Part:
    def __init__(
        self, steps: int, rate_hz: float | None = None, name: str = "", on: bool = False, sizes: Any = 0
    ) -> None:
        self.given = steps, rate_hz, name, on, sizes


@pytest.mark.parametrize("arguments", [{"steps": 3, "rate_hz": 2}, {"rate_hz": None, "on": True}, {"sizes": "any"}, {}])
def test_what_fits_passes(arguments: dict[str, Any]) -> None:
    check_arguments(Part, arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"steps": "two"}, r"Part: steps=two \(limit: an integer\)"),
        ({"steps": 1.5}, r"steps=1.5 \(limit: an integer\)"),
        ({"steps": True}, r"steps=True \(limit: an integer\)"),
        ({"rate_hz": "fast"}, r"rate_hz=fast \(limit: a number or null\)"),
        ({"name": {"a": 1}}, r"limit: a word"),
        ({"on": 1}, r"limit: true or false"),
    ],
)
def test_another_type_is_named(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_arguments(Part, arguments)
