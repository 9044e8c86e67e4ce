"""The build job: from video files to a dataset of clips with flow.

source      what the user names, to frames         shots       where a video cuts
planning    videos to the plan of shards           building    the plan to shards
              cluster     where tasks run (Dask)
records     the metadata that travels      progress    whether a task gets on
workers     whether they are fit           interrupts  Ctrl-C is for the job alone
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.building.add_layer import add_layer, layer_spec
    from pipeline.building.job import Outcome
    from pipeline.building.make_dataset import make_dataset
    from pipeline.cluster import connect
    from pipeline.planning.config import BuildConfig, flow_specs
    from pipeline.records import Reject, Source
    from pipeline.source.inputs import find_sources

# fmt: off
__all__ = [  # noqa: RUF022 - in the order of their use
    "BuildConfig", "flow_specs", "Source", "Reject", "find_sources",
    "connect", "make_dataset", "layer_spec", "add_layer", "Outcome",
]
# fmt: on
_WHERE = {
    "BuildConfig": "planning.config",
    "Outcome": "building.job",
    "Reject": "records",
    "Source": "records",
    "add_layer": "building.add_layer",
    "connect": "cluster",
    "find_sources": "source.inputs",
    "flow_specs": "planning.config",
    "layer_spec": "building.add_layer",
    "make_dataset": "building.make_dataset",
}


def __getattr__(name: str) -> Any:
    """The jobs load Dask and torch, so each name is loaded when it is asked for."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
