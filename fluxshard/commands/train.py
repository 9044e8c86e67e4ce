"""`fluxshard train`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from inspect import getdoc
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import arg

from fluxshard.arguments import check_writable, parse
from trainer.config import TrainConfig
from trainer.presets import PRESETS


def train(
    *,
    data: str,
    out: str,
    config: Annotated[TrainConfig, arg(name="")] = TrainConfig(),  # noqa: B008 - frozen
) -> int:
    """Train a video diffusion model on a dataset, or continue a run from its checkpoint.

    Writes config.json, metrics.jsonl and checkpoint.pt.

    Args:
        data: folder or URL of the dataset.
        out: folder of the run.
    """
    from fluxshard.terminal import print_table, progress_bars, say
    from trainer import stage_table
    from trainer.run.loop import train as run

    check_writable(out)
    with progress_bars() as show:
        summary = run(
            data, out, config, lambda line: show(losses(line), line["step"], config.steps)
        )
    say(
        f"steps {summary.first_step} to {summary.last_step} in {summary.seconds:.0f} s, "
        f"{summary.parameters / 1e6:.1f} M parameters, {losses(summary.last)} → {out}"
    )
    if summary.stream:
        print_table(*stage_table(summary.stream), error=True)
    return 0


def losses(record: dict[str, Any]) -> str:
    """`loss 0.123  flow_loss 0.045`, of what the record has, and pairs without a finite flow."""
    names = ("loss", "recon", "flow_loss")
    parts = [f"{n} {record[n]:.4g}" for n in names if record.get(n) is not None]
    if lost := record.get("flow_lost"):
        parts.append(f"no finite flow: {', '.join(lost[:3])}{', …' if len(lost) > 3 else ''}")
    return "  ".join(parts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """The option that is read before all others, as it decides what they start from."""

    preset: Literal["small", "tiny"] = "small"


def parse_train(arguments: Sequence[str]) -> int:
    """Call `train` with its arguments as written; `--preset` chooses the defaults of the rest."""
    chosen, rest = tyro.cli(
        Preset, prog="fluxshard train", args=arguments, return_unknown_args=True, add_help=False
    )
    about = (getdoc(train) or "").partition("Args:")[0]
    description = (
        f"{about}--preset {{{','.join(PRESETS)}}} chooses the configuration that the other options "
        f"change, by default small. Below, they start from {chosen.preset}."
    )
    command = partial(train, config=PRESETS[chosen.preset]())
    return parse(command, "train", rest, description=description)
