"""``robot-rl`` as launch starts it: being interrupted is how it ends there, so that is exit code 0.

python -m robot_rl_bringup.command record task=lift robot=bridge ...
"""

from __future__ import annotations

import sys

from robot_rl.apps.main import INTERRUPTED, main


def run() -> int:
    code = main()
    return 0 if code == INTERRUPTED else code


if __name__ == "__main__":
    sys.exit(run())
