"""`fluxshard build`."""

import os
from collections.abc import Sequence
from typing import Annotated

from tyro.conf import Positional, arg

from fluxshard.arguments import Resources, check_writable, writing
from pipeline.planning.config import BuildConfig


def build(
    paths: Annotated[Positional[tuple[str, ...]], arg(metavar="SRC... OUT")],
    /,
    config: Annotated[BuildConfig, arg(name="")] = BuildConfig(),  # noqa: B008 - frozen
    resources: Annotated[Resources, arg(name="")] = Resources(),  # noqa: B008 - frozen
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
        strict: exit with 1 if any input was refused.
        allow_failed: finish the dataset without the videos that cannot be read now and the shards
            that fail, and exit with 1 all the same; rejects.parquet names them, and a later build
            tries them again.
    """
    from fluxshard.terminal import print_outcome, print_rejects, progress_bars, say
    from pipeline.building.make_dataset import make_dataset
    from pipeline.planning.config import flow_specs
    from pipeline.source.inputs import find_sources
    from shards import Store

    check_paths(paths)
    *inputs, out = paths
    sources, missing = find_sources(inputs)
    flow_specs(config)  # refuses an unknown or unusable estimator before anything is decoded
    catalog = resources.catalog()
    check_writable(out)
    with writing(out), resources.cluster(out) as client, progress_bars() as show:
        outcome = make_dataset(
            *(sources, missing, Store(out), config, client, show, catalog),
            allow_failed=allow_failed,
        )
    print_rejects(outcome.rejects)
    print_outcome(outcome, out)
    if outcome.failed or outcome.unscanned:
        closed = "the dataset is finished without what failed; a later build tries it again"
        say(closed if allow_failed else "run it again, or with --allow-failed to do without these")
    return outcome.exit_code(strict=strict)


def check_paths(paths: Sequence[str]) -> None:
    """UsageError unless these are sources and, last, what is or can become a dataset."""
    from shards import UsageError

    example = "`fluxshard build SRC... OUT`"
    if not paths:
        raise UsageError(
            f"name at least one source and, last, the folder of the dataset: {example}"
        )
    out = paths[-1]
    if holds_videos(out):
        raise UsageError(
            f"{out} is what to build from and no dataset: name, after it, the folder of the "
            f"dataset to make: {example}"
        )
    if len(paths) == 1:
        raise UsageError(
            f"{out} is all that is named: name at least one source before the folder of the "
            f"dataset: {example}"
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
