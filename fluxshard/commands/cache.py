"""`fluxshard cache`: what the catalog of computed flow knows, what is damaged, what is gone."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from flow_cache.reuse.catalog import Catalog
    from flow_cache.reuse.entries import Entry

Action = Literal["list", "verify", "prune", "forget", "add"]


def cache(
    action: Positional[Action],
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
    from fluxshard.terminal import write

    lines, sound = look_after(open_catalog(flow_cache), action, dataset)
    write(*lines)
    return int(not sound)


def look_after(catalog: "Catalog", action: Action, dataset: str = "") -> tuple[list[str], bool]:
    """Carry out one action; returns lines to show, and whether all is well.

    Args:
        dataset: URL, or address as `list` shows it, of the one to forget or to add.

    Raises:
        UsageError: `forget` or `add` without a dataset, or with one that is not there or has no
            flow of its own.
    """
    from flow_cache.reuse.copying import enter
    from shards import Store, UsageError

    if bool(dataset) != (action in ("forget", "add")):
        raise UsageError(f"`cache {action}` {'takes no' if dataset else 'needs a'} dataset")
    match action:
        case "list":
            return [entry_line(entry) for entry in catalog.entries()] or ["no flow yet"], True
        case "verify":
            problems = [line for entry in catalog.entries() for line in problems_of(entry)]
            return problems or ["all flow is intact"], not problems
        case "prune":
            gone = catalog.prune()
            return [f"forgot {entry_line(entry)}" for entry in gone] or ["nothing is gone"], True
        case "forget":
            return forget(catalog, dataset), True
        case "add":
            layers = enter(catalog, Store(dataset))
            return [f"{layer} of {dataset} is in {catalog.url}" for layer in layers], True


def entry_line(entry: "Entry") -> str:
    """One line: layer, size and owner."""
    size = f"{entry.bytes / 2**20:,.1f} MiB"
    return f"{entry.layer}  {entry.clips:,} clips  {size}  {entry.dataset}"


def problems_of(entry: "Entry") -> Iterator[str]:
    """What is not as it was written, one line per problem; reads all bytes of the layer."""
    from shards.schema import FLOW_MEMBERS
    from shards.store import Store
    from shards.verify import check_shard

    if entry.is_elsewhere:
        return
    for name, digest in entry.shards:
        stem = f"flow/{entry.layer}/{name}"
        for problem in check_shard(Store(entry.url), stem, digest, FLOW_MEMBERS):
            yield f"{entry.url}: {problem}"


def forget(catalog: "Catalog", dataset: str) -> list[str]:
    """Remove all entries of a dataset; UsageError if there is none."""
    from flow_cache.reuse.entries import address_of
    from shards import Store, UsageError

    names = {dataset, address_of(Store(dataset))}
    found = [entry for entry in catalog.entries() if entry.dataset in names]
    if not found:
        raise UsageError(f"{dataset} has no flow in {catalog.url}; `fluxshard cache list` shows it")
    for entry in found:
        catalog.forget(entry)
    return [f"forgot {entry_line(entry)}" for entry in found]
