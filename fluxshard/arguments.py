"""Arguments of the command line: how values are written, and those that several commands take."""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, get_args

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from flow_cache.reuse.catalog import Catalog, open_catalog

if TYPE_CHECKING:  # it is slow to load, and most commands do without
    from distributed import Client

registry = ConstructorRegistry()


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """What a job uses; its result is the same whatever that is.

    Attributes:
        workers: worker processes on this machine.
        scheduler: address of a Dask scheduler to use instead of local workers.
        flow_cache: folder or URL of the catalog of computed flow; by default in the user's cache.
        no_flow_cache: neither look for computed flow nor tell others of this dataset's.
    """

    workers: int = os.cpu_count() or 1
    scheduler: str = ""
    flow_cache: str = ""
    no_flow_cache: bool = False

    def cluster(self) -> AbstractContextManager["Client"]:
        """A client of the cluster to run on."""
        from pipeline.cluster import connect

        return connect(self.scheduler or None, self.workers)

    def catalog(self) -> Catalog | None:
        """The catalog to use, if any."""
        return None if self.no_flow_cache else open_catalog(self.flow_cache)


def option(arguments: Sequence[str], name: str, default: str) -> str:
    """The value of an option that decides what the others mean, before they are parsed."""
    for argument, following in zip(arguments, [*arguments[1:], default], strict=True):
        if argument == name:
            return following
        if argument.startswith(f"{name}="):
            return argument.partition("=")[2]
    return default


def _one_argument(
    kind: Any, metavar: str, parse: Callable[[str], Any], show: Callable[[Any], str]
) -> None:
    """Teach the command line a type that is written as one word."""

    @registry.primitive_rule
    def rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
        if get_args(info.type) != get_args(kind):  # tyro hands on typing.Tuple for tuple
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar=metavar,
            instance_from_str=lambda words: parse(words[0]),
            is_instance=lambda value: not isinstance(value, str),
            str_from_instance=lambda value: [show(value)],
        )


def _parse_size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return int(height), int(width)


_one_argument(tuple[int, int], "HxW", _parse_size, lambda size: f"{size[0]}x{size[1]}")
_one_argument(
    tuple[int, ...],
    "1,2,4",
    lambda text: tuple(int(level) for level in text.split(",")),
    lambda levels: ",".join(map(str, levels)),
)
_one_argument(
    Fraction | None,
    "F",
    lambda text: None if text == "none" else Fraction(text),
    lambda f: str(f or "none"),
)
