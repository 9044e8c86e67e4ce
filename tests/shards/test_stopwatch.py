"""Seconds add up by kind, also when the work fails."""

import pytest

from shards.stopwatch import Stopwatch


def test_seconds_add_up_by_kind(monkeypatch: pytest.MonkeyPatch):
    times = iter([0.0, 1.0, 10.0, 12.5, 20.0, 20.25])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    watch = Stopwatch()
    with watch("read"):
        pass
    with watch("decode"):
        pass
    with watch("read"):
        pass
    assert watch.seconds == {"read": 1.25, "decode": 2.5}
    watch.add({"read": 1.0, "flow": 4.0})
    assert watch.seconds == {"read": 2.25, "decode": 2.5, "flow": 4.0}


def test_work_that_fails_is_counted():
    watch = Stopwatch()
    with pytest.raises(RuntimeError), watch("read"):
        raise RuntimeError
    assert list(watch.seconds) == ["read"]
