"""Flow of shards that are not planned any more: it waits until the dataset is finished.

    DATASET/superseded/flow/LAYER/NNNNNN-DIGEST.tar, .parquet    as they were in DATASET/flow

Files are named after the content of the Parquet: shards of one number may be superseded twice.
What is still wanted of them is copied into the shards that take their place, checked as any flow.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePath

from flow_cache import FlowSpec
from flow_cache.reuse.catalog import Catalog
from shards import Layer, Manifest, Store, check_commit, write_manifest
from shards.manifest import content_name, sha256_of

SUPERSEDED = "superseded"


def supersede(store: Store, is_gone: Callable[[int], bool]) -> None:
    """Take shards out of a dataset: their flow is set aside, then their other files are deleted.

    Killed at any moment, what is still in place is a shard that is not planned, or half of one.
    """
    for name, number in _numbered(store, "flow"):
        if name.endswith(".parquet") and is_gone(number):
            aside = f"{SUPERSEDED}/{PurePath(name).parent}"
            to = content_name(aside, number, store.read(name)).removesuffix("parquet")
            for suffix in ("tar", "parquet"):
                store.move(name.removesuffix("parquet") + suffix, to + suffix)
    for name, number in [*_numbered(store, "clips"), *_numbered(store, "flow")]:
        if is_gone(number):
            store.delete(name)


def _numbered(store: Store, folder: str) -> Iterator[tuple[str, int]]:
    """The files of shards, also those by which other readers find their way, and whose they are."""
    for name in store.files(folder):
        number = PurePath(name).name.partition(".")[0]  # `000000.tar.idx` is of shard 0, too
        if number.isdecimal():  # `.nv-meta/index.sqlite` is of no shard
            yield name, int(number)


def superseded_flow(store: Store, specs: Sequence[FlowSpec]) -> Catalog | None:
    """A catalog of what is set aside of some layers of a dataset; None if nothing is."""
    aside = Store(store.at(SUPERSEDED))
    layers = {spec.layer: _layer(aside, spec) for spec in specs}
    if not any(layer.shards for layer in layers.values()):
        return None
    write_manifest(aside, Manifest(state="building", config={}, layers=layers))
    catalog = Catalog(aside)
    for spec in specs:
        catalog.add(aside, spec.layer, spec.field_digest)
    return catalog


def _layer(aside: Store, spec: FlowSpec) -> Layer:
    """The shards of a layer that are whole."""
    files = (PurePath(name) for name in aside.files(f"flow/{spec.layer}"))
    stems = [file.with_suffix("") for file in files if file.suffix == ".parquet"]
    shards = {
        stem.name: sha256_of(aside.read(f"{stem}.parquet"))
        for stem in stems
        if not check_commit(aside, str(stem))
    }
    return Layer(name=spec.layer, spec=spec.to_json(), shards=shards)
