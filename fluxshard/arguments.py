"""Arguments of the command line: how values are written, and what several commands take."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import tyro
from tyro.conf import Positional, arg
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

if TYPE_CHECKING:  # both are slow to load, and the help of most commands does without
    from distributed import Client

    from flow_cache.reuse.catalog import Catalog

registry = ConstructorRegistry()

DatasetPath = Annotated[Positional[str], arg(metavar="DATASET")]


@dataclass(frozen=True, kw_only=True, slots=True)
class Workers:
    """Where a job runs; its result is the same wherever that is.

    Attributes:
        workers: worker processes on this machine.
        scheduler: address of a Dask scheduler whose workers to use instead of local ones; see
            docs/clusters.md.

    Raises:
        UsageError: fewer than one worker.
    """

    workers: int = os.cpu_count() or 1
    scheduler: str = ""

    def __post_init__(self) -> None:
        if self.workers < 1:
            from shards import UsageError

            raise UsageError(f"workers is {self.workers}; a job needs 1 or more")

    @contextmanager
    def cluster(self, out: str) -> Iterator["Client"]:
        """A client of the cluster to run on; an interrupt leaves nothing half-written in `out`.

        Raises:
            UsageError: no scheduler answers, a worker lacks what is here or does not see `out`.
            ClusterLost: the scheduler went away, or no worker joined it.
        """
        from fluxshard.terminal import say
        from pipeline.cluster import connect
        from pipeline.workers import check_reach
        from shards import Store

        try:
            with connect(self.scheduler or None, self.workers, say) as client:
                if self.scheduler:
                    check_reach(client, Store(out))
                yield client
        except KeyboardInterrupt:
            Store(out).remove_unfinished()  # its writers have ended, or been told to
            raise


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources(Workers):
    """What a job uses; its result is the same whatever that is.

    Attributes:
        flow_cache: folder or URL of the catalog of computed flow; by default in the user's cache.
        no_flow_cache: neither look for computed flow nor tell others of this dataset's.
    """

    flow_cache: str = ""
    no_flow_cache: bool = False

    def catalog(self) -> "Catalog | None":
        """The catalog to use, if any."""
        from flow_cache.reuse.catalog import open_catalog

        return None if self.no_flow_cache else open_catalog(self.flow_cache)


@contextmanager
def writing(out: str) -> Iterator[None]:
    """This job alone writes to a folder, and its workers can.

    Raises:
        UsageError: another job is writing to it, or it cannot be written to.
    """
    from fluxshard.terminal import say
    from shards import Store, UsageError

    store = Store(out)
    if store.is_of_one_process:
        raise UsageError(
            f"{out} is seen by one process alone, and workers are others: give a folder or the URL "
            "of object storage"
        )
    with store.alone(lambda text: say(text, "warning", "yellow")):
        yield


def check_writable(folder: str) -> None:
    """UsageError unless a folder, made where it is absent, can be written to."""
    from shards import Store

    Store(folder).check_writable()


def parse(
    command: Callable[..., Any], name: str, arguments: Sequence[str], *, description: str = ""
) -> Any:
    """Call a command with its arguments as written; --help and unreadable ones raise SystemExit."""
    return tyro.cli(
        command,
        prog=f"fluxshard {name}",
        description=description or None,
        args=arguments,
        config=(tyro.conf.FlagCreatePairsOff,),
        registry=registry,
    )


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


def _parse_rate(text: str) -> Fraction | None:
    try:
        return None if text == "none" else Fraction(text)
    except ZeroDivisionError:
        raise ValueError(f"{text} divides by zero; write 24, 30000/1001 or none") from None


_one_argument(tuple[int, int], "HxW", _parse_size, lambda size: f"{size[0]}x{size[1]}")
_one_argument(
    tuple[int, ...],
    "1,2,4",
    lambda text: tuple(int(level) for level in text.split(",")),
    lambda levels: ",".join(map(str, levels)),
)
_one_argument(
    tuple[Literal["forward", "backward"], ...],
    "forward,backward",
    lambda text: tuple(text.split(",")),
    ",".join,
)
_one_argument(Fraction | None, "F", _parse_rate, lambda rate: str(rate or "none"))
