"""What a build makes: the one configuration that decides every byte of a dataset."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Literal, Self

from flow_cache import (
    CODING,
    DEFAULT_CRITERION,
    DIRECTIONS,
    FlowEstimator,
    FlowSpec,
    check_criterion,
    load_estimator,
)
from pipeline.planning.clips import ClipRule
from pipeline.shots.detect import Detector, detector_identity
from pipeline.source import rgb
from shards import UsageError, clip_video

NO_FLOW = "none"
Directions = tuple[Literal["forward", "backward"], ...]
SCAN_REVISION = 1  # of the code that finds the clips of a video
_SHOTS_BY = "shots_by"  # of the stored configuration, not a setting
_CODING = "flow_coding"  # likewise
FRAMES_REVISION = {"source": rgb.REVISION, "clip": clip_video.REVISION}  # of the pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class ScanConfig:
    """Everything that decides which clips a video gives, and nothing else.

    Attributes:
        size: (height, width) of clips and flow in pixels, both even.
        frames: frames in a clip.
        fps: frames per second of the clips, resampled by timestamp; None keeps the source's frames.
        shots: shot detector, `adaptive`, `content`, `transnetv2` (an extra) or `none`.
        max_repeated: largest share of slots in a clip that may repeat the source frame before.

    Raises:
        UsageError: a value outside its rule.
    """

    size: tuple[int, int] = (256, 384)
    frames: int = 17
    fps: Fraction | None = None
    shots: Detector = "adaptive"
    max_repeated: float = 0.25

    def __post_init__(self) -> None:
        height, width = self.size
        _require(
            all(side >= 16 and side % 2 == 0 for side in self.size),
            f"size {height}x{width}: both sides must be even and ≥ 16",
        )
        _require(self.frames >= 2, f"frames is {self.frames}; a clip has motion from 2 frames on")
        _require(
            self.fps is None or clip_video.is_storable(self.fps),
            f"fps is {self.fps}; give a positive rate that video files can hold, such as 12 or "
            "30000/1001, or none for the source's",
        )
        _require(
            0 <= self.max_repeated <= 1,
            f"max_repeated is {self.max_repeated}; it is a share, from 0 to 1",
        )

    @property
    def clip_rule(self) -> ClipRule:
        return ClipRule(
            frames=self.frames, size=self.size, fps=self.fps, max_repeated=self.max_repeated
        )

    @property
    def scan_settings(self) -> str:
        """Text that changes with whatever decides the clips of a video."""
        names = ("size", "frames", "fps", "shots", _SHOTS_BY, "max_repeated")
        stored = self.to_json()
        return " ".join([f"revision {SCAN_REVISION}", *(f"{n} {stored[n]}" for n in names)])

    def to_json(self) -> dict[str, Any]:
        """As stored in the manifest, with the shot detector's identity under `shots_by`.

        Raises:
            UsageError: the detector's package is missing.
        """
        fps = None if self.fps is None else str(self.fps)
        return {**asdict(self), "fps": fps, _SHOTS_BY: detector_identity(self.shots)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The configuration that `to_json` stored."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in stored.items()
            if name not in (_SHOTS_BY, _CODING)
        }
        if values["fps"] is not None:
            values["fps"] = Fraction(values["fps"])
        return cls(**values)


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildConfig(ScanConfig):
    """Everything that decides the bytes of a dataset, and nothing else.

    Attributes:
        crf: x264 constant rate factor of the stored clips, 0 (lossless) to 51.
        flow: flow estimator; several with commas between, or `none`. Each makes a layer.
        levels: frame distances for which flow is stored.
        directions: of flow in time that are stored, `forward`, `backward` or both with a comma.
        max_error_px: largest error of a stored flow component; where the estimates forward and
            backward agree better than that, flow is stored more exactly.
        occlusion: criterion of the stored visibility.
        clips_per_shard: clips in one tar.

    Raises:
        UsageError: a value outside its rule.
    """

    crf: int = 18
    flow: str = "variational"
    levels: tuple[int, ...] = (1, 2, 4)
    directions: Directions = ("forward",)
    max_error_px: float = 1 / 2
    occlusion: str = DEFAULT_CRITERION
    clips_per_shard: int = 64

    def __post_init__(self) -> None:
        ScanConfig.__post_init__(self)
        _require(0 <= self.crf <= 51, f"crf is {self.crf}; x264 takes 0 (lossless) to 51")
        _require(
            self.clips_per_shard >= 1,
            f"clips_per_shard is {self.clips_per_shard}; a shard holds 1 or more",
        )
        if self.estimators:
            self._check_flow()

    def _check_flow(self) -> None:
        _require(
            bool(self.levels) and all(1 <= level < self.frames for level in self.levels),
            f"levels {self.levels}: each must be at least 1 and below the {self.frames} frames "
            "of a clip",
        )
        _require(
            len({*self.levels}) == len(self.levels), f"levels {self.levels}: one is named twice"
        )
        _require(
            bool(self.directions) and set(self.directions) <= set(DIRECTIONS),
            f"directions {self.directions}: name forward, backward, or both",
        )
        _require(
            0 < self.max_error_px < math.inf,
            f"max_error_px is {self.max_error_px}; the bound must be positive and finite, such "
            "as 0.5",
        )
        try:
            check_criterion(self.occlusion)
        except ValueError as error:
            raise UsageError(str(error)) from error

    @property
    def estimators(self) -> tuple[str, ...]:
        """The ids of the flow estimators."""
        return () if self.flow == NO_FLOW else tuple(self.flow.split(","))

    def to_json(self) -> dict[str, Any]:
        """As in `ScanConfig`, with the revision of the coding of flow under `flow_coding`."""
        return {**ScanConfig.to_json(self), _CODING: CODING}

    def differences(self, stored: Mapping[str, Any]) -> list[str]:
        """One line for each setting that differs from a manifest's configuration."""
        ours = self.to_json()
        return [
            f"{name}: dataset has {stored.get(name)}, this build asks for {ours.get(name)}"
            for name in sorted({*ours, *stored})
            if _plain(stored.get(name)) != _plain(ours.get(name))
        ]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UsageError(message)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def flow_specs(
    config: BuildConfig, frames_from: Literal["source", "clip"] = "source"
) -> tuple[FlowSpec, ...]:
    """The spec of each flow layer that the configuration asks for.

    Raises:
        UsageError: an estimator is unknown, not installed, or cannot work at this size; before any
            decoding.
    """
    try:
        estimators = [load_estimator(name) for name in config.estimators]
        return tuple(_flow_spec(estimator, config, frames_from) for estimator in estimators)
    except ValueError as error:
        raise UsageError(str(error)) from error


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
        directions=config.directions,
        max_error_px=config.max_error_px,
        frames_from=frames_from,
        frames_revision=FRAMES_REVISION[frames_from],
    )
