"""Which clip and which pair of frames a file of flow is of: its name says it.

    KEY/000000_000001.flo   KEY/anything_0_1.npz   KEY.000000-000001.png   KEY_0_1.flo

Frames are counted in the clip, from 0. The same names are written: KEY/000000_000001.npz.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from flow_cache import Pair, level_pairs
from flow_cache.flow_files import KINDS
from shards import UsageError

_NAME = re.compile(rf"(?:(?P<before>.*)[/._-])?(\d+)[_-](\d+)\.(?:{'|'.join(KINDS)})", re.I)
Names = Mapping[Pair, str]  # of the files of one clip


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """The files that make a layer.

    Attributes:
        levels, directions: as in `FlowSpec`.
        clips: the files of each clip, by key: exactly the pairs of these levels.
        unused: how many other files of flow there are: of other clips, or of no level's pairs.
    """

    levels: tuple[int, ...]
    directions: tuple[str, ...]
    clips: Mapping[str, Names]
    unused: int


def file_name(key: str, pair: Pair, kind: str) -> str:
    """The name that is written."""
    return f"{key}/{pair[0]:06d}_{pair[1]:06d}.{kind}"


def sort_files(
    names: Iterable[str], keys: Collection[str]
) -> tuple[dict[str, dict[Pair, str]], int]:
    """The files of each key, by pair; and how many files of flow are of none.

    Raises:
        UsageError: two files are of one pair.
    """
    files: dict[str, dict[Pair, str]] = {}
    others = 0
    for name in names:
        match = _NAME.fullmatch(name)
        if match is None:
            continue
        folder, _, before = (match["before"] or "").partition("/")
        key = folder if folder in keys else before or folder
        if key not in keys:
            others += 1
            continue
        pair = int(match[2]), int(match[3])
        pairs = files.setdefault(key, {})
        if pair in pairs:
            raise UsageError(
                f"{pairs[pair]} and {name} are both flow of clip {key} from frame {pair[0]} to "
                f"{pair[1]}: leave one of them"
            )
        pairs[pair] = name
    return files, others


def find_layer(
    names: Iterable[str], frames: Mapping[str, int], levels: Sequence[int] = ()
) -> Found:
    """The layer that files make for clips, by key so many frames long.

    Args:
        levels: frame distances to take; by default all that there are.

    Raises:
        UsageError: files are missing, double, or of frames that a clip has not.
    """
    files, others = sort_files(names, frames.keys())
    for key, pairs in files.items():
        for pair, name in pairs.items():
            if max(pair) >= frames[key] or pair[0] == pair[1]:
                raise UsageError(
                    f"{name}: clip {key} has frames 0 to {frames[key] - 1}, there is no flow from "
                    f"{pair[0]} to {pair[1]}"
                )
    held = [pair for pairs in files.values() for pair in pairs]
    chosen = tuple(sorted(levels or {abs(j - i) for i, j in held}))
    signs = {j > i for i, j in held if abs(j - i) in chosen}
    directions = tuple(
        name for name, way in (("forward", True), ("backward", False)) if way in signs
    )
    if not directions:
        raise UsageError(_nothing(frames, others, {abs(j - i) for i, j in held}, chosen))
    wanted = {key: level_pairs(n, chosen, directions) for key, n in frames.items()}
    missing = [(k, p) for k, pairs in wanted.items() for p in pairs if p not in files.get(k, {})]
    if missing:
        raise UsageError(_incomplete(missing, sum(map(len, wanted.values())), chosen, directions))
    clips = {key: {pair: files[key][pair] for pair in pairs} for key, pairs in wanted.items()}
    unused = len(held) - sum(map(len, clips.values())) + others
    return Found(levels=chosen, directions=directions, clips=clips, unused=unused)


def _nothing(
    keys: Collection[str], others: int, held: Collection[int], wanted: Sequence[int]
) -> str:
    if held:
        return (
            f"there is no file of level {', '.join(map(str, wanted))}, only of "
            f"{', '.join(map(str, sorted(held)))}: name one of these with --levels"
        )
    found = f"{others:,} files of flow, all of other clips" if others else "no file of flow"
    return (
        f"there is {found}: name them {file_name(next(iter(keys)), (0, 1), 'flo')}, with the key "
        "of the clip, the two frames counted in the clip from 0, and one of "
        f".{', .'.join(KINDS)}"
    )


def _incomplete(
    missing: Sequence[tuple[str, Pair]], total: int, levels: tuple[int, ...], ways: tuple[str, ...]
) -> str:
    by_level = Counter(abs(j - i) for _, (i, j) in missing)
    counts = ", ".join(f"{n:,} of level {level}" for level, n in sorted(by_level.items()))
    (key, pair), stride = missing[0], min(by_level)
    return (
        f"{len(missing):,} of {total:,} files are missing ({counts}), first "
        f"{file_name(key, pair, '*')}: with levels {','.join(map(str, levels))} and flow "
        f"{' and '.join(ways)} each clip needs every pair (i, i + level) whose i is a multiple of "
        f"the level. Add what is missing, or leave level {stride} out with --levels"
    )
