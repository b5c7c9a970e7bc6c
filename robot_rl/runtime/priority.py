"""Which threads run first. Base dependencies only: a robot computer imports this."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

PRIORITY = 10  # of 1 to 99: above everything ordinary, below the kernel's own
SWITCH_INTERVAL_S = 5e-4  # so long another thread may keep a control thread waiting; Python's own is ten times that


def run_first() -> bool:
    """Let the calling thread, which serves an arm, run before all ordinary ones as soon as it is due; whether it does.

    SCHED_FIFO of Linux, where the system permits it: to root, or by a line such as ``@robot - rtprio 50`` in
    /etc/security/limits.conf. Threads and processes that it starts are ordinary again. Only for threads that wait most
    of the time: the kernel leaves the others no more than a twentieth of a processor. In any case the interpreter's
    threads take turns every SWITCH_INTERVAL_S from now on.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(PRIORITY))
        return True
    return False
