"""Stages that overlap: bounded, in order, and stopped as soon as nobody asks any more."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")

_END = object()


def in_order(work: Callable[[In], Out], items: Iterable[In], threads: int, ahead: int | None = None) -> Iterator[Out]:
    """Yield work(item) of each item, in their order, computed by several threads.

    Args:
        work: what is done; an exception is raised where its result is due.
        items: taken one by one, at most `ahead` of them before their results are asked for.
        threads: how many work at the same time.
        ahead: results that may wait; four a thread where None.

    Example:
        >>> list(in_order(lambda x: x * x, range(5), threads=2))
        [0, 1, 4, 9, 16]
    """
    waiting: deque[Future[Out]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > (ahead or 4 * threads):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def in_background(items: Iterable[In], ahead: int) -> Iterator[In]:
    """Yield items that a thread of its own makes, at most `ahead` of them in advance.

    An exception of theirs is raised where the next item would have come. Where nobody asks any more (the generator is
    closed), the thread stops at the next item.

    Example:
        >>> list(in_background(range(5), ahead=2))
        [0, 1, 2, 3, 4]
    """
    ready: queue.Queue[object] = queue.Queue(ahead)
    stopped = threading.Event()
    failure: list[BaseException] = []

    def put(item: object) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def run() -> None:
        source = iter(items)
        try:
            for item in source:
                if not put(item):
                    break
        except BaseException as error:  # raised again where it is looked for
            failure.append(error)
        finally:
            close = getattr(source, "close", None)
            if close is not None:
                close()
            put(_END)

    thread = threading.Thread(target=run, name="exprembed-stage", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not _END:
            yield item  # type: ignore[misc]  # the queue holds what `items` gives
        if failure:
            raise failure[0]
    finally:
        stopped.set()
        thread.join()
