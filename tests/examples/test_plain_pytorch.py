from dataclasses import replace
from pathlib import Path

import torch

from examples.plain_pytorch import CONFIG, main


def test_a_run_in_two_parts_ends_where_one_in_a_piece_does(made, small, tmp_path: Path) -> None:
    config = small(CONFIG)
    main(made.dataset.url, tmp_path / "whole", config)
    for clips in (2, 6):
        main(made.dataset.url, tmp_path / "parts", replace(config, clips=clips))
    whole, parts = (
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)
        for name in ("whole", "parts")
    )
    assert whole["stream"] == parts["stream"]
    assert whole["stream"]["position"] == 6
    for name, weight in whole["model"].items():
        assert torch.equal(weight, parts["model"][name]), name
    assert whole["model"]["head.weight"].any()  # which starts as zero


def test_a_finished_run_is_left_as_it_is(made, small, tmp_path: Path, capsys) -> None:
    config = replace(small(CONFIG), clips=2)
    for _ in range(2):
        main(made.dataset.url, tmp_path, config)
    assert capsys.readouterr().out.startswith("2 clips: loss ")
    main(made.dataset.url, tmp_path, config)
    assert capsys.readouterr().out == ""
