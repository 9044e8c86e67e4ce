import pytest

from flow_cache import level_pairs
from pipeline.exchange.file_names import file_name, find_layer, sort_files
from shards import UsageError

KEYS = {"a1-0": 5, "b_2": 5}


def names(levels: tuple[int, ...], ways: tuple[str, ...] = ("forward",)) -> list[str]:
    return [file_name(key, p, "flo") for key in KEYS for p in level_pairs(5, levels, ways)]


@pytest.mark.parametrize(
    "name",
    [
        "a1-0/000000_000001.flo",
        "a1-0/0-1.NPZ",
        "a1-0/frame_0000_0001.png",
        "a1-0/deep/flow.0_1.npz",
        "a1-0.000000-000001.npz",
        "a1-0_0_1.flo",
        "a1-0-0-1.flo",
    ],
)
def test_ways_to_name_a_file(name: str) -> None:
    assert sort_files([name], KEYS) == ({"a1-0": {(0, 1): name}}, 0)


def test_what_is_of_no_clip_is_counted_and_what_is_no_flow_is_not() -> None:
    other = ["c/0_1.flo", "0_1.flo", "a1-0x_0_1.flo", "a1-0/0_1.jpg", "a1-0/1.flo", "README.md"]
    assert sort_files(other, KEYS) == ({}, 3)


def test_levels_and_directions_are_those_of_the_files() -> None:
    found = find_layer([*names((1, 2)), "c/0_1.flo", "b_2/1_3.flo"], KEYS)
    assert (found.levels, found.directions, found.unused) == ((1, 2), ("forward",), 2)
    assert [*found.clips["b_2"]] == [(0, 1), (1, 2), (2, 3), (3, 4), (0, 2), (2, 4)]
    both = find_layer(names((1, 4), ("forward", "backward")), KEYS)
    assert (both.levels, both.directions) == ((1, 4), ("forward", "backward"))
    one = find_layer(names((1, 2)), KEYS, levels=(1,))
    assert (one.levels, one.unused) == ((1,), 6 - 2)
    assert find_layer(names((1,), ("backward",)), KEYS).directions == ("backward",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n: n[:-1], r"1 of 12 files are missing \(1 of level 2\), first b_2/000002_000004"),
        (lambda n: n[6:], r"6 of 12 files .*4 of level 1, 2 of level 2.*a1-0/.*--levels"),
        (lambda n: [*n, "b_2/3_4.npz"], "are both flow of clip b_2 from frame 3 to 4"),
        (lambda n: [*n, "b_2/4_5.npz"], "b_2/4_5.npz: clip b_2 has frames 0 to 4"),
        (lambda n: [*n, "b_2/4_4.npz"], "no flow from 4 to 4"),
        (lambda n: ["c/0_1.flo"], r"1 files of flow, all of other clips: name them a1-0/000000_"),
        (lambda n: ["x.txt"], r"no file of flow: name them .*\.flo, \.png, \.npz"),
    ],
)
def test_what_makes_no_layer_is_a_sentence(change, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_layer(change(names((1, 2))), KEYS)


def test_levels_that_are_asked_for_must_be_there() -> None:
    with pytest.raises(UsageError, match=r"there is no file of level 2, only of 1: .*--levels"):
        find_layer(names((1,)), KEYS, levels=(2,))
