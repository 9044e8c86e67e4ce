"""The training loop."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from flow_cache import FlowSpec
from shards import Cursor, Dataset, Layer, UsageError, fold
from trainer.config import TrainConfig
from trainer.model.network import load_network, require_per_slot
from trainer.model.text import Conditioner, told
from trainer.process.build import build_process
from trainer.process.noise import noise_like
from trainer.process.objective import reconstruct
from trainer.run.checkpoint import METRICS, TrainState, open_run
from trainer.run.log import MetricsLog, Record
from trainer.spatial.framing import Framing, check_motion
from trainer.stream.batch import Batch
from trainer.stream.engine import Stream
from trainer.stream.source import Source
from trainer.temporal.recipe import TrainRecipe
from trainer.terms.flowloss import FlowLoss
from trainer.terms.layers import check_layer, check_sizes, live_estimator
from trainer.terms.smoothness import Smoothness
from trainer.terms.term import Step, Term
from trainer.terms.warping import WarpingLoss
from trainer.terms.weights import reconstruction_share


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What a call of `train` did.

    Attributes:
        first_step, last_step: optimizer steps done before and after it.
        parameters: weights of the model.
        seconds: that it took.
        last: the newest value of each metric.
        stream: where the stream's time went (`Totals.facts`); empty if there was nothing to do.
    """

    first_step: int
    last_step: int
    parameters: int
    seconds: float
    last: Record
    stream: Record


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
) -> Summary:
    """Train on a dataset until `config.steps`, from the checkpoint in `out` if there is one.

    Writes config.json, metrics.jsonl and checkpoint.pt to `out`. A resumed run computes what the
    uninterrupted one would have, bit for bit on a CPU.

    Args:
        data: dataset folder or URL.
        progress: called with each step's record, in order.

    Raises:
        UsageError: the data cannot serve the configuration, or `out` holds another run.
        FloatingPointError: the loss is no longer a number.
    """
    # Data and what judges it.
    if config.codec.name != "pixels":
        raise UsageError(f"codec.name {config.codec.name}: `train` learns pixels only so far")
    device, process = torch.device(_device(config.device)), build_process(config.process)
    dataset, out, began = Dataset(data), Path(out), time.perf_counter()
    conditioner = Conditioner(config.conditioning, device)
    source = replace(choose_source(dataset, config), columns=conditioner.columns)
    stream = Stream(source, config.stream, TrainRecipe(config), seed=config.seed, device=device)
    layer = source.layer
    terms, shown = open_terms(layer, stream.framings, config), stream.framings[0].size
    resumes = open_run(out, config, None if layer is None else layer.name, shown)

    # State.
    state = fresh_state(config, stream.cursor, device, conditioner.width, conditioner.classes)
    if resumes:
        state.restore(out, device)
        stream.load_state_dict(state.cursor.to_json())
    first_step, last, bounded = state.step, Record(), False
    metrics = MetricsLog(out / METRICS, keep_steps=first_step)
    state.model.train()

    with closing(iter(stream)) as batches:
        while state.step < config.steps:
            # Batch.
            step_began = time.perf_counter()
            batch = next(batches)

            # Forward: reconstruction, then what is asked of the clean estimate beside it.
            clips, levels = batch.clean(), batch.levels
            assert levels is not None, "TrainRecipe draws noise levels"
            share = reconstruction_share(levels, config.flow_loss, config.process.sigma_data)
            heard = told(config.seed, batch.positions, config.conditioning.dropout)
            denoised = reconstruct(
                process,
                state.model,
                clips,
                noise_like(clips, config.seed, batch.positions),
                levels.to(device, non_blocking=True),
                batch.time.to(device),
                batch.stage.interval,
                conditioner(batch.captions, batch.columns, heard),
                share=None if share is None else share.to(device, non_blocking=True),
            )
            step = Step(
                clean=denoised.clean,
                levels=levels,
                targets=batch.flow,
                true=batch.frames,
                plans=batch.plans,
                keys=batch.keys,
            )
            loss, record = denoised.loss, describe(batch)
            for term in terms:
                added, logs = term(step)
                loss, record = loss + added, record | logs

            # Backward.
            state.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), config.optim.clip_norm)

            # Step.
            rate = learning_rate(state.step, config)
            for group in state.optimizer.param_groups:
                group["lr"] = rate
            state.optimizer.step()
            if state.average is not None:
                state.average.update_parameters(state.model)
            state.step, state.cursor = state.step + 1, batch.cursor

            # Status.
            record |= {
                "step": state.step,
                "loss": loss.detach(),
                "recon": denoised.loss.detach(),
                "grad_norm": norm,
                "learning_rate": rate,
            }
            if batch.flow and not bounded:
                for term in terms:
                    record |= term.bounds(step)
                bounded = True
            if batch.damaged:
                record["damaged"] = {clip.key: clip.reason for clip in batch.damaged}
            record["seconds"] = {**batch.seconds, "step": time.perf_counter() - step_began}
            metrics.add(record)
            done = state.step == config.steps
            saves = done or state.step % config.checkpoint_every == 0
            if saves or state.step % config.log_every == 0:
                for line in metrics.flush():
                    if line["loss"] is None:
                        raise FloatingPointError(
                            f"the loss is not a number at step {line['step']}{lost_flow(line)}: "
                            "lower optim.learning_rate or flow_loss.weight; the last checkpoint is "
                            "intact"
                        )
                    last |= {key: value for key, value in line.items() if value is not None}
                    if progress is not None:
                        progress(line)

            # Checkpoint.
            if saves:
                state.save(out)

    return Summary(
        first_step=first_step,
        last_step=state.step,
        parameters=sum(p.numel() for p in state.model.parameters()),
        seconds=time.perf_counter() - began,
        last=last,
        stream=stream.totals.facts() if stream.totals.batches else {},
    )


def choose_source(dataset: Dataset, config: TrainConfig) -> Source:
    """What to stream, with the flow layer where a loss that needs it has a weight.

    Raises:
        UsageError: there is no such layer.
    """
    source = Source(dataset=dataset, where=config.stream.where)
    needing = [o for o in ("flow_loss", "warping") if getattr(config, o).weight > 0]
    if not needing:
        return source
    if not dataset.manifest.layers:
        off = " ".join(f"--{name.replace('_', '-')}.weight 0" for name in needing)
        raise UsageError(
            f"{dataset.url} holds no flow, which {' and '.join(needing)} need: add it with "
            f"`fluxshard flow {dataset.url} --estimator variational`, or train with {off}"
        )
    return replace(source, layer=dataset.layer(config.stream.layer))


def open_terms(layer: Layer | None, framings: Sequence[Framing], config: TrainConfig) -> list[Term]:
    """The losses that have a weight; UsageError if the layer does not suit them or the clips.

    Args:
        framings: how clips are shown, of each stored size.
    """
    terms: list[Term] = []
    if layer is not None:
        spec = FlowSpec.from_json(layer.spec)
        for stored in dict.fromkeys(framing.stored for framing in framings):
            check_layer(spec, config.flow_loss, stored, config.pyramid.coarsest)
        if config.flow_loss.weight:
            check_motion(framings, accepted=config.flow_loss.accept_resize)
            estimator = live_estimator(spec, config.flow_loss)
            check_sizes(estimator, framings)
            terms.append(FlowLoss(config.flow_loss, estimator, config.process.sigma_data))
        if config.warping.weight:
            terms.append(WarpingLoss(config.warping, config.flow_loss.psi))
    if config.smoothness.weight:
        terms.append(Smoothness(config.smoothness))
    return terms


def fresh_state(
    config: TrainConfig, cursor: Cursor, device: torch.device, text: int = 0, classes: int = 0
) -> TrainState:
    """The state of a run before its first step; fresh weights are a function of the seed.

    Args:
        text, classes: that the network is told of, see `load_network`.

    Raises:
        UsageError: the network does not suit what it is to be shown and told.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fold(config.seed, "weights"))
        model = load_network(config.model, text=text, classes=classes).to(device)
    if config.process.per_slot:
        require_per_slot(model)
    average = None
    if config.optim.ema_halflife:
        decay = 0.5 ** (1 / config.optim.ema_halflife)
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config.optim.learning_rate,
        betas=(0.9, 0.99),
        weight_decay=config.optim.weight_decay,
    )
    return TrainState(model=model, average=average, optimizer=optimizer, step=0, cursor=cursor)


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then constant: it does not depend on how long the run will be."""
    return config.optim.learning_rate * min(1.0, (step + 1) / max(config.optim.warmup, 1))


def describe(batch: Batch) -> Record:
    """What a batch was made of; `moved` is a share of slots."""
    return {
        "samples": batch.cursor.position,
        "stage": batch.stage.number,
        "moved": batch.moved,
    }


def lost_flow(line: Record) -> str:
    """Which pairs of a step had flow that is not finite, to follow a sentence; often none."""
    names = line.get("flow_lost")
    return f" (no finite flow between frames {', '.join(names)})" if names else ""


def _device(name: str) -> str:
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
