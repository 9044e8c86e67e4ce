"""What a build makes: the one configuration that decides every byte of a dataset."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Literal, Self

from flow_cache import FlowSpec
from flow_cache.estimators import FlowEstimator, load_estimator
from flow_cache.occlusion import DEFAULT_CRITERION
from pipeline.planning.clips import ClipRule
from pipeline.planning.shots import Detector
from pipeline.source import rgb
from shards import clip_video

NO_FLOW = "none"
FRAMES_REVISION = {"source": rgb.REVISION, "clip": clip_video.REVISION}  # of the pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildConfig:
    """Everything that decides the bytes of a dataset, and nothing else.

    Attributes:
        size: (height, width) of clips and flow in pixels, both even.
        frames: frames in a clip.
        fps: frames a second of the clips, resampled by timestamp; None keeps the source's frames.
        shots: shot detector, `adaptive`, `content` or `none`.
        max_repeated: largest share of slots in a clip that may repeat the source frame before.
        crf: x264 constant rate factor of the stored clips, 0 (lossless) to 51.
        flow: flow estimator; several with commas between, or `none`. Each makes a layer.
        levels: frame distances for which flow is stored, in both directions.
        max_error_px: largest error of a stored flow component.
        occlusion: criterion of the stored visibility.
        clips_per_shard: clips in one tar.
    """

    size: tuple[int, int] = (256, 384)
    frames: int = 17
    fps: Fraction | None = None
    shots: Detector = "adaptive"
    max_repeated: float = 0.25
    crf: int = 18
    flow: str = "variational"
    levels: tuple[int, ...] = (1, 2, 4)
    max_error_px: float = 1 / 32
    occlusion: str = DEFAULT_CRITERION
    clips_per_shard: int = 64

    def __post_init__(self) -> None:
        if any(side < 16 or side % 2 for side in self.size):
            raise ValueError(
                f"size {self.size[0]}x{self.size[1]}: both sides must be even and ≥ 16"
            )
        if self.frames < 2:
            raise ValueError(f"frames is {self.frames}; a clip has motion from 2 frames on")
        if self.fps is not None and self.fps <= 0:
            raise ValueError(f"fps is {self.fps}; give a positive rate, or none for the source's")
        if self.clips_per_shard < 1:
            raise ValueError(f"clips_per_shard is {self.clips_per_shard}; a shard holds 1 or more")
        too_long = [level for level in self.levels if not 1 <= level < self.frames]
        if self.estimators and (too_long or not self.levels):
            raise ValueError(
                f"levels {self.levels}: each must be at least 1 and below the {self.frames} frames "
                "of a clip"
            )

    @property
    def estimators(self) -> tuple[str, ...]:
        """The ids of the flow estimators."""
        return () if self.flow == NO_FLOW else tuple(self.flow.split(","))

    @property
    def clip_rule(self) -> ClipRule:
        return ClipRule(
            frames=self.frames, size=self.size, fps=self.fps, max_repeated=self.max_repeated
        )

    def to_json(self) -> dict[str, Any]:
        """As stored in the manifest."""
        return {**asdict(self), "fps": None if self.fps is None else str(self.fps)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The configuration that `to_json` stored."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in stored.items()
        }
        if values["fps"] is not None:
            values["fps"] = Fraction(values["fps"])
        return cls(**values)

    def differences(self, stored: Mapping[str, Any]) -> list[str]:
        """One line for each setting that differs from a manifest's configuration."""
        ours = self.to_json()
        return [
            f"{name}: dataset has {stored.get(name)}, this build asks for {ours.get(name)}"
            for name in sorted({*ours, *stored})
            if _plain(stored.get(name)) != _plain(ours.get(name))
        ]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def flow_specs(
    config: BuildConfig, frames_from: Literal["source", "clip"] = "source"
) -> tuple[FlowSpec, ...]:
    """The spec of each flow layer that the configuration asks for.

    Raises:
        ValueError: an estimator is unknown or cannot work at this size; before any decoding.
    """
    estimators = [load_estimator(name) for name in config.estimators]
    return tuple(_flow_spec(estimator, config, frames_from) for estimator in estimators)


def _flow_spec(
    estimator: FlowEstimator, config: BuildConfig, frames_from: Literal["source", "clip"]
) -> FlowSpec:
    estimator.check_size(config.size)
    return FlowSpec(
        estimator=estimator.name,
        revision=estimator.revision,
        params=estimator.params,
        weights_sha256=estimator.weights_sha256,
        size=config.size,
        occlusion=config.occlusion,
        levels=config.levels,
        max_error_px=config.max_error_px,
        frames_from=frames_from,
        frames_revision=FRAMES_REVISION[frames_from],
    )
