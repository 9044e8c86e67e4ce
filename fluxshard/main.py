"""The command line: from raw videos to a video diffusion model in training.

Each subcommand is one small function that calls into one package, imported where it is used.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

# Before torch loads: threads that wait for work must not burn the cores that decoders need.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import tyro
from tyro.conf import OmitArgPrefixes, Positional, arg

from fluxshard.arguments import Resources, option, registry
from fluxshard.terminal import print_facts, print_outcome, print_rejects, progress_bars, terminal
from pipeline.planning.config import BuildConfig
from shards.manifest import DamagedDataset
from shards.store import Store
from trainer.config import TrainConfig
from trainer.presets import PRESETS

DatasetPath = Annotated[Positional[str], arg(metavar="DATASET")]


def build(
    paths: Annotated[Positional[tuple[str, ...]], arg(metavar="SRC... OUT")],
    /,
    config: OmitArgPrefixes[BuildConfig] = BuildConfig(),  # noqa: B008 - frozen
    resources: OmitArgPrefixes[Resources] = Resources(),  # noqa: B008 - frozen
    strict: bool = False,
) -> int:
    """Build a dataset of clips and flow from videos.

    Run it again after an interruption, or with more videos: it continues where it stopped. Flow
    that was computed before, for any dataset that the flow cache knows, is copied. Exits with 0
    when every accepted clip is written, 1 when a shard failed or there is no clip at all.

    Args:
        paths: videos, folders, globs, or CSV / JSONL / Parquet manifests with a `video` column;
            last, the folder of the dataset.
        strict: exit with 1 if any input was refused.
    """
    from pipeline.building.make_dataset import make_dataset
    from pipeline.planning.config import flow_specs
    from pipeline.source.inputs import find_sources

    if len(paths) < 2:
        raise ValueError("name at least one source and, last, the folder of the dataset")
    *inputs, out = paths
    sources, missing = find_sources(inputs)
    flow_specs(config)  # refuses an unknown or unusable estimator before anything is decoded
    catalog = resources.catalog()
    with resources.cluster() as client, progress_bars() as show:
        outcome = make_dataset(sources, missing, Store(out), config, client, show, catalog)
    print_rejects(outcome.rejects)
    print_outcome(outcome, out)
    return outcome.exit_code(strict=strict)


def flow(
    dataset: DatasetPath,
    /,
    *,
    estimator: str,
    from_clips: bool = False,
    levels: tuple[int, ...] = (),
    resources: OmitArgPrefixes[Resources] = Resources(),  # noqa: B008 - frozen
) -> int:
    """Add a flow layer to a dataset, beside those that it has; nothing else of it changes.

    Run it again after an interruption: it continues where it stopped.

    Args:
        dataset: folder or URL of the dataset.
        estimator: flow estimator of the layer.
        from_clips: compute on the stored clips instead of the source videos; another layer.
        levels: frame distances for which flow is stored; by default as in the configuration.
    """
    from pipeline.building.add_layer import add_layer, layer_spec
    from shards.index import Dataset

    opened = Dataset(dataset)
    spec = layer_spec(opened, estimator, from_clips=from_clips, levels=levels)
    catalog = resources.catalog()
    with resources.cluster() as client, progress_bars() as show:
        outcome = add_layer(opened, spec, client, show, catalog)
    print_outcome(outcome, f"{dataset}/flow/{spec.layer}")
    return outcome.exit_code(strict=False)


def merge(paths: Annotated[Positional[tuple[str, ...]], arg(metavar="DATASET... OUT")], /) -> int:
    """Make one dataset of several; it refers to their shards, no data is copied.

    Args:
        paths: datasets whose keys differ; last, the folder of the new dataset.
    """
    from shards.merge import merge as refer

    left_out = refer([Store(path) for path in paths[:-1]], Store(paths[-1]))
    for layer in left_out:
        terminal.print(f"layer {layer.name} is left out: not every dataset has it")
    terminal.print(f"{len(paths) - 1} datasets → {paths[-1]}")
    return 0


def cache(
    action: Positional[Literal["list", "verify", "prune", "forget", "add"]],
    dataset: Annotated[Positional[str], arg(metavar="[DATASET]")] = "",
    /,
    *,
    flow_cache: str = "",
) -> int:
    """Look after the catalog of computed flow; the flow itself stays in its datasets.

    Args:
        action: list the layers with owners and sizes; verify their bytes; prune layers that are
            gone; forget the layers of a dataset, or add them, also when it has moved.
        dataset: folder or URL of the dataset, to forget or to add.
        flow_cache: folder or URL of the catalog; by default in the user's cache.
    """
    from flow_cache.reuse.catalog import open_catalog
    from fluxshard.commands.upkeep import look_after

    lines, sound = look_after(open_catalog(flow_cache), action, dataset)
    print(*lines, sep="\n")
    return int(not sound)


def verify(dataset: DatasetPath, /) -> int:
    """Check every byte of a dataset against its index; exits with 1 and a list if any is wrong.

    Args:
        dataset: folder or URL of the dataset.
    """
    from shards.verify import verify as find_problems

    problems = list(find_problems(Store(dataset)))
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
    from fluxshard.report.summary import summarise
    from shards.index import Dataset

    facts = summarise(Dataset(dataset))
    if as_json:
        print(json.dumps(facts, indent=1))
        return 0
    print_facts(facts)
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
    from fluxshard.report.clip_figure import inspect_figure

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
        from trainer.run.loop import train as run

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
    from fluxshard.demo.videos import DEMO_CONFIG, make_videos, true_flow
    from fluxshard.report.page import write_report
    from shards.stopwatch import Stopwatch

    folder = Path(out)
    watch = Stopwatch()
    data, run = str(folder / "dataset"), folder / "run"
    with watch("make videos"):
        sources = make_videos(folder / "videos")
    with watch("build"):
        code = build((*sources, data), DEMO_CONFIG, Resources(no_flow_cache=True))
    with watch("train"):
        code = code or _train(PRESETS["tiny"]())(data=data, out=str(run))
    if code:
        return code
    with watch("report"):
        scores = write_report(folder / "report.html", data, run, true_flow, seconds=watch.seconds)
    for layer, score in scores.items():
        errors = ", ".join(f"{n} apart {s.end_point_error:.3f}" for n, s in score.total.items())
        terminal.print(f"{layer}: mean end-point error against the truth, px, frames {errors}")
    terminal.print(f"open {folder / 'report.html'}")
    return 0


def _losses(record: dict[str, Any]) -> str:
    """`loss 0.123  flow_loss 0.045`, of what the record has."""
    names = ("loss", "recon", "flow_loss")
    return "  ".join(f"{n} {record[n]:.4g}" for n in names if record.get(n) is not None)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; the exit code is 0 for success, 1 for failure, 2 for wrong usage."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    preset = option(arguments, "--preset", "small")
    commands: dict[str, Callable[..., Any]] = {
        "build": build,
        "flow": flow,
        "merge": merge,
        "cache": cache,
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
        return 1 if isinstance(error, DamagedDataset | FloatingPointError) else 2


if __name__ == "__main__":
    sys.exit(main())
