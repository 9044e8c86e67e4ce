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

    problems = list(map(str, find_problems(Store(dataset))))
    write(*problems)
    say(f"problems: {len(problems)}" if problems else f"{dataset} is intact")
    return int(bool(problems))
