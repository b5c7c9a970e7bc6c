"""How the weight of imitation falls, by hand."""

from __future__ import annotations

import pytest

from robot_rl.errors import ConfigError
from robot_rl.learning.imitation import Imitation


def test_the_weight_holds_first_and_then_goes_for_good() -> None:
    """Half is left after ten steps, a sixteenth after twenty: 0.5^1, 0.5^4."""
    imitation = Imitation(4.0, 10.0, demonstrations=True)
    assert [imitation.at(step) for step in (0, 10, 20)] == [4.0, 2.0, 0.25]
    assert imitation.at(5) == pytest.approx(4.0 * 0.5**0.25)
    assert imitation.at(100) < 1e-29


def test_nothing_is_imitated_without_a_weight_or_demonstrations() -> None:
    assert Imitation(1.0, 10.0, demonstrations=True)
    assert not Imitation(0.0, 10.0, demonstrations=False)
    with pytest.raises(ConfigError, match="demonstrations=true"):
        Imitation(1.0, 10.0, demonstrations=False)
