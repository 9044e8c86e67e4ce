"""How a flow layer was made, and the digest that names it.

Two layers with one digest hold the same fields; anything that could change a field changes it.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, TypeAlias

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
Pair = tuple[int, int]  # (source frame, target frame): the flow lives on the source's grid
DIRECTIONS = ("forward", "backward")
CODING = 2  # how fields are rounded and coded: the number in their magic


def level_pairs(
    frames: int, levels: Sequence[int], directions: Sequence[str] = DIRECTIONS
) -> tuple[Pair, ...]:
    """Frame pairs that a clip of `frames` frames stores, in the order in which it stores them.

    Level s holds (i, i + s) forward and (i + s, i) backward for every i that is a multiple of s.
    The order is by level, then by i, forward before backward.

        frames = 5, levels = 1, 2:   0-1-2-3-4   level 1
                                     0---2---4   level 2
    """
    levels, directions = _levels(levels), _directions(directions)
    return tuple(
        (start, start + stride) if direction == "forward" else (start + stride, start)
        for stride in levels
        for start in range(0, frames - stride, stride)
        for direction in directions
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowSpec:
    """Everything that decides the bytes of a flow layer of a given clip.

    Attributes:
        estimator: id, such as "dis" or "ptlflow:raft".
        revision: of the algorithm: our own, or the library that holds it, e.g. "opencv-5.0".
        params: the estimator's parameters, JSON values; key order does not matter.
        weights_sha256: 64 hex digits, or None for an estimator without weights.
        size: (height, width) of the fields in pixels.
        occlusion: criterion id of `flow_cache.occlusion`.
        levels: strides between the frames of a pair, stored ascending.
        directions: of "forward" and "backward".
        max_error_px: the most that quantisation may add to a component, pixels; many a field is
            held to less (`flow_cache.coding.bound`).
        frames_from: "source" (decoded source video) or "clip" (the stored, compressed clip).
        frames_revision: of the code that made the frames; it changes when their pixels do.
        coding: revision of rounding and coding. The first had one bound for all fields.

    Raises:
        ValueError: a value outside its rule.
    """

    estimator: str
    revision: str
    params: Mapping[str, JSON]
    weights_sha256: str | None
    size: tuple[int, int]
    occlusion: str
    levels: tuple[int, ...]
    directions: tuple[str, ...] = DIRECTIONS
    max_error_px: float
    frames_from: Literal["source", "clip"]
    frames_revision: int = 1
    coding: int = CODING

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_.:-]+", self.estimator):
            raise ValueError(f"estimator id {self.estimator!r} may hold letters, digits and _.:-")
        if self.weights_sha256 is not None and not re.fullmatch(
            "[0-9a-f]{64}", self.weights_sha256
        ):
            raise ValueError(f"weights_sha256 must be 64 hex digits, got {self.weights_sha256!r}")
        if self.frames_from not in ("source", "clip"):
            raise ValueError(f"frames_from must be 'source' or 'clip', got {self.frames_from!r}")
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"size must be a positive (height, width), got {self.size}")
        if not 0 < self.max_error_px < float("inf"):
            raise ValueError(f"max_error_px must be positive and finite, got {self.max_error_px}")
        # One canonical form, so that equal specs have equal digests however they were written. A
        # frozen dataclass has no other way to tidy its own fields than object.__setattr__.
        canonical = {
            "params": json.loads(_canonical_json(dict(self.params))),
            "size": (int(self.size[0]), int(self.size[1])),
            "levels": _levels(self.levels),
            "directions": _directions(self.directions),
            "max_error_px": float(self.max_error_px),
        }
        for name, value in canonical.items():
            object.__setattr__(self, name, value)

    def __hash__(self) -> int:
        return int(self.digest[:15], 16)

    def to_json(self) -> dict[str, Any]:
        """A dict of JSON values from which `from_json` makes an equal spec."""
        return json.loads(_canonical_json(self._facts()))

    def _facts(self) -> dict[str, Any]:
        """All fields; layers of the first coding were named before there was another."""
        facts = asdict(self)
        if self.coding == 1:
            del facts["coding"]
        return facts

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The spec that `to_json` wrote; ValueError for missing or unknown keys."""
        lists = {
            name: tuple(data[name]) for name in ("size", "levels", "directions") if name in data
        }
        try:
            return cls(**{"coding": 1, **data, **lists})
        except TypeError as error:
            raise ValueError(f"not a flow spec: {error}") from error

    @property
    def digest(self) -> str:
        """64 hex digits: SHA-256 over the canonical JSON of all fields."""
        return hashlib.sha256(_canonical_json(self._facts()).encode()).hexdigest()

    @property
    def field_digest(self) -> str:
        """Digest of what decides one field: the spec without its levels and directions.

        Layers that hold different pairs made in the same way share it, and so their bytes.
        """
        fields = self._facts()
        del fields["levels"], fields["directions"]
        return hashlib.sha256(_canonical_json(fields).encode()).hexdigest()

    @property
    def layer(self) -> str:
        """Folder name of the layer."""
        return f"{self.estimator.replace(':', '-')}-{self.digest[:12]}"


def _canonical_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _levels(levels: Sequence[int]) -> tuple[int, ...]:
    if not levels or min(levels) < 1 or len(set(levels)) != len(levels):
        raise ValueError(f"levels must be distinct positive strides, got {tuple(levels)}")
    return tuple(sorted(int(level) for level in levels))


def _directions(directions: Sequence[str]) -> tuple[str, ...]:
    if not directions or not set(directions) <= set(DIRECTIONS):
        raise ValueError(f"directions must be of {DIRECTIONS}, got {tuple(directions)}")
    return tuple(name for name in DIRECTIONS if name in directions)
