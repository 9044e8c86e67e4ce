"""`fluxshard eval` judges a run on clips that it was not trained on, as a table or as JSON."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

Run = Callable[..., tuple[int, str, str]]


class Means(nn.Module):
    """A feature network: the means of each colour, and of each half of the clip."""

    def forward(self, clips: Tensor) -> Tensor:
        half = clips.shape[2] // 2
        return torch.cat(
            [clips[:, :, :half].mean([2, 3, 4]), clips[:, :, half:].mean([2, 3, 4])], 1
        )


def brightness(first: Tensor, second: Tensor) -> Tensor:
    """In the place of LPIPS, whose weights are not here."""
    return (first - second).abs().mean((1, 2, 3))


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_run_is_judged(dataset: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch):
    out = str(tmp_path / "[run]")
    options = ["--preset=tiny", "--method=baseline", "--clips=4", "--device=cpu", "--model.dim=24"]
    options += ["--validation.share=0.5", "--validation.by=key", "--validation.levels=2"]
    code, _, err = run("train", "--data", dataset, "--out", out, *options)
    assert code == 0, err
    code, said, _ = run("eval", out, "--device=cpu", "--samples=0", "--json")
    assert code == 0
    found = json.loads(said)
    assert len(found["by_level"]) == 2
    assert found["data"] == dataset
    assert "motion" not in found
    monkeypatch.setattr("fluxshard.commands.runs.judging.load_lpips", lambda: brightness)
    torch.jit.script(Means()).save(str(tmp_path / "net.pt"))
    options = ["--samples=3", "--steps=3", "--lpips", "--all-clips"]
    options += [f"--fvd-network={tmp_path / 'net.pt'}", "--device=cpu"]
    code, said, err = run("eval", out, *options, "--json")
    assert code == 0, err
    motion, figures = (judged := json.loads(said)["motion"]), judged["figures"]
    assert motion["by_level"].keys() == found["by_level"].keys()
    assert all(error > 0 for error in motion["by_level"].values())
    assert (motion["estimator"], figures["clips"]) == ("dis", 3)
    assert figures["real_clips"] > 3
    for name in ("flicker", "warping_error", "tcs", "lpips_drift", "motion_px"):
        assert figures[name] != figures[f"real_{name}"]
    assert figures["fvd_n"] >= 2
    code, said, err = run("eval", out, *options)
    assert code == 0
    assert all(f"level {level}" in said for level in found["by_level"])
    assert all(name in said for name in figures if not name.startswith("real_"))
    assert "net.pt" in err


def test_a_folder_that_is_no_run_is_wrong_usage(tmp_path: Path, run: Run):
    code, _, err = run("eval", str(tmp_path))
    assert code == 2
    assert "is no run" in err
