"""Counts and seconds add up, as metrics and as a table."""

from collections import Counter
from itertools import count

import pytest

from trainer.stream import timing
from trainer.stream.timing import Totals, stage_table


def test_totals_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count(100, 10)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(ticks))
    counts = [
        {"read_bytes": 5_000_000, "cache_hits": 2},
        {"read_bytes": 35_000_000, "cache_hits": 9},
    ]
    counted = map(Counter, counts)
    totals = Totals(lambda: next(counted))  # at 100
    totals.add({"decode": 4.0, "stall": 1.0, "plan": 0.5}, clips=8, damaged=1)  # at 110
    totals.add({"decode": 2.0, "stall": 1.0}, clips=4, damaged=0)
    facts = totals.facts()  # at 120
    assert facts["seconds"] == 20
    assert facts["first_batch_s"] == 10
    assert (facts["batches"], facts["clips"], facts["damaged"]) == (2, 12, 1)
    assert facts["clips_per_s"] == 12 / 20
    assert facts["read_MB_per_s"] == 30 / 20
    assert (facts["cache_hits"], facts["cache_damaged"]) == (7, 0)
    assert facts["stall_share"] == 2 / 20
    assert (facts["decode_s"], facts["flow_s"]) == (6, 0)
    names, rows = stage_table(facts)
    assert len({len(names), *map(len, rows)}) == 1
    decode = next(row for row in rows if row[0] == "decode")
    assert decode[1:4] == ("6.00", "500.00", "30.0%")
