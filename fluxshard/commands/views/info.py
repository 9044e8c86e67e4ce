"""`fluxshard info`."""

import json
from typing import Annotated

from tyro.conf import arg

from fluxshard.arguments import DatasetPath


def info(dataset: DatasetPath, /, as_json: Annotated[bool, arg(name="json")] = False) -> int:
    """Say what a dataset holds: clips, seconds of video, shards, bytes, layers, rejects.

    Args:
        dataset: folder or URL of the dataset.
        as_json: print JSON to standard output instead.
    """
    from fluxshard.report.summary import summarise
    from fluxshard.terminal import print_facts, write
    from shards.index import Dataset

    facts = summarise(Dataset(dataset))
    if as_json:
        write(json.dumps(facts, indent=1))
    else:
        print_facts(facts)
    return 0
