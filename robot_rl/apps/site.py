"""What a lab adds without touching the package: the folder ``$ROBOT_RL_SITE``.

Its Python modules can be named by ``_target_``, and its folder ``conf`` is searched for options beside the package's:
``conf/robot/<name>.yaml``, ``conf/scene/<name>.yaml``, ``conf/task/<name>.yaml``, ...
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from robot_rl.errors import ConfigError

VARIABLE = "ROBOT_RL_SITE"


def with_site(overrides: Sequence[str]) -> list[str]:
    """Hydra overrides that also search the site's options; its modules can be imported from now on.

    Raises ConfigError when the variable names no folder.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        return list(overrides)
    site = Path(named).expanduser().resolve()
    if not site.is_dir():
        raise ConfigError(f"{VARIABLE}={named} is no folder", remedy=f"Create it, or unset {VARIABLE}")
    if str(site) not in sys.path:
        sys.path.append(str(site))
    conf = site / "conf"
    if not conf.is_dir() or any(word.startswith("hydra.searchpath=") for word in overrides):
        return list(overrides)
    return [f"hydra.searchpath=['file://{conf}']", *overrides]
