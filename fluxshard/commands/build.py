"""`fluxshard build`."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import getdoc
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import Positional, arg

from fluxshard.arguments import Resources, check_writable, parse, writing
from pipeline.planning.config import BuildConfig

if TYPE_CHECKING:
    from pipeline.building.dry_run import Prediction
    from pipeline.building.job import Outcome
    from pipeline.building.make_dataset import Build, Given


def build(
    paths: Annotated[Positional[tuple[str, ...]], arg(metavar="SRC... OUT")],
    /,
    config: Annotated[BuildConfig, arg(name="")] = BuildConfig(),  # noqa: B008 - frozen
    resources: Annotated[Resources, arg(name="")] = Resources(),  # noqa: B008 - frozen
    clips: str = "",
    dry_run: bool = False,
    strict: bool = False,
    allow_failed: bool = False,
) -> int:
    """Build a dataset of clips and flow from videos.

    Run it again after an interruption, or with more videos: it continues where it stopped. Flow
    that was computed before, for any dataset that the flow cache knows, is copied. Exits with 0
    when every accepted clip is written, 1 when a shard failed or there is no clip at all.

    Args:
        paths: videos, folders, globs, URLs, or CSV / JSONL / Parquet manifests with a `video`
            column; last, the folder or URL of the dataset.
        clips: build the clips of this table instead, from `fluxshard scan` and edited with any
            tool, and name OUT alone: a Parquet file, or the folder of a scan. Size, frames, and
            what else it still tells of its scan are then the defaults of the options.
        dry_run: make no dataset, but say how large it would be and what it would take, from
            building a sample of its clips. The scan is kept in OUT/scans for the real build.
        strict: exit with 1 if any input was refused.
        allow_failed: finish the dataset without the videos that cannot be read now and the shards
            that fail, and exit with 1 all the same; rejects.parquet names them, and a later build
            tries them again.
    """
    from fluxshard.terminal import progress_bars
    from pipeline.building.make_dataset import Build
    from pipeline.planning.config import flow_specs
    from pipeline.source.given_clips import GivenClips
    from pipeline.source.inputs import find_sources
    from shards import Store

    check_paths(paths, table=clips)
    *inputs, out = paths
    given = GivenClips(clips) if clips else find_sources(inputs)
    flow_specs(config)  # refuses an unknown or unusable estimator before anything is decoded
    catalog = resources.catalog()
    check_writable(out)
    with writing(out), resources.cluster(out) as client, progress_bars() as show:
        job = Build(store=Store(out), config=config, client=client, progress=show, catalog=catalog)
        if dry_run:
            tell = partial(tell_prediction, *prediction_of(job, given, allow_failed))
        else:
            outcome = job.make(given, allow_failed=allow_failed)
            tell = partial(tell_outcome, outcome, out, strict, allow_failed)
    return tell()


def prediction_of(
    job: "Build", given: "Given", allow_failed: bool
) -> "tuple[Prediction | None, dict[str, str]]":
    """What a build would make and cost, and why some inputs could not be scanned, by path.

    None if the build would stop there.
    """
    from pipeline.building.dry_run import predict
    from pipeline.building.make_dataset import found_manifest

    found_manifest(job.store, job.config)  # refuses before anything is decoded
    inputs, unscanned = job.take(given)
    stops = unscanned and not allow_failed
    return None if stops else predict(job, inputs), unscanned


def tell_outcome(outcome: "Outcome", out: str, strict: bool, allow_failed: bool) -> int:
    """Say what became of a build; returns its exit code."""
    from fluxshard.terminal import print_outcome, print_rejects, say

    print_rejects(outcome.rejects)
    print_outcome(outcome, out)
    if outcome.failed or outcome.unscanned:
        closed = "the dataset is finished without what failed; a later build tries it again"
        say(closed if allow_failed else "run it again, or with --allow-failed to do without these")
    return outcome.exit_code(strict=strict)


def tell_prediction(prediction: "Prediction | None", unscanned: Mapping[str, str]) -> int:
    """Say what a build would make and cost; returns the exit code."""
    from fluxshard.terminal import prediction_facts, print_facts, print_unscanned, say

    print_unscanned(unscanned)
    if prediction is None:
        say("nothing is predicted: run it again, or with --allow-failed to do without these")
        return 1
    for key, error in prediction.failed.items():
        say(error, f"sampled clip {key} failed", "red")
    print_facts(prediction_facts(prediction))
    return int(bool(unscanned or prediction.failed))


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """The option that is read before all others, as it decides what they start from."""

    clips: str = ""


def parse_build(arguments: Sequence[str]) -> int:
    """Call `build` with its arguments as written; a table of clips tells the defaults of the rest.

    Raises:
        UsageError: it is no table of clips.
    """
    given, _ = tyro.cli(
        Table, prog="fluxshard build", args=arguments, return_unknown_args=True, add_help=False
    )
    if not given.clips:
        return parse(build, "build", arguments)
    about = (getdoc(build) or "").partition("Args:")[0]
    command = partial(build, config=config_of(given.clips))
    return parse(command, "build", arguments, description=about)


def config_of(table: str) -> BuildConfig:
    """The configuration that a table of clips asks for, as far as it tells."""
    from pipeline.source.given_clips import GivenClips

    return BuildConfig.from_json({**BuildConfig().to_json(), **GivenClips(table).config()})


def check_paths(paths: Sequence[str], command: str = "build", *, table: str = "") -> None:
    """UsageError unless these are sources and, last, what is or can become a dataset.

    Args:
        command: that they were given to.
        table: of clips to build, instead of sources.
    """
    from shards import UsageError

    if table:
        if len(paths) != 1:
            raise UsageError(
                f"{len(paths)} paths are named beside --clips, which tells the sources: name the "
                f"folder of the dataset alone: `fluxshard build --clips {table} OUT`"
            )
        return
    example = f"`fluxshard {command} SRC... OUT`"
    made = "dataset" if command == "build" else "table of clips"
    if not paths:
        raise UsageError(f"name at least one source and, last, the folder of the {made}: {example}")
    out = paths[-1]
    if holds_videos(out):
        raise UsageError(
            f"{out} is what to {command} from and no {made}: name, after it, the folder of the "
            f"{made} to make: {example}"
        )
    if len(paths) == 1:
        raise UsageError(
            f"{out} is all that is named: name at least one source before the folder of the "
            f"{made}: {example}"
        )


def holds_videos(path: str) -> bool:
    """Whether something is a file, or a folder of videos that is no dataset."""
    from pipeline.source.inputs import find_sources
    from shards import UsageError

    if not os.path.isdir(path):
        return os.path.isfile(path)
    if os.path.exists(os.path.join(path, "manifest.json")):
        return False
    try:
        return bool(find_sources([path])[0])
    except UsageError:
        return False
