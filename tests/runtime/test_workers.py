"""Threads for work that releases the interpreter's lock."""

import threading

import pytest

from robot_rl.errors import ConfigError, RobotRlError
from robot_rl.runtime.workers import Workers


@pytest.fixture
def workers():
    pool = Workers(3)
    yield pool
    pool.close()


def test_results_come_in_the_order_of_the_items(workers):
    assert workers.run(lambda item: item * item, 10) == [item * item for item in range(10)]
    assert workers.run(lambda item: item, 2) == [0, 1]
    assert workers.run(lambda item: item, 0) == []


def test_an_item_stays_with_its_thread(workers):
    once = workers.run(lambda item: threading.get_ident(), 7)
    assert workers.run(lambda item: threading.get_ident(), 7) == once
    assert len(set(once)) == 3
    assert once[0] == once[3] == once[6]


def test_threads_run_at_the_same_time(workers):
    """Each waits for all the others: one after the other they would never pass."""
    barrier = threading.Barrier(3, timeout=60)
    assert sorted(workers.run(lambda item: barrier.wait(), 3)) == [0, 1, 2]


def test_all_are_done_before_the_first_error_is_raised(workers):
    done = []

    def task(item: int) -> None:
        if item in (1, 4):
            raise ValueError(f"item {item}")
        done.append(item)

    with pytest.raises(ValueError, match="item 1"):
        workers.run(task, 6)
    assert sorted(done) == [0, 2, 3, 5]
    assert workers.run(lambda item: item, 3) == [0, 1, 2]


def test_threads_end_when_closed():
    pool = Workers(2)
    threads = pool.run(lambda item: threading.current_thread(), 2)
    pool.close()
    pool.close()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    with pytest.raises(RobotRlError, match="closed"):
        pool.run(lambda item: item, 2)
    assert pool.run(lambda item: item, 0) == []


def test_no_threads_are_refused():
    with pytest.raises(ConfigError, match="at least 1"):
        Workers(0)
