"""Damaged and forged flow fields through the codec: each decodes or is refused by a ValueError.

    python benchmarks/flow_fuzz.py [--mutants 100000] [--seed 0] [--keep FOLDER]

Mutants are made of small fields encoded here: flipped bits, cut ends, other words in the header,
other bytes in a part, parts that expand to something else or state another size. Their lengths and
checksums are made right again (but for one mutant in sixteen), so that it is not these which refuse
them. The memory that Python and numpy ask for is held against the size that the field states.
"""

import argparse
import platform
import resource
import struct
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from dataclasses import field as default
from importlib.metadata import version
from itertools import count, islice, pairwise
from pathlib import Path

import numpy as np
import zstandard

from flow_cache import decode_field, encode_field
from flow_cache.coding import check_field

HEAD = struct.Struct("<4I2dI32s3Id")  # the last words are the sizes of the parts, a length
START = 8  # bytes of magic and checksum
SPEC = "5c" * 32
BYTES_A_PIXEL = (
    24  # flow of two scales 10, codes and bytes of residuals 4.5, their sums 8, visible 1
)
ALLOWANCE = 2**17  # bytes besides, whatever the size
EXTREME = (0, 1, 2, 3, 4, 7, 255, 2**15, 2**16, 2**23, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
ODD_FLOATS = (
    *(0.0, -0.0, -1.0, 1e-300, 1e300, 2.0**-20, 0.5, 1024.0),
    *(float("inf"), float("-inf"), float("nan")),
)

Random = np.random.Generator
Field = tuple[list[int | float | bytes], list[bytes]]  # words of the header, three frames


def seeds() -> list[bytes]:
    """Fields of several sizes: still, smooth, wild, saturated, a pixel, a row, a column."""
    random = np.random.default_rng(0)
    fields = []
    for size in ((1, 1), (1, 70), (70, 1), (9, 11), (33, 47), (48, 64)):
        smooth = np.add.outer([0.0, 1.0], np.add.outer(np.arange(size[0]) / 9, np.arange(size[1])))
        for flow in (np.zeros_like(smooth), smooth, random.normal(0, 900, smooth.shape)):
            visible = random.random(size) < 0.7
            field = flow.astype(np.float32), visible
            fields.append(encode_field(*field, pair=(3, 4), max_error_px=1 / 32, spec_digest=SPEC))
    return fields


def take_apart(blob: bytes) -> Field:
    """Header words, and the three zstd frames."""
    words = list(HEAD.unpack_from(blob, START))
    ends = np.cumsum([START + HEAD.size, *words[8:11]])
    return words, [blob[a:b] for a, b in pairwise(ends)]


def put_together(words: Sequence[int | float | bytes], frames: Sequence[bytes]) -> bytes:
    """A field whose lengths and checksum are right."""
    return sealed(HEAD.pack(*words[:8], *map(len, frames), words[11]) + b"".join(frames))


def sealed(body: bytes) -> bytes:
    return b"FXF2" + struct.pack("<I", zlib.crc32(body)) + body


def flip_bits(blob: bytes, random: Random) -> bytes:
    """1 to 16 of them, anywhere after the checksum."""
    data = np.frombuffer(blob[START:], np.uint8).copy()
    for at in random.integers(0, data.size, 2 ** random.integers(0, 5)):
        data[at] ^= 1 << random.integers(0, 8)
    return sealed(data.tobytes())


def cut(blob: bytes, random: Random) -> bytes:
    """The end is missing, or there is more."""
    if random.random() < 0.2:
        return sealed(blob[START:] + random.bytes(int(random.integers(1, 40))))
    return sealed(blob[START : random.integers(START, len(blob))])


def edit_words(blob: bytes, random: Random) -> bytes:
    """One to three words of the header, sizes of the parts left true."""
    words, frames = take_apart(blob)
    for at in random.choice([*range(7), 11], random.integers(1, 4)):
        choices: Sequence[int | float] = ODD_FLOATS if at in (4, 5, 11) else EXTREME
        if at in (2, 3) and random.random() < 0.5:  # geometry that is nearly right
            old = words[at]
            assert isinstance(old, int)
            choices = [k % 2**32 for k in (old + 1, old - 1, old * 2, old * 1000)]
        words[at] = choices[int(random.integers(len(choices)))]
    return put_together(words, frames)


def edit_sizes(blob: bytes, random: Random) -> bytes:
    """The sizes of the parts: extreme, or moved from one part to the next."""
    words, frames = take_apart(blob)
    sizes = list(map(len, frames))
    if random.random() < 0.5:
        sizes[random.integers(3)] = EXTREME[random.integers(len(EXTREME))]
    else:
        moved = int(random.integers(0, sizes[0] + 1))
        sizes[0], sizes[1] = sizes[0] - moved, sizes[1] + moved
    return sealed(HEAD.pack(*words[:8], *sizes, words[11]) + b"".join(frames))


def edit_frame(blob: bytes, random: Random) -> bytes:
    """Bytes of a zstd frame, mostly of its head, where it states its size."""
    words, frames = take_apart(blob)
    part = int(random.integers(3))
    data = np.frombuffer(frames[part], np.uint8).copy()
    for at in random.integers(0, min(data.size, 14 if random.random() < 0.7 else data.size), 2):
        data[at] = random.integers(256)
    frames[part] = data.tobytes()
    return put_together(words, frames)


def edit_content(blob: bytes, random: Random) -> bytes:
    """What a part expands to: other bytes, fewer, more, very many."""
    words, frames = take_apart(blob)
    part = int(random.integers(3))
    data = bytearray(zstandard.decompress(frames[part]))
    way = random.random()
    if way < 0.1:
        data = bytearray(int(2 ** random.integers(10, 25)))
    elif way < 0.4:
        data = bytearray(random.bytes(int(random.integers(0, 2 * len(data) + 2))))
    else:
        for at in random.integers(0, max(len(data), 1), 4):
            data[at : at + 1] = bytes([random.choice([0, 1, 85, 128, 254, 255])])
    frames[part] = zstandard.compress(bytes(data), 1)
    return put_together(words, frames)


def swap_parts(blob: bytes, random: Random) -> bytes:
    """Parts in another order, one twice, or one of them nothing."""
    words, frames = take_apart(blob)
    choices = [*frames, b"", zstandard.compress(b"")]
    return put_together(words, [choices[k] for k in random.integers(0, len(choices), 3)])


MUTATIONS: tuple[Callable[[bytes, Random], bytes], ...] = (
    *(flip_bits, cut, edit_words, edit_sizes, edit_frame, edit_content, swap_parts),
)


def mutants(fields: Sequence[bytes], seed: int) -> Iterator[tuple[str, bytes]]:
    """(what was done to which field, the result), without end; the same for the same seed."""
    for number in count():
        random = np.random.default_rng([seed, number])
        mutation = MUTATIONS[number % len(MUTATIONS)]
        data = mutation(fields[number // len(MUTATIONS) % len(fields)], random)
        if number % 16 == 0:
            data = random.bytes(8) + data[START:]
        yield f"{number:06d}-{mutation.__name__}", data


@dataclass(slots=True)
class Tally:
    """What came of all mutants.

    Attributes:
        outcomes: how many decoded, and how many were refused.
        failures: by name of the mutant, those that ended otherwise.
        worst_ratio: most memory asked for, in parts of what a field of the stated size may take.
    """

    outcomes: Counter[str] = default(default_factory=Counter)
    failures: dict[str, str] = default(default_factory=dict)
    worst_ratio: float = 0.0


def outcome(blob: bytes) -> str:
    """`decoded`, `refused`, or what went wrong."""
    results = []
    for read in (check_field, decode_field):
        try:
            read(blob)
            results.append("decoded")
        except ValueError as error:
            results.append("refused" if "flow field: " in str(error) else f"says only {error!r}")
        except BaseException as error:  # a MemoryError, an error of another library
            results.append(f"{type(error).__name__}: {error}")
    return results[0] if results[0] == results[1] else f"checked {results[0]}, then {results[1]}"


def allowed_bytes(blob: bytes) -> int:
    """What reading a field may take: by its stated size, which is none if no field has it."""
    pixels = 0
    if len(blob) >= START + HEAD.size:
        _, _, height, width, *_ = HEAD.unpack_from(blob, START)
        pixels = height * width if height * width <= 2**23 else 0
    return BYTES_A_PIXEL * pixels + 4 * len(blob) + ALLOWANCE


def measured(blob: bytes) -> tuple[str, int]:
    """The outcome, and the most bytes that were asked for at once."""
    tracemalloc.start()
    result = outcome(blob)
    asked = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return result, asked


def attack(fields: Iterator[tuple[str, bytes]], wanted: int, keep: Path | None = None) -> Tally:
    """Read `wanted` mutants; those that fail are kept in a folder."""
    tally = Tally()
    for name, data in islice(fields, wanted):
        result, asked = measured(data)
        if asked > allowed_bytes(data):  # what is loaded on first use is not the field's
            result, asked = measured(data)
        ratio = asked / allowed_bytes(data)
        tally.worst_ratio = max(tally.worst_ratio, ratio)
        tally.outcomes[result] += 1
        if result not in ("decoded", "refused") or ratio > 1:
            tally.failures[name] = f"{result}; {asked} bytes asked for"
            if keep is not None:
                (keep / name).write_bytes(data)
    return tally


def main(arguments: Sequence[str] | None = None) -> Tally:
    """Run and print; returns the tally."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="not used; every script here takes it")
    parser.add_argument("--mutants", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for mutants that fail")
    options = parser.parse_args(arguments)
    tally = attack(mutants(seeds(), options.seed), options.mutants, options.keep)
    libraries = ", ".join(f"{name} {version(name)}" for name in ("numpy", "zstandard"))
    print(
        f"{platform.machine()}, {libraries}: {options.mutants} mutants of {len(seeds())} fields; "
        f"most memory asked for {tally.worst_ratio:.0%} of what their stated size allows; "
        f"peak of the process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB"
    )
    for result, number in tally.outcomes.most_common():
        print(f"{number:7} {result}")
    for name, result in tally.failures.items():
        print(f"{name}: {result}")
    return tally


if __name__ == "__main__":
    main()
