import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from safetensors.torch import load_file
from torch import Tensor

from examples.accelerate_loop import CONFIG, main

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.filterwarnings("ignore")  # of theirs


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One process on the CPU; Accelerate's singletons end with each run."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    yield
    forget()


def forget() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def weights(run: Path, clips: int) -> dict[str, Tensor]:
    return load_file(run / f"{clips:09d}" / "model.safetensors")


def test_a_run_in_two_parts_ends_where_one_in_a_piece_does(made, small, tmp_path: Path) -> None:
    config = small(CONFIG)
    assert config.optim.accumulate == 2
    main(made.dataset.url, tmp_path / "whole", config)
    for clips in (2, 6):
        forget()
        main(made.dataset.url, tmp_path / "parts", replace(config, clips=clips))
    whole, parts = weights(tmp_path / "whole", 6), weights(tmp_path / "parts", 6)
    assert all(torch.equal(weight, parts[name]) for name, weight in whole.items())
    assert not torch.equal(whole["head.weight"], weights(tmp_path / "parts", 2)["head.weight"])
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == [
        "000000002",
        "000000006",
    ]


def test_parts_of_a_batch_make_the_step_of_the_whole(made, small, tmp_path: Path) -> None:
    config = replace(small(CONFIG), clips=2)
    main(made.dataset.url, tmp_path / "parts", config)
    forget()
    main(
        made.dataset.url,
        tmp_path / "whole",
        replace(config, optim=replace(config.optim, accumulate=1)),
    )
    parts, whole = weights(tmp_path / "parts", 2), weights(tmp_path / "whole", 2)
    for name, weight in whole.items():
        torch.testing.assert_close(parts[name], weight, rtol=0, atol=1e-5)


@pytest.mark.drill
def test_two_processes_train_as_one_does_and_one_goes_on(made, small, tmp_path: Path) -> None:
    config = small(replace(CONFIG, optim=replace(CONFIG.optim, accumulate=1)))
    main(made.dataset.url, tmp_path / "one", config)
    forget()
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    flags = "--clips 4 --stream.frames 9 --stream.batch 2 --stream.threads 1 --stream.window 2"
    flags += " --model.dim 16 --model.depth 1 --model.heads 2 --optim.accumulate 1"
    flags += " --model.no-checkpointing --flow-loss.psi 10"
    given = ["examples/accelerate_loop.py", "--data", made.dataset.url, "--out", tmp_path / "two"]
    subprocess.run(
        [sys.executable, *launch, *map(str, given), *flags.split()],
        check=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    main(made.dataset.url, tmp_path / "two", config)
    one, two = weights(tmp_path / "one", 6), weights(tmp_path / "two", 6)
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=0, atol=1e-5)
