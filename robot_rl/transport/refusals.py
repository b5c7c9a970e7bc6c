"""An error on its way to the process that asked for what was refused."""

from __future__ import annotations

import inspect
from typing import Any

from robot_rl import errors
from robot_rl.errors import RobotRlError
from robot_rl.transport.messages import Message

_KINDS = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, RobotRlError)  # all can be made of what, limit and remedy
}


def refusal(error: RobotRlError) -> Message:
    """The answer that tells ``error``."""
    fields = {"class": type(error).__name__, "what": error.what, "limit": error.limit, "remedy": error.remedy}
    return Message("error", fields)


def accepted(reply: Message) -> Message:
    """``reply`` itself, or the error that it tells raised; one of an unknown class is a RobotRlError."""
    if reply.kind != "error":
        return reply
    fields: dict[str, Any] = dict(reply.fields)
    kind = _KINDS.get(fields.get("class", ""), RobotRlError)
    raise kind(str(fields.get("what")), limit=fields.get("limit"), remedy=fields.get("remedy"))
