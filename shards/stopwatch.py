"""Where the time goes: seconds by kind of work, cheap enough to be always on."""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class Stopwatch:
    """Adds up seconds by kind: `with stopwatch("decode"): …`. One thread holds it."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, kind: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[kind] += time.perf_counter() - start

    def add(self, seconds: Mapping[str, float]) -> None:
        """Take over what another one counted."""
        for kind, duration in seconds.items():
            self.seconds[kind] += duration
