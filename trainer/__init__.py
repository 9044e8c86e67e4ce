"""Training video diffusion models from the stream.

config     TrainConfig and its parts; presets: named runs
temporal   which stored frame stands in which slot
spatial    what part of the pictures is shown
stream     dataset to batches                    codec      frames to what the network sees
process    noising and denoising                 model      the network
terms      losses beside the reconstruction      metrics    figures of clips
run        the loop, checkpoints, the log        sample     clips from noise
adapters   the stream in other trainers
"""

from trainer.adapters.loaders import Epochs, FinetrainersStream, Items, OpenSoraEpochs
from trainer.adapters.samples import cosmos, diffsynth, finetrainers, open_sora, videox_fun
from trainer.codec.choose import load_codec
from trainer.codec.codec import Codec, FrameRule, check_stages
from trainer.codec.pixels import Pixels, to_signal, to_unit
from trainer.codec.vae import Vae, wrap
from trainer.config import (
    Bucket,
    CodecConfig,
    ConditioningConfig,
    FlowLossConfig,
    FluxFlowConfig,
    ModelConfig,
    OptimConfig,
    ProcessConfig,
    PyramidConfig,
    SmoothnessConfig,
    StreamConfig,
    TrainConfig,
    ValidationConfig,
    WarpingConfig,
)
from trainer.metrics.features import FeatureNetwork, load_features
from trainer.metrics.frechet import frechet_distance, video_distance
from trainer.metrics.measure import measure
from trainer.metrics.motion import measuring_estimator
from trainer.metrics.perceptual import load_lpips
from trainer.metrics.truth import motion_error, relative_error
from trainer.model.adapted import Adapted
from trainer.model.context import Context
from trainer.model.network import load_network
from trainer.model.text import Conditioner
from trainer.model.transformer import SpaceTimeTransformer
from trainer.presets import PRESETS
from trainer.process.build import build_process
from trainer.process.noise import noise_like
from trainer.process.objective import Reconstruction, reconstruct
from trainer.process.process import Coefficients, Process, denoise
from trainer.process.pyramid import NoiseInterval, clean_estimate, hold, noisy_mean, target
from trainer.run.ingredients import choose_source, in_precision, open_terms
from trainer.run.loop import Summary, train
from trainer.sample.loop import Sampler, noise_of
from trainer.sample.schedule import Row, Schedule, schedule
from trainer.spatial.framing import Framing
from trainer.spatial.transform import SpatialTransform
from trainer.stream.batch import Batch, Damage, FlowTargets
from trainer.stream.engine import Stream
from trainer.stream.source import Source, survey
from trainer.stream.timing import Totals, stage_table
from trainer.temporal.fluxflow import draw_shuffle
from trainer.temporal.plan import (
    Supervision,
    TemporalPlan,
    reorder,
    subsample,
    supervise,
    unshuffled,
    window,
)
from trainer.temporal.rate import FrameTimes
from trainer.temporal.recipe import ClipFacts, PlainRecipe, Recipe, SamplePlan, TrainRecipe
from trainer.temporal.stages import Stage, stages
from trainer.terms.denoised import denoise_batch
from trainer.terms.flowloss import FlowLoss, FlowTerms
from trainer.terms.layers import live_estimator
from trainer.terms.smoothness import Smoothness
from trainer.terms.term import Step, Term
from trainer.terms.warping import WarpingLoss

# fmt: off
__all__ = [  # noqa: RUF022 - grouped
    # configuration
    "CodecConfig", "ConditioningConfig", "FlowLossConfig", "FluxFlowConfig", "ModelConfig",
    "OptimConfig", "PRESETS", "ProcessConfig", "PyramidConfig", "SmoothnessConfig",
    "StreamConfig", "TrainConfig", "ValidationConfig", "WarpingConfig", "Bucket",
    # what is shown: plans and recipes
    "TemporalPlan", "window", "unshuffled", "subsample", "reorder", "Supervision", "supervise",
    "draw_shuffle", "Stage", "stages", "Recipe", "ClipFacts", "SamplePlan", "PlainRecipe",
    "TrainRecipe", "Framing", "SpatialTransform", "FrameTimes",
    # the stream
    "Stream", "Source", "survey", "Batch", "Damage", "FlowTargets", "Totals", "stage_table",
    # the codec
    "Codec", "FrameRule", "check_stages", "load_codec", "Pixels", "to_signal", "to_unit", "Vae",
    "wrap",
    # the stream in other trainers
    "videox_fun", "diffsynth", "finetrainers", "open_sora", "cosmos",
    "Epochs", "Items", "OpenSoraEpochs", "FinetrainersStream",
    # the process
    "NoiseInterval", "hold", "noisy_mean", "target", "clean_estimate",
    "Process", "Coefficients", "build_process", "denoise",
    "noise_like", "reconstruct", "Reconstruction",
    # losses beside the reconstruction
    "Step", "Term", "FlowLoss", "FlowTerms", "live_estimator", "WarpingLoss", "Smoothness",
    # a step of a loop of your own
    "choose_source", "open_terms", "in_precision", "denoise_batch",
    # sampling
    "Sampler", "schedule", "Schedule", "Row", "noise_of",
    # figures
    "measure", "measuring_estimator", "load_lpips", "load_features", "FeatureNetwork",
    "frechet_distance", "video_distance", "motion_error", "relative_error",
    # networks, and what they are told
    "load_network", "SpaceTimeTransformer", "Adapted", "Context", "Conditioner",
    # run
    "train", "Summary",
]
# fmt: on
