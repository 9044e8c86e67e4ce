"""A task travels to a worker and knows where its layers go."""

import pickle
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa

from pipeline.building.add_layer import LayerTask
from pipeline.planning.config import BuildConfig, flow_specs
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
