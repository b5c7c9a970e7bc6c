"""Which threads run first. Base dependencies only: a robot computer imports this."""

from __future__ import annotations

import os
from contextlib import suppress

PRIORITY = 10  # of 1 to 99: above everything ordinary, below the kernel's own


def run_first() -> bool:
    """Let the calling thread, which serves an arm, run before all ordinary ones as soon as it is due; whether it does.

    SCHED_FIFO of Linux, where the system permits it: to root, or by a line such as ``@robot - rtprio 50`` in
    /etc/security/limits.conf. Threads and processes that it starts are ordinary again. Only for threads that wait most
    of the time: the kernel leaves the others no more than a twentieth of a processor.
    """
    with suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(PRIORITY))
        return True
    return False
