import json
import math
from pathlib import Path

import torch

from trainer.run.log import MetricsLog, joined
from trainer.run.ranks import Ranks
from trainer.terms.term import Chosen

ALONE = Ranks(device=torch.device("cpu"))


def steps(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_lines_appear_on_flush_with_plain_values(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "m.jsonl", ALONE)
    gate = float("nan")
    log.add([{"step": 1, "loss": torch.tensor(0.5), "seconds": {"read": 0.25}, "gate": gate}])
    log.add([{"step": 2, "loss": torch.tensor(float("inf")), "name": "x"}])
    assert (tmp_path / "m.jsonl").read_text() == ""
    records = log.flush()
    assert records == [
        {"step": 1, "loss": 0.5, "seconds": {"read": 0.25}, "gate": None},
        {"step": 2, "loss": None, "name": "x"},
    ]
    assert [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()] == records
    assert log.flush() == []


def test_the_parts_of_a_step_are_one_record() -> None:
    parts = [
        {"step": 3, "loss": 1.0, "error": math.nan, "lost": ["a"], "seconds": {"stall": 2.0}},
        {"loss": 2.0, "error": 5.0, "lost": [], "seconds": {"stall": 1.0, "step": 3.0}},
        {"loss": 6.0, "error": 7.0, "floor": 0.5, "lost": ["b"], "damaged": {"k": "why"}},
    ]
    assert joined(parts) == {
        "step": 3,
        "loss": 3.0,
        "error": 6.0,
        "lost": ["a", "b"],
        "seconds": {"stall": 2.0, "step": 3.0},
        "floor": 0.5,
        "damaged": {"k": "why"},
    }


def test_a_loss_that_is_no_number_in_one_part_is_none_in_all() -> None:
    found = joined([{"loss": 1.0, "error": math.nan}, {"loss": math.nan, "error": math.nan}])
    assert math.isnan(found["loss"])
    assert math.isnan(found["error"])


def test_only_the_first_rank_writes(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "m.jsonl", Ranks(device=torch.device("cpu"), rank=1))
    log.add([{"step": 1}])
    assert log.flush() == [{"step": 1}]
    assert not (tmp_path / "m.jsonl").exists()


def test_a_resumed_log_drops_what_will_be_written_again(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"step": 4, "lo')  # killed in writing
    log = MetricsLog(path, ALONE, keep_steps=2)
    assert steps(path) == [1, 2]
    log.add([{"step": 3}])
    log.flush()
    assert steps(path) == [1, 2, 3]


def test_a_fresh_run_starts_a_fresh_log(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1}\n')
    MetricsLog(path, ALONE)
    assert path.read_text() == ""


def test_names_that_a_mask_chooses_are_looked_up_on_flush(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "m.jsonl", ALONE)
    mask = torch.tensor([True, False, True])
    log.add([{"step": 1, "flow_lost": Chosen(names=["a 0-1", "b 1-2", "c 3-4"], where=mask)}])
    assert log.flush() == [{"step": 1, "flow_lost": ["a 0-1", "c 3-4"]}]
