from pathlib import Path

import pytest
import torch

from benchmarks.codec_memory import GIB, main, peak


def test_what_lives_at_the_same_time_is_counted_once() -> None:
    def work() -> None:
        one = torch.empty(256, device="meta")  # 1 KiB
        view = one.view(16, 16).t()
        two = one + 1
        del one, view  # the view held it
        (two + 1).add_(1)

    assert peak(work) * GIB == 2048


def test_a_gradient_costs_more_than_a_decoding_and_checkpointing_saves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.json"
    (row,) = main(["--only", "AutoencoderKLLTXVideo", "--size", "64x64", "--json", str(file)])
    assert float(row["decode"]) < float(row["checkpointing"]) < float(row["gradient"])
    assert row["frames"] == 33
    assert file.exists()
    assert "AutoencoderKLLTXVideo" in capsys.readouterr().out
