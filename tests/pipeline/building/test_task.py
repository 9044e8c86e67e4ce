"""A task travels to a worker and knows where its layers go."""

import pickle
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.building.add_layer import LayerTask
from pipeline.planning.config import BuildConfig, flow_specs
from shards.manifest import DamagedDataset
from shards.store import Store


def test_a_task_travels(tmp_path: Path):
    specs = flow_specs(BuildConfig(flow="dis"))
    task = LayerTask(store=Store(tmp_path), shard=12, rows=pa.table({"key": ["a"]}), specs=specs)
    twin = pickle.loads(pickle.dumps(task))
    assert (twin.store, twin.shard, twin.specs) == (task.store, 12, specs)
    assert twin.rows.equals(task.rows)
    assert twin.layer_stem(specs[0]) == f"flow/{specs[0].layer}/000012"


def test_layers_appear_when_the_stack_closes(tmp_path: Path):
    specs = flow_specs(BuildConfig(flow="dis,variational"))
    task = LayerTask(store=Store(tmp_path), shard=0, rows=pa.table({"key": []}), specs=specs)
    with ExitStack() as stack:
        layers = task.open_layers(stack)
        assert [layer.spec for layer in layers] == list(specs)
        assert task.store.files() == []
    assert len(task.store.files()) == 2


def test_a_task_replaces_nothing_that_the_manifest_records_otherwise(tmp_path: Path):
    specs = flow_specs(BuildConfig(flow="dis"))
    task = LayerTask(store=Store(tmp_path), shard=1, rows=pa.table({"key": []}), specs=specs)
    (stem,) = task.stems
    assert not task.committed
    known = replace(task, recorded={stem: "0" * 64})
    assert known.committed, "it was, although its files are gone"
    assert not known.is_done
    with pytest.raises(DamagedDataset, match=rf"{stem}\.parquet cannot be made again"):
        known.serialised({stem: pa.table({"key": ["a"]})})
