"""`fluxshard index`."""

from typing import Annotated, Literal

from tyro.conf import arg

from fluxshard.arguments import DatasetPath, writing


def index(
    dataset: DatasetPath,
    /,
    *,
    reader: Annotated[Literal["dali", "energon", "webshart"], arg(name="for")],
) -> int:
    """Write the index files by which DALI, Energon or webshart read a dataset's tars.

    They lie beside the tars of the clips and of every flow layer, and are written anew each time:
    run it again when a build has added shards.

    Args:
        dataset: folder or URL of the dataset.
        reader: whose files.
    """
    from fluxshard.terminal import say
    from shards.foreign.write import write_index
    from shards.index import Dataset

    with writing(dataset):
        names = write_index(Dataset(dataset), reader)
    say(f"wrote {len(names)} files for {reader} in {dataset}")
    return 0
