"""`fluxshard merge`."""

from typing import Annotated

from tyro.conf import Positional, arg


def merge(paths: Annotated[Positional[tuple[str, ...]], arg(metavar="DATASET... OUT")], /) -> int:
    """Make one dataset of several; it refers to their shards, no data is copied.

    Datasets beside the new one, or below its parent folder, are referred to from there: all can be
    moved together. Others are referred to by absolute paths or URLs.

    Args:
        paths: datasets whose keys differ; last, the folder of the new dataset.
    """
    from fluxshard.arguments import check_writable
    from fluxshard.terminal import say
    from shards import Store, UsageError
    from shards import merge as refer

    if len(paths) < 3:
        raise UsageError(
            "name at least two datasets and, last, the folder of the new one: "
            "`fluxshard merge DATASET DATASET OUT`"
        )
    *datasets, out = paths
    check_writable(out)
    for layer in refer([Store(url) for url in datasets], Store(out)):
        say(f"layer {layer.name} is left out: not every dataset has it")
    say(f"{len(datasets)} datasets → {out}")
    return 0
