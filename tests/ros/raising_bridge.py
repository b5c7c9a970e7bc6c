"""The bridge with a callback that raises, on the topic teleop/gripper."""

from __future__ import annotations

import sys
from typing import Any

from robot_rl_bridge.bridge import Bridge, main


def raise_error(self: Bridge, message: Any) -> None:
    raise RuntimeError("as injected")


if __name__ == "__main__":
    Bridge._on_teleop_gripper = raise_error  # type: ignore[method-assign]
    sys.exit(main())
