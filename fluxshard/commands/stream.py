"""`fluxshard stream`."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from fluxshard.arguments import DatasetPath

if TYPE_CHECKING:
    from trainer import Batch, Stream


def stream(
    dataset: DatasetPath,
    /,
    *,
    batches: int = 100,
    batch_size: int = 8,
    frames: int = 0,
    fps: float = 0.0,
    size: str = "",
    buckets: tuple[str, ...] = (),
    fill: Literal["best", "all"] = "best",
    resize: bool = True,
    crop: Literal["center", "random"] = "center",
    flip: float = 0.0,
    stride: Literal[1, 2, 4] = 1,
    flow: str = "",
    world: int = 1,
    rank: int = 0,
    seed: int = 0,
    where: str = "",
    windows: Literal["drawn", "all"] = "drawn",
    window: int = 16,
    threads: int = 4,
    cache: str = "",
    cache_gb: float = 64.0,
    max_damaged: int = 64,
    state: str = "",
    state_out: str = "",
    keys_out: str = "",
    show: int = 0,
    show_out: str = "stream.mp4",
    as_json: Annotated[bool, arg(name="json")] = False,
) -> int:
    """Stream a dataset as training would: how fast that is, and where the time goes.

    Args:
        dataset: folder or URL of the dataset.
        batches: how many to take.
        batch_size: clips in a global batch, over all ranks.
        frames: that a sample spans; 0: as many as the shortest clip has.
        fps: frames a second of a sample, by time stamps; 0: every stored frame. It asks for frames
            or buckets.
        size: WIDTHxHEIGHT to show frames at; as stored if empty.
        buckets: WIDTHxHEIGHTxFRAMES, or WIDTHxHEIGHT@FRAMES, instead of size and frames: each batch
            is of one of them.
        fill: a clip is in the bucket of which it fills most, or in all that it fills.
        resize: off: pictures are cut to size out of the stored pixels.
        crop: where pictures are cut.
        flip: share of the samples that are mirrored.
        stride: show every so many of them.
        flow: flow layer to read between neighbouring slots, by estimator or digest; none if empty.
        world: ranks that share the stream.
        rank: which of them this one is.
        seed: of the order.
        where: filter over columns of the index; docs/streaming.md lists what it may hold.
        windows: of longer clips: one window a clip and epoch, or all that follow each other.
        window: shards whose clips are mixed with each other.
        threads: that read and decode.
        cache: local folder that keeps what is read of a remote dataset.
        cache_gb: room on disk of all that is in there, in 10^9 bytes.
        max_damaged: samples that may turn out damaged; one more ends it.
        state: file of a state to go on from, of any world.
        state_out: file for the state after the last batch.
        keys_out: file for a line a sample: epoch, position, key, stored frames, tab between them.
        show: draw so many of the first samples, as a grid, and how they move.
        show_out: the video to draw them to, an .mp4 file.
        as_json: print JSON to standard output instead.
    """
    from fluxshard.terminal import say
    from shards import Dataset, UsageError
    from trainer import PlainRecipe, Source, Stream, StreamConfig, survey

    if batches < 1:
        raise UsageError(f"batches is {batches}; take 1 or more")
    if fps and not (frames or buckets):
        raise UsageError(f"fps is {fps:g}: say how many --frames, as clips have no one length then")
    opened = Dataset(dataset)
    source = Source(dataset=opened, where=where, layer=opened.layer(flow) if flow else None)
    length = frames or survey(source, StreamConfig(frames=1, size=size)).shortest
    config = StreamConfig(
        frames=length or 1,
        fps=fps or None,
        size=size,
        buckets=buckets,
        fill=fill,
        resize=resize,
        crop=crop,
        flip=flip,
        batch=batch_size,
        window=window,
        windows=windows,
        threads=threads,
        cache=cache,
        cache_gb=cache_gb,
        max_damaged=max_damaged,
    )
    recipe = PlainRecipe(stride=stride, seed=seed, flow=bool(flow))
    found = Stream(source, config, recipe, seed=seed, rank=rank, ranks=world)
    if state:
        found.load_state_dict(json.loads(Path(state).read_text()))
    shown, damaged = _take(found, batches, keys_out, show)
    for key, reason in damaged.items():
        say(f"{key}: {reason}", "damaged", "yellow")
    if state_out:
        Path(state_out).write_text(json.dumps(found.state_dict(), indent=1) + "\n")
    if show:
        _draw(shown, show, show_out, fps / stride)
    _report(found, damaged, as_json)
    return 0


def _take(
    stream: "Stream", batches: int, keys_out: str, show: int
) -> "tuple[list[Batch], dict[str, str]]":
    """Take batches; returns the first of them, as many as are shown, and what was damaged."""
    shown: list[Batch] = []
    damaged: dict[str, str] = {}
    with ExitStack() as stack:
        keys = stack.enter_context(open(keys_out, "w")) if keys_out else None
        for batch in islice(stack.enter_context(closing(iter(stream))), batches):
            damaged |= {clip.key: clip.reason for clip in batch.damaged}
            if sum(map(len, shown)) < show:
                shown.append(batch)
            if keys is not None:
                keys.writelines(_lines(stream, batch))
    return shown, damaged


def _lines(stream: "Stream", batch: "Batch") -> Iterator[str]:
    for position, key, plan in zip(batch.positions, batch.keys, batch.plans, strict=True):
        frames = ",".join(map(str, plan.src_index.tolist()))
        yield f"{stream.epoch(position)}\t{position}\t{key}\t{frames}\n"


def _draw(shown: "list[Batch]", most: int, out: str, fps: float) -> None:
    from fluxshard.report.grid import grid_video, played_at
    from fluxshard.terminal import say

    shape = shown[0].frames.shape[1:]  # of one bucket
    alike = [batch.frames for batch in shown if batch.frames.shape[1:] == shape]
    clips = [clip.numpy() for frames in alike for clip in frames][:most]
    Path(out).write_bytes(grid_video(clips, played_at(fps)))
    say(f"{len(clips)} samples → {out}")


def _report(stream: "Stream", damaged: dict[str, str], as_json: bool) -> None:
    from fluxshard.terminal import print_facts, print_table, write
    from trainer import stage_table

    facts: dict[str, Any] = stream.totals.facts()
    fillings, dropped = stream.places.fillings(), stream.places.dropped
    if as_json:
        more = {"damage": damaged, "state": stream.state_dict(), "dropped": dropped}
        in_buckets = {"buckets": [asdict(filling) for filling in fillings]}
        write(json.dumps({**facts, **more, **in_buckets}, indent=1))
        return
    if stream.config.buckets or dropped:
        rows = [(one.bucket, f"{one.samples}", f"{one.share:.1%}") for one in fillings]
        rows += [("none", f"{count}", reason) for reason, count in dropped.items()]
        print_table(("bucket", "samples", "of the batches"), rows)
    print_table(*stage_table(facts))
    print_facts(
        {
            "clips": f"{facts['clips']}, {facts['clips_per_s']:.1f} a second",
            "read": f"{facts['read_MB_per_s']:.2f} MB a second",
            **({"cache": _cached(facts)} if stream.config.cache else {}),
            "first batch": f"after {facts['first_batch_s']:.2f} s",
            "damaged": f"{facts['damaged']} samples stood in for",
            "position": stream.cursor.position,
        }
    )


def _cached(facts: dict[str, Any]) -> str:
    hits, misses, damaged = (facts[f"cache_{name}"] for name in ("hits", "misses", "damaged"))
    return f"had {hits} of {hits + misses} ranges, and {damaged} damaged"
