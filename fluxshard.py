"""The command line: from raw videos to a video diffusion model in training.

Each subcommand is one small function that calls into one package. Packages are imported where they
are used, so that `--help` and `info` do not wait for torch.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

# Before torch loads: threads that wait for work must not burn the cores that decoders need.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import tyro
from rich.table import Table
from tyro.conf import OmitArgPrefixes, Positional, arg
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from pipeline.config import BuildConfig
from pipeline.terminal import print_rejects, progress_bars, terminal
from shards.reader import DamagedShard
from trainer.config import TrainConfig
from trainer.presets import PRESETS

registry = ConstructorRegistry()


DatasetPath = Annotated[Positional[str], arg(metavar="DATASET")]


def build(
    paths: Annotated[Positional[tuple[str, ...]], arg(metavar="SRC... OUT")],
    /,
    config: OmitArgPrefixes[BuildConfig] = BuildConfig(),  # noqa: B008 - frozen
    workers: int = os.cpu_count() or 1,
    scheduler: str = "",
    strict: bool = False,
) -> int:
    """Build a dataset of clips and flow from videos.

    Run it again after an interruption, or with more videos: it continues where it stopped. Exits
    with 0 when every accepted clip is written, 1 when a shard failed or there is no clip at all.

    Args:
        paths: videos, folders, globs, or CSV / JSONL / Parquet manifests with a `video` column;
            last, the folder of the dataset.
        workers: worker processes on this machine.
        scheduler: address of a Dask scheduler to use instead of local workers.
        strict: exit with 1 if any input was refused.
    """
    from pipeline.cluster import connect
    from pipeline.config import flow_specs
    from pipeline.inputs import find_sources
    from pipeline.job import run_build

    if len(paths) < 2:
        raise ValueError("name at least one source and, last, the folder of the dataset")
    *inputs, out = paths
    sources, missing = find_sources(inputs)
    flow_specs(config)  # refuses an unknown or unusable estimator before anything is decoded
    with connect(scheduler or None, workers) as client, progress_bars() as show:
        outcome = run_build(sources, missing, out, config, client, show)
    for shard, error in outcome.failed.items():
        terminal.print(f"[red]shard {shard} failed:[/] {error}", highlight=False)
    print_rejects(outcome.rejects)
    terminal.print(
        f"inputs: {outcome.inputs}, rejects: {len(outcome.rejects)}, clips: {outcome.clips}; "
        f"shards: {outcome.built} built, {outcome.kept} kept, {len(outcome.failed)} failed → {out}"
    )
    return outcome.exit_code(strict=strict)


def verify(dataset: DatasetPath, /) -> int:
    """Check every byte of a dataset against its index; exits with 1 and a list if any is wrong.

    Args:
        dataset: folder or URL of the dataset.
    """
    from shards.verify import verify as find_problems

    problems = list(find_problems(dataset))
    for problem in problems:
        print(problem)
    terminal.print(f"{len(problems)} problems" if problems else f"{dataset} is intact")
    return int(bool(problems))


def info(dataset: DatasetPath, /, as_json: Annotated[bool, arg(name="json")] = False) -> int:
    """Say what a dataset holds: clips, seconds of video, shards, bytes, layers, rejects.

    Args:
        dataset: folder or URL of the dataset.
        as_json: print JSON to stdout instead.
    """
    from shards.index import Dataset
    from shards.summary import summarise

    facts = summarise(Dataset(dataset))
    if as_json:
        print(json.dumps(facts, indent=1))
        return 0
    table = Table(show_header=False, box=None)
    for name, value in facts.items():
        table.add_row(name.replace("_", " "), _readable(name, value))
    terminal.print(table)
    return 0


def inspect(
    dataset: DatasetPath,
    key: Annotated[Positional[str], arg(metavar="KEY")] = "",
    /,
    *,
    out: str,
    layer: str = "",
) -> int:
    """Draw one clip: frames, flow in the Middlebury colour wheel, occlusion.

    Args:
        dataset: folder or URL of the dataset.
        key: of the clip; by default the first.
        out: the picture to write, a .png file.
        layer: flow layer, by estimator or digest; by default the one that was built first.
    """
    from pipeline.inspect import inspect_figure

    inspect_figure(dataset, key or None, layer or None).savefig(out)
    terminal.print(f"wrote {out}")
    return 0


def _train(default: TrainConfig) -> Callable[..., int]:
    """The `train` subcommand with a preset's values as the defaults."""

    def train(
        *,
        data: str,
        out: str,
        preset: Literal["small", "tiny"] = "small",
        config: Annotated[TrainConfig, arg(name="")] = default,
    ) -> int:
        """Train a video diffusion model on a dataset, or continue a run from its checkpoint.

        Writes config.json, metrics.jsonl and checkpoint.pt.

        Args:
            data: folder or URL of the dataset.
            out: folder of the run.
            preset: the configuration to start from; other options change it.
        """
        from trainer.loop import train as run

        with progress_bars() as show:
            summary = run(
                data, out, config, lambda line: show(_losses(line), line["step"], config.steps)
            )
        terminal.print(
            f"steps {summary.first_step} to {summary.last_step} in {summary.seconds:.0f} s, "
            f"{summary.parameters / 1e6:.1f} M parameters, {_losses(summary.last)} → {out}"
        )
        return 0

    return train


def demo(out: str = "demo") -> int:
    """Make sample videos with known motion, build shards, train on them, write a report.

    Args:
        out: folder for all of it; report.html in it is the page to open.
    """
    from pipeline.demo import DEMO_CONFIG, make_videos, true_flow
    from pipeline.report import write_report

    folder = Path(out)
    seconds: dict[str, float] = {}
    data, run = str(folder / "dataset"), folder / "run"
    with _timed(seconds, "make videos"):
        sources = make_videos(folder / "videos")
    with _timed(seconds, "build"):
        code = build((*sources, data), DEMO_CONFIG)
    with _timed(seconds, "train"):
        code = code or _train(PRESETS["tiny"]())(data=data, out=str(run))
    if code:
        return code
    with _timed(seconds, "report"):
        scores = write_report(folder / "report.html", data, run, true_flow, seconds=seconds)
    for layer, score in scores.items():
        errors = ", ".join(f"{n} apart {s.end_point_error:.3f}" for n, s in score.total.items())
        terminal.print(f"{layer}: mean end-point error against the truth, px, frames {errors}")
    terminal.print(f"open {folder / 'report.html'}")
    return 0


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - began


def _losses(record: dict[str, Any]) -> str:
    """`loss 0.123  flow_loss 0.045`, of what the record has."""
    names = ("loss", "recon", "flow_loss")
    return "  ".join(f"{n} {record[n]:.4g}" for n in names if record.get(n) is not None)


def _readable(name: str, value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_readable(key, item)}" for key, item in value.items()) or "none"
    if name.endswith("bytes"):
        return f"{value / 2**20:,.1f} MiB"
    return str(value)


def _option(arguments: Sequence[str], name: str, default: str) -> str:
    """The value of an option that decides what the others mean, before they are parsed."""
    for argument, following in zip(arguments, [*arguments[1:], default], strict=True):
        if argument == name:
            return following
        if argument.startswith(f"{name}="):
            return argument.partition("=")[2]
    return default


def _one_argument(
    kind: Any, metavar: str, parse: Callable[[str], Any], show: Callable[[Any], str]
) -> None:
    """Teach the command line a type that is written as one word."""

    @registry.primitive_rule
    def rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
        if get_args(info.type) != get_args(kind):  # tyro hands on typing.Tuple for tuple
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar=metavar,
            instance_from_str=lambda words: parse(words[0]),
            is_instance=lambda value: not isinstance(value, str),
            str_from_instance=lambda value: [show(value)],
        )


def _parse_size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return int(height), int(width)


_one_argument(tuple[int, int], "HxW", _parse_size, lambda size: f"{size[0]}x{size[1]}")
_one_argument(
    tuple[int, ...],
    "1,2,4",
    lambda text: tuple(int(level) for level in text.split(",")),
    lambda levels: ",".join(map(str, levels)),
)
_one_argument(
    Fraction | None,
    "F",
    lambda text: None if text == "none" else Fraction(text),
    lambda f: str(f or "none"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; the exit code is 0 for success, 1 for failure, 2 for wrong usage."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    preset = _option(arguments, "--preset", "small")
    commands: dict[str, Callable[..., Any]] = {
        "build": build,
        "verify": verify,
        "info": info,
        "inspect": inspect,
        "train": _train(PRESETS.get(preset, PRESETS["small"])()),
        "demo": demo,
    }
    try:
        return tyro.extras.subcommand_cli_from_dict(
            commands,
            prog="fluxshard",
            description="From raw videos to a video diffusion model in training.",
            args=arguments,
            config=(tyro.conf.FlagCreatePairsOff,),
            registry=registry,
        )
    except (ValueError, FileNotFoundError, FloatingPointError) as error:
        terminal.print(f"[red]error:[/] {error}", highlight=False)
        return 1 if isinstance(error, DamagedShard | FloatingPointError) else 2


if __name__ == "__main__":
    sys.exit(main())
