"""One rank of the runs that `test_ranks` compares with a run of one process.

torchrun --nproc-per-node 2 rank.py DATASET OUT CONFIG
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from trainer import TrainConfig, train
from trainer.settings import config_of


def main(data: str, out: Path, config: TrainConfig) -> None:
    """Runs of several kinds, one after the other in one group of processes."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    halves = replace(config, optim=replace(config.optim, accumulate=2))
    train(data, out / "ddp", config)
    if dist.get_world_size() == 2:
        train(data, out / "ddp-accumulated", replace(halves, clips=8))
        train(data, out / "fsdp2", replace(config, parallel="fsdp2", clips=config.clips // 2))
        train(data, out / "fsdp2-accumulated", replace(halves, parallel="fsdp2", clips=8))
    dist.destroy_process_group()
    # What is compared is on disk by now, and Python's end is left out: torch caches DTensor specs
    # whose mesh keeps gloo's threads alive after FSDP2, and a rank has aborted (-6) once.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), config_of(json.loads(sys.argv[3])))
