"""`fluxshard train`."""

import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from inspect import getdoc
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import arg

from fluxshard.arguments import check_writable, parse
from trainer.config import TrainConfig
from trainer.presets import METHODS, PRESETS
from trainer.settings import read_config, to_toml


def train(
    *,
    data: str,
    out: str,
    samples: int = 0,
    prompts: str = "",
    config: Annotated[TrainConfig, arg(name="")] = TrainConfig(),  # noqa: B008 - frozen
) -> int:
    """Train a video diffusion model on a dataset, or continue a run from its checkpoint.

    Writes config.json, config.toml, metrics.jsonl and checkpoints. The same command goes on from
    the latest checkpoint; nothing has to be said for that. On several GPUs, start it by `torchrun
    --nproc-per-node GPUS -m fluxshard train …`.

    Args:
        data: folder or URL of the dataset.
        out: folder of the run.
        samples: clips to sample from the model before the first step and at every checkpoint, as
            samples/CLIPS.mp4 in the folder of the run; 0: none.
        prompts: file with a text on each line, which samples take in turn; for a model that learns
            from captions. Without samples: as many as there are lines.
    """
    from fluxshard.commands.runs.samples import sampling
    from fluxshard.terminal import print_table, progress_bars, say
    from trainer import stage_table
    from trainer.run.failures import RunFailed
    from trainer.run.loop import train as run

    check_writable(out)
    status = Status()
    try:
        with progress_bars(hidden=os.environ.get("RANK", "0") != "0") as show:
            summary = run(
                data,
                out,
                config,
                lambda line: show(status(line), line["clips"], config.clips),
                sampling(out, config, samples, prompts),
            )
    except RunFailed as failure:
        say(str(failure), "error", "red")
        return 1
    if not summary.leads:
        return 0
    say(
        f"steps {summary.first_step} to {summary.last_step} in {summary.seconds:.0f} s, "
        f"{summary.parameters / 1e6:.1f} M parameters, {losses(summary.last)} → {out}"
    )
    for reason, count in summary.left_out.items():
        say(f"{count} clips, {reason}", "left out", "yellow")
    if summary.stream:
        print_table(*stage_table(summary.stream), error=True)
    return 0


class Status:
    """The live line: the newest losses, clips a second, and how long training waits for data."""

    def __init__(self) -> None:
        self._newest: dict[str, Any] = {}
        self._steps: deque[tuple[int, float, float]] = deque(maxlen=50)

    def __call__(self, line: dict[str, Any]) -> str:
        """After a step."""
        seconds, known = line["seconds"], {k: v for k, v in line.items() if v is not None}
        self._newest |= known
        self._steps.append((line["clips"], seconds["step"], seconds["stall"]))
        said = losses(known | {k: v for k, v in self._newest.items() if k == "val/loss"})
        if len(self._steps) == 1:
            return said
        clips = self._steps[-1][0] - self._steps[0][0]
        spent, stalled = (sum(step[n] for step in list(self._steps)[1:]) for n in (1, 2))
        return f"{said}  {clips / spent:.3g} clips/s  stall {stalled / spent:.0%}"


def losses(record: dict[str, Any]) -> str:
    """`loss 0.123  flow_loss 0.045`, of what the record has, and pairs without a finite flow."""
    names = ("loss", "recon", "flow_loss", "val/loss")
    parts = [f"{n} {record[n]:.4g}" for n in names if record.get(n) is not None]
    if lost := record.get("flow_lost"):
        parts.append(f"no finite flow: {', '.join(lost[:3])}{', …' if len(lost) > 3 else ''}")
    return "  ".join(parts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """The options that are read before all others, as they decide what these start from."""

    preset: Literal["small", "tiny"] = "small"
    method: Literal["baseline", "fluxflow", "flowloss", "pyramid", "fvdm", "all"] | None = None
    config: str = ""
    print_config: bool = False

    def configuration(self) -> TrainConfig:
        """What the other options change: the preset, its methods, then the file's settings."""
        base = PRESETS[self.preset]()
        base = METHODS[self.method](base) if self.method else base
        return read_config(self.config, base) if self.config else base


def print_config(
    *,
    data: str = "",
    out: str = "",
    config: Annotated[TrainConfig, arg(name="")] = TrainConfig(),  # noqa: B008 - frozen
) -> int:
    """Write a configuration to standard output, as --config takes it."""
    from fluxshard.terminal import write

    write(*to_toml(config).splitlines())
    return 0


def parse_train(arguments: Sequence[str]) -> int:
    """Call `train` with its arguments as written; some of them choose the defaults of the rest."""
    start, rest = tyro.cli(
        Start,
        prog="fluxshard train",
        args=arguments,
        return_unknown_args=True,
        add_help=False,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    about = (getdoc(train) or "").partition("Args:")[0]
    chosen = " with ".join(filter(None, (start.preset, start.method, start.config)))
    description = (
        f"{about}--preset {{{','.join(PRESETS)}}} chooses the configuration that the other options "
        f"change, by default small; --method {{{','.join(METHODS)}}} which methods it has, by "
        "default all but fvdm; --config FILE.toml has settings by the names of the options; "
        f"--print-config writes all of them as such a file. Below, they start from {chosen}."
    )
    command = partial(print_config if start.print_config else train, config=start.configuration())
    return parse(command, "train", rest, description=description)
