import json
from pathlib import Path

import torch

from trainer.run.log import Chosen, MetricsLog


def steps(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_lines_appear_on_flush_with_plain_values(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "m.jsonl")
    log.add({"step": 1, "loss": torch.tensor(0.5), "seconds": {"read": 0.25}, "gate": float("nan")})
    log.add({"step": 2, "loss": torch.tensor(float("inf")), "name": "x"})
    assert (tmp_path / "m.jsonl").read_text() == ""
    records = log.flush()
    assert records == [
        {"step": 1, "loss": 0.5, "seconds": {"read": 0.25}, "gate": None},
        {"step": 2, "loss": None, "name": "x"},
    ]
    assert [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()] == records
    assert log.flush() == []


def test_a_resumed_log_drops_what_will_be_written_again(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"step": 4, "lo')  # killed in writing
    log = MetricsLog(path, keep_steps=2)
    assert steps(path) == [1, 2]
    log.add({"step": 3})
    log.flush()
    assert steps(path) == [1, 2, 3]


def test_a_fresh_run_starts_a_fresh_log(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1}\n')
    MetricsLog(path)
    assert path.read_text() == ""


def test_names_that_a_mask_chooses_are_looked_up_on_flush(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "m.jsonl")
    mask = torch.tensor([True, False, True])
    log.add({"step": 1, "flow_lost": Chosen(names=["a 0-1", "b 1-2", "c 3-4"], where=mask)})
    assert log.flush() == [{"step": 1, "flow_lost": ["a 0-1", "c 3-4"]}]
