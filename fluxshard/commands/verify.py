"""`fluxshard verify`."""

from fluxshard.arguments import DatasetPath


def verify(dataset: DatasetPath, /) -> int:
    """Check every byte of a dataset against its index.

    Exits with 1 and a list on standard output if any is not as it was written.

    Args:
        dataset: folder or URL of the dataset.
    """
    from fluxshard.terminal import say, write
    from shards import Store
    from shards import verify as find_problems

    count = 0
    for count, problem in enumerate(find_problems(Store(dataset)), start=1):  # noqa: B007 - the last
        write(str(problem))
    say(f"{count} problems" if count else f"{dataset} is intact")
    return int(bool(count))
