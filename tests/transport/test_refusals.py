"""What was refused in one process is the same error in the other."""

import inspect

import pytest

from robot_rl import errors
from robot_rl.errors import CorruptEpisodeError, RobotRlError
from robot_rl.transport.messages import Message, decode, encode
from robot_rl.transport.refusals import accepted, refusal

pytestmark = pytest.mark.robot
KINDS = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, RobotRlError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_arrives_as_it_was_raised(kind: type[RobotRlError]) -> None:
    sent = kind("it is so", limit="less", remedy="Do less")
    with pytest.raises(kind) as caught:
        accepted(decode([bytes(part) for part in encode(refusal(sent))]))
    assert type(caught.value) is kind
    assert (caught.value.what, caught.value.limit, caught.value.remedy) == (sent.what, sent.limit, sent.remedy)


def test_the_place_of_an_error_in_an_episode_arrives_in_its_words() -> None:
    with pytest.raises(CorruptEpisodeError, match="episode e1, array 'rl/reward', row 3: torn"):
        accepted(refusal(CorruptEpisodeError("torn", episode="e1", array="rl/reward", row=3)))


def test_an_error_of_a_class_unknown_here_is_still_an_error() -> None:
    with pytest.raises(RobotRlError, match="new"):
        accepted(Message("error", {"class": "OfTomorrow", "what": "new"}))


def test_any_other_answer_is_passed_on() -> None:
    answer = Message("done", {"request": 1})
    assert accepted(answer) is answer
