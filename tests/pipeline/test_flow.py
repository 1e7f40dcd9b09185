"""Stages: in order, no further ahead than allowed, errors where they belong, threads that end."""

import threading
import time

import pytest

from exprembed.pipeline.flow import in_background, in_order


def stages():
    return [thread for thread in threading.enumerate() if thread.name == "exprembed-stage"]


def test_order_holds_whatever_takes_longest():
    def slow(i):
        time.sleep(0.02 * (i % 3 == 0))
        return i

    assert list(in_order(slow, range(20), threads=4)) == list(range(20))


def test_no_more_than_so_many_are_taken_in_advance():
    taken = []

    def items():
        for i in range(100):
            taken.append(i)
            yield i

    results = in_order(lambda i: i, items(), threads=2, ahead=5)
    assert next(results) == 0
    assert len(taken) <= 7
    results.close()
    assert len(taken) <= 7


def test_an_error_comes_in_its_place():
    def work(i):
        if i == 3:
            raise ValueError("three")
        return i

    results = in_order(work, range(10), threads=3)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)


def test_background_is_bounded_and_in_order():
    made = []

    def items():
        for i in range(50):
            made.append(i)
            yield i

    ahead = in_background(items(), ahead=3)
    assert next(ahead) == 0
    time.sleep(0.3)
    assert len(made) <= 6
    assert list(ahead) == list(range(1, 50))
    assert not stages()


def test_background_passes_errors_on_and_ends_with_its_reader():
    closed = []

    def items():
        try:
            yield 1
            raise OSError("broke off")
        finally:
            closed.append(True)

    stage = in_background(items(), ahead=2)
    assert next(stage) == 1
    with pytest.raises(OSError, match="broke off"):
        next(stage)
    endless = in_background(iter(int, 1), ahead=2)
    next(endless)
    endless.close()
    assert closed == [True]
    assert not stages()
