"""What made a dataset: versions, instruction set and device of every process that had a part in it.

Equal bytes need the same of all three, so they are written down, beside what names the bytes and
never in it: a layer that is made elsewhere has the same name.

    DATASET/makers/DIGEST.json     what one kind of process made; until the manifest has it

A worker writes it before it commits a shard, so nothing is committed without, whoever is killed.
"""

import json
import platform
from collections.abc import Iterable
from dataclasses import replace

import torch

from pipeline.workers import OUR_CODE, environment, version_of
from shards import Manifest, Store
from shards.manifest import MadeBy, Maker, all_makers, canonical_json, sha256_of

FOLDER = "makers"
_CPU = torch.device("cpu")


def this_process(device: torch.device = _CPU) -> Maker:
    """What makes something here.

    Args:
        device: that computes.
    """
    versions = {name: found for name, found in environment().items() if name != OUR_CODE}
    capability = torch.backends.cpu.get_cpu_capability()  # what the environment allows of the CPU's
    return {
        "fluxshard": version_of("fluxshard"),
        **versions,
        "instruction set": f"{platform.machine()} {capability}",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
    }


def sign(store: Store, made: MadeBy) -> None:
    """Write down, once, what made the clips and layers of a dataset, by their names."""
    makers = all_makers([made])
    data = canonical_json(makers)
    name = f"{FOLDER}/{sha256_of(data)[:16]}.json"
    if makers and not store.exists(name):
        store.write(name, data)


def with_makers(store: Store, manifest: Manifest) -> Manifest:
    """The manifest with what was written down since the last one; write it, then `forget`."""
    signed = [json.loads(store.read(file)) for file in store.files(FOLDER)]
    return replace(manifest, made_by=all_makers([manifest.made_by, *signed]))


def forget(store: Store) -> None:
    """Delete what the manifest has now."""
    store.delete_folder(FOLDER)


def mixtures(manifest: Manifest) -> frozenset[str]:
    """A warning for each of the clips and layers whose shards were not all made by the same."""
    return frozenset(
        f"{name}: made by {len(makers)} kinds of process, which differ in {_differences(makers)}: "
        "its bytes are not those of a build by one of them alone"
        for name, makers in manifest.made_by.items()
        if len(makers) > 1
    )


def _differences(makers: Iterable[Maker]) -> str:
    names = dict.fromkeys(name for maker in makers for name in maker)
    values = {name: dict.fromkeys(maker.get(name, "untold") for maker in makers) for name in names}
    return ", ".join(
        f"{name} ({' / '.join(told)})" for name, told in values.items() if len(told) > 1
    )
