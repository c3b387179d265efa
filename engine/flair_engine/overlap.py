"""Work in other threads while this one goes on: generators with bounded queues, and a stopwatch."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

T = TypeVar("T")
_END = object()


class Stopwatch:
    """Adds up the seconds one stage is busy. Used by one thread at a time."""

    def __init__(self) -> None:
        self.busy_s = 0.0

    def time(self, items: Iterable[T]) -> Iterator[T]:
        """Yield `items`, counting only the time it takes to produce each."""
        iterator = iter(items)
        while True:
            start = time.perf_counter()
            item = next(iterator, _END)
            self.busy_s += time.perf_counter() - start
            if item is _END:
                return
            yield item  # type: ignore[misc]  # everything but _END is a T

    def timed(self, function: Callable[[T], None]) -> Callable[[T], None]:
        """Return `function`, counting the time of its calls."""

        def call(item: T) -> None:
            start = time.perf_counter()
            function(item)
            self.busy_s += time.perf_counter() - start

        return call


def prefetched(items: Iterable[T], depth: int = 1) -> Generator[T]:
    """Yield `items`, made by another thread up to `depth` of them ahead."""
    iterator = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="read") as reader:
        ahead = deque(reader.submit(next, iterator, _END) for _ in range(depth))
        try:
            while (item := ahead.popleft().result()) is not _END:
                ahead.append(reader.submit(next, iterator, _END))
                yield item  # type: ignore[misc]  # everything but _END is a T
        finally:
            reader.shutdown(cancel_futures=True)


def written_behind(items: Iterable[T], write: Callable[[T], None], depth: int = 2) -> Generator[T]:
    """Pass each item to `write` in another thread, at most `depth` waiting; yield it when done."""
    pending: deque[tuple[T, Future[None]]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="write") as writer:
        try:
            for item in items:
                pending.append((item, writer.submit(write, item)))
                if len(pending) > depth:
                    yield _done(*pending.popleft())
            while pending:
                yield _done(*pending.popleft())
        finally:
            writer.shutdown(cancel_futures=True)


@contextmanager
def alongside(task: Callable[[], None], cancel: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Run `task` in another thread while the block runs, and wait for it at the end.

    Yields a function that raises what `task` has raised by then. Where the block raises, `cancel`
    makes `task` end soon.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="assemble") as thread:
        future = thread.submit(task)

        def check() -> None:
            if future.done():
                future.result()

        try:
            yield check
            future.result()
        except BaseException:
            cancel()
            raise


def _done(item: T, future: Future[None]) -> T:
    future.result()
    return item
