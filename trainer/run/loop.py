"""The training loop."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from shards import Dataset
from trainer.codec.choose import load_codec
from trainer.codec.codec import Codec
from trainer.codec.suits import check_codec
from trainer.config import TrainConfig
from trainer.model.text import Conditioner, told
from trainer.process.build import build_process
from trainer.run.checkpoint import METRICS, begin_from, open_run, restore, save
from trainer.run.failures import explained
from trainer.run.ingredients import (
    choose_source,
    deal_noise,
    in_precision,
    open_stream,
    open_terms,
)
from trainer.run.log import MetricsLog, Record, check_loss, describe
from trainer.run.ranks import Ranks, join
from trainer.run.restore import Trained
from trainer.run.sinks import listening
from trainer.run.state import TrainState, build_network, fresh_state
from trainer.run.validation import Validation, split
from trainer.temporal.recipe import TrainRecipe
from trainer.terms.denoised import denoise_batch
from trainer.terms.weights import reconstruction_share

Watcher = Callable[[Trained, int], None]
"""Is shown a model that has its average weights, and how many clips it was trained on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What a call of `train` did.

    Attributes:
        first_step, last_step: optimizer steps done before and after it.
        parameters: weights of the model.
        seconds: that it took.
        last: the newest value of each metric.
        stream: where the stream's time went (`Totals.facts`); empty if there was nothing to do.
        left_out: how many clips give no sample, by reason.
        leads: whether this process is rank 0, which speaks for all.
    """

    first_step: int
    last_step: int
    parameters: int
    seconds: float
    last: Record
    stream: Record
    left_out: Mapping[str, int]
    leads: bool


@contextmanager
def cores_for_the_stream() -> Iterator[None]:
    """Compute with half of the threads, so that the stream's find a core.

    A team of compute threads waits at every operation for its last member: with as many as there
    are cores, each of its threads at work stalls the whole team (measured on two busy cores: 20
    times slower).
    """
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // 2))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cores_for_the_stream()
def train(
    data: str,
    out: str | Path,
    config: TrainConfig,
    progress: Callable[[Record], None] | None = None,
    watch: Watcher | None = None,
) -> Summary:
    """Train on a dataset until `config.clips`, from the checkpoint in `out` if there is one.

    Writes config.json, metrics.jsonl and checkpoints to `out`. A resumed run computes what the
    uninterrupted one would have: bit for bit on a CPU, and on another number of ranks up to
    rounding. Under torchrun each process calls it alike.

    Args:
        data: dataset folder or URL.
        progress: called with each step's record, in order, on rank 0.
        watch: called before the first step and at every checkpoint, on all ranks together.

    Raises:
        UsageError: the data cannot serve the configuration, or `out` holds another run.
        FloatingPointError: the loss is no longer a number.
        RunFailed: out of memory, a full disk, a lost rank.
    """
    with join(config) as ranks, explained(ranks.count):
        return _train(data, Path(out), config, ranks, progress, watch)


def _train(
    data: str,
    out: Path,
    config: TrainConfig,
    ranks: Ranks,
    progress: Callable[[Record], None] | None,
    watch: Watcher | None,
) -> Summary:
    # Data and what judges it.
    device, process, began = ranks.device, build_process(config.process), time.perf_counter()
    codec, conditioner = load_codec(config.codec, device), Conditioner(config.conditioning, device)
    check_codec(codec.rule, config)
    source = replace(choose_source(Dataset(data), config), columns=conditioner.columns)
    source, kept = split(source, config)
    stream = open_stream(source, TrainRecipe(config), config.seed, config, ranks)
    layer = source.layer
    terms = open_terms(layer, stream.framings, config)
    validation = (
        Validation(kept, config, ranks, codec, conditioner) if config.validation.share else None
    )
    resumes = ranks.lead(
        lambda: open_run(out, config, layer.name if layer else None, stream.framings[0].size, data)
    )

    # State.
    fresh = build_network(config, codec, conditioner).to(device)
    state = fresh_state(config, fresh, stream.cursor, ranks)
    if resumes:
        restore(state, resumes)
        stream.load_state_dict(state.cursor.to_json())
    elif config.init_from:
        begin_from(state, Path(config.init_from), config.init_with)
    first_step, last, bounded = state.step, Record(), False
    metrics = MetricsLog(out / METRICS, ranks, keep_steps=first_step)
    network, model = (in_precision(n, config, device) for n in (state.network, state.model))
    state.model.train()
    if not resumes:
        show(state, codec, conditioner, watch)

    with (
        closing(iter(stream)) as batches,
        listening(config, out, state.clips, ranks, progress) as listeners,
    ):
        while state.clips < config.clips:
            # Batch.
            step_began, before = time.perf_counter(), state.clips
            batch = next(batches)
            parts, records = batch.split(config.optim.accumulate), list[Record]()
            noises, encoded = deal_noise(parts, codec, config, ranks)
            state.optimizer.zero_grad(set_to_none=True)

            for number, (part, clips) in enumerate(zip(parts, encoded, strict=True), 1):
                # Forward: reconstruction, then what is asked of the clean estimate beside it.
                ranks.share_gradients(state.network, now=number == len(parts))
                assert part.levels is not None, "TrainRecipe draws noise levels"
                share = reconstruction_share(
                    part.levels, config.flow_loss, config.process.sigma_data
                )
                heard = told(config.seed, part.positions, config.conditioning.dropout)
                denoised, step = denoise_batch(
                    process,
                    codec,
                    network,
                    part,
                    seed=config.seed,
                    noise_of=[noises[position] for position in part.positions],
                    context=conditioner(part.captions, part.columns, heard),
                    share=share,
                    clips=clips,
                )
                loss, record = denoised.loss, describe(part)
                for term in terms:
                    added, logs = term(step)
                    loss, record = loss + added, record | logs

                # Backward: gradients add up to those of the mean over all parts and ranks.
                (loss / len(parts)).backward()
                records.append(record | {"loss": loss.detach(), "recon": denoised.loss.detach()})
                if part.flow and not bounded:
                    for term in terms:
                        records[-1] |= term.bounds(step)
                    bounded = True

            # Step.
            norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), config.optim.clip_norm)
            rate = learning_rate(batch.cursor.position, config)
            for group in state.optimizer.param_groups:
                group["lr"] = rate
            state.optimizer.step()
            if state.average is not None:
                state.average.update(state.model, average_share(state.step, config))
            state.step, state.cursor = state.step + 1, batch.cursor

            # Status.
            records[0] |= {
                "step": state.step,
                "grad_norm": _whole(norm),
                "learning_rate": rate,
                "seconds": {**batch.seconds, "step": time.perf_counter() - step_began},
            }
            done = state.clips >= config.clips
            saves = done or passed(config.checkpoint_clips, before, state.clips)
            judges = done or passed(config.validation.every_clips, before, state.clips)
            if validation and judges:
                with state.judged():
                    records[0] |= validation(model)
            metrics.add(records)
            if saves or judges or state.step % config.log_steps == 0:
                for line in metrics.flush():
                    check_loss(line)
                    last |= {key: value for key, value in line.items() if value is not None}
                    for listen in listeners:
                        listen(line)

            # Checkpoint.
            if saves:
                save(state, out, ranks, config.keep_checkpoints)
                show(state, codec, conditioner, watch)

    return Summary(
        first_step=first_step,
        last_step=state.step,
        parameters=sum(p.numel() for p in state.model.parameters()),
        seconds=time.perf_counter() - began,
        last=last,
        stream=stream.totals.facts() if stream.totals.batches else {},
        left_out=stream.places.dropped,
        leads=ranks.leads,
    )


def learning_rate(clips: int, config: TrainConfig) -> float:
    """Of the step that ends at so many clips: rising, constant and, if that is asked for, falling.

    But for the last part it does not depend on how long the run is to be.
    """
    left = max(config.clips - clips, 0) + config.stream.batch  # when the step begins
    falling = left / config.optim.decay_clips if config.optim.decay_clips else 1.0
    return config.optim.learning_rate * min(1.0, clips / max(config.optim.warmup_clips, 1), falling)


def average_share(step: int, config: TrainConfig) -> float:
    """The share of a step's weights in their average, of which the first step's are all."""
    return 1 - 0.5 ** (config.stream.batch / config.optim.ema_clips) if step else 1.0


def passed(every: int, before: int, now: int) -> bool:
    """Whether a multiple of `every` was reached."""
    return before // every != now // every


def show(state: TrainState, codec: Codec, conditioner: Conditioner, watch: Watcher | None) -> None:
    """Have the model looked at as evaluation has it."""
    if watch is not None:
        with state.judged() as network:
            watch(Trained(network=network, codec=codec, conditioner=conditioner), state.clips)


def _whole(norm: Tensor) -> Tensor:
    """Of all shards."""
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
