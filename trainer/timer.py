"""Where the time goes: seconds by kind, cheap enough to be always on."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Timer:
    """Adds up seconds by kind. One thread fills it; others may be added to it."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, kind: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[kind] += time.perf_counter() - start

    def add(self, other: "Timer") -> None:
        for kind, seconds in other.seconds.items():
            self.seconds[kind] += seconds
