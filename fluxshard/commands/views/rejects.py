"""`fluxshard rejects`."""

from collections import Counter
from typing import Annotated

from tyro.conf import arg

from fluxshard.arguments import DatasetPath


def rejects(
    dataset: DatasetPath, /, *, as_csv: Annotated[bool, arg(name="csv")] = False, reason: str = ""
) -> int:
    """List what a dataset lacks: inputs and clips refused, why, and what is tried again.

    The next build tries again what happened to files and machines; what it found out about a
    video's content stays. At the end stands how many there are of each reason.

    Args:
        dataset: folder or URL of the dataset, or of a scan.
        as_csv: print CSV to standard output instead of a table.
        reason: list those alone that were refused for this reason.
    """
    from fluxshard.terminal import print_table, say, write_csv
    from pipeline.planning.clip_table import rejects_of_table
    from shards import Store, UsageError
    from shards.index import read_rejects

    found = rejects_of_table(read_rejects(Store(dataset)))
    counts = Counter(reject.reason for reject in found)
    if reason and reason not in counts:
        known = ", ".join(sorted(counts)) or "none"
        raise UsageError(f"nothing in {dataset} was refused for {reason!r}; reasons are: {known}")
    rows = [
        (r.path, r.stage, r.reason, r.detail, "yes" if r.is_event else "no")
        for r in found
        if reason in ("", r.reason)
    ]
    (write_csv if as_csv else print_table)(("path", "stage", "reason", "detail", "retried"), rows)
    for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if reason in ("", name):
            say(f"{name}: {count}")
    say(f"rejects: {len(rows)}")
    return 0
