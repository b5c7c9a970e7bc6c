"""Actor or learner of a session, in a process of its own: python -m robot_rl.apps.session_end <end> <config> ...

Started by robot_rl.apps.session_processes. Ctrl-C and a lost terminal are the parent's: it stops the actor first, then
the learner.
"""

from __future__ import annotations

import signal
import sys

if __name__ == "__main__":  # before anything slow: the terminal sends them to all
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)

from pathlib import Path
from typing import Any

from robot_rl.apps.environment import closing, given_env, make_env
from robot_rl.apps.judging import judged
from robot_rl.apps.main import guarded
from robot_rl.runtime.processes import Figures, leave_with_parent

ACTOR, LEARNER = "actor", "learner"


def main(end: str, config_file: str, folder: str, address: str, leash: str, figures: str, again: str) -> None:
    """Be the ``end`` of the session in the run ``folder``; ``again`` is 'again' when it was started before."""
    from omegaconf import OmegaConf

    leave_with_parent(int(leash))
    config: Any = OmegaConf.load(config_file)
    if end == ACTOR:
        from robot_rl.apps.actor import act

        env = judged(config, make_env(given_env(config, "session")))
        with closing(env):
            act(config, env, Path(folder) / "actor", address, Figures(int(figures)))
    else:
        from robot_rl.apps.learner import serve

        config.resume = config.resume or again == "again"
        serve(config, Path(folder), address, Figures(int(figures)))


if __name__ == "__main__":
    sys.exit(guarded(f"session, {sys.argv[1]}", lambda: main(*sys.argv[1:])))
