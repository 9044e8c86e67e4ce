"""What lies where in a tar: the part of our index that other readers need."""

from dataclasses import dataclass

import pyarrow as pa

from shards.schema import spans_of
from shards.writer import BLOCK


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A file in a tar.

    Attributes:
        part: its name without the sample's key, as `mp4`.
        offset, size: of its content, bytes.
    """

    part: str
    offset: int
    size: int

    @property
    def end(self) -> int:
        """Where its padding ends."""
        return self.offset + -(-self.size // BLOCK) * BLOCK


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """The members of one clip, in the order of the tar; at least one."""

    key: str
    members: tuple[Member, ...]

    @property
    def start(self) -> int:
        """Where the header of the first member begins."""
        return self.members[0].offset - BLOCK

    @property
    def end(self) -> int:
        """Where the next sample begins, or the end of the archive."""
        return self.members[-1].end


def samples_of(table: pa.Table, parts: tuple[str, ...]) -> list[Sample]:
    """The samples of a shard's Parquet.

    Args:
        table: with `key`, and the place of each part.
        parts: in the order of the tar.
    """
    spans = zip(*(spans_of(table, part) for part in parts), strict=True)
    return [
        Sample(
            key=key,
            members=tuple(
                Member(part=part, offset=span.offset, size=span.size)
                for part, span in zip(parts, places, strict=True)
            ),
        )
        for key, places in zip(table["key"].to_pylist(), spans, strict=True)
    ]
