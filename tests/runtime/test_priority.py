import os
import sys
import threading
from collections.abc import Iterator

import pytest

from robot_rl.runtime.priority import PRIORITY, SWITCH_INTERVAL_S, run_first


@pytest.fixture(autouse=True)
def interval() -> Iterator[None]:
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


def in_thread(work):
    found = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def scheduling():
    return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK, os.sched_getparam(0).sched_priority


@pytest.mark.skipif(not hasattr(os, "sched_setscheduler"), reason="threads have no scheduling policy here")
def test_a_thread_runs_first_where_that_is_permitted_and_those_it_starts_are_ordinary():
    def work():
        return run_first(), scheduling(), in_thread(scheduling)

    first, own, started = in_thread(work)
    ordinary = (os.SCHED_OTHER, 0)
    assert own == ((os.SCHED_FIFO, PRIORITY) if first else ordinary)
    assert started == scheduling() == ordinary


def test_where_it_is_refused_everything_stays(monkeypatch):
    def refused(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refused, raising=False)
    assert in_thread(run_first) is False
    assert sys.getswitchinterval() == SWITCH_INTERVAL_S
