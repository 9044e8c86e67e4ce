"""DOT, dense optical tracking (Le Moing et al., arXiv 2312.00786), from a checkout of its code.

Points are tracked through the whole clip once; a refiner then turns the tracks into dense flow
and visibility between any two frames. The code is MIT; of the trackers, TAPIR and BootsTAPIR are
Apache-2.0 and fit for commercial use, CoTracker2 (code and weights) is CC BY-NC 4.0.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from flow_cache.estimators.base import EstimatorUnavailable, check_at_least, zero_if_still
from flow_cache.estimators.network import frozen, import_torchvision, pad
from flow_cache.estimators.weights import hub_file, load_weights
from flow_cache.field import Flow, Frames, Images, Visible
from flow_cache.spec import JSON, Pair

COMMIT = "8c6ef1e1521eff9df8c7030f10adc57a4cddee13"
CODE_SHA256 = "b814ce25f5128128fe72a0be93e723e5f0051009b359190cf4a4f35dbd892252"
ZOO = "https://huggingface.co/16lemoing/dot/resolve/main/"
TRACKERS = {  # configuration and weights
    "tapir": ("tapir.json", "panning_movi_e_tapir.pth"),
    "bootstapir": ("bootstapir.json", "panning_movi_e_plus_bootstapir.pth"),
    "cotracker2": ("cotracker2_patch_4_wind_8.json", "movi_f_cotracker2_patch_4_wind_8.pth"),
}
PACKAGES = ("timm", "einops", "einshape", "scipy", "tqdm")  # that its code imports
STRIDE, SMALLEST = 8, 64  # of what the networks take, in pixels
AT_ONCE = 2048  # points tracked together
VISIBLE = 0.8  # probability above which the refiner calls a pixel visible


@dataclass(kw_only=True, slots=True)
class Dot:
    """DOT with its own visibility; the flow of a pair depends on the whole clip.

    Attributes:
        tracker: which point tracker.
        tracks: how many points to follow, up to 2048 or a multiple.
        seed: of the choice of points, so that the same clip has the same flow.
    """

    tracker: str = "tapir"
    tracks: int = 2048
    seed: int = 0
    weights_sha256: str = field(init=False, repr=False)
    _checkout: Path = field(init=False, repr=False, compare=False)

    name: ClassVar[str] = "dot"
    revision: ClassVar[str] = COMMIT[:7]
    differentiable: ClassVar[bool] = True
    whole_clip: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.tracker not in TRACKERS:
            raise ValueError(f"unknown tracker {self.tracker!r}; choose {', '.join(TRACKERS)}")
        if self.tracks < 1 or self.tracks % min(self.tracks, AT_ONCE):
            raise ValueError(f"tracks must be below {AT_ONCE} or a multiple, got {self.tracks}")
        missing = [name for name in PACKAGES if find_spec(name) is None]
        if missing:
            raise EstimatorUnavailable(f"DOT needs packages: pip install {' '.join(missing)}")
        import_torchvision()
        digests = [load_weights(url, check_hash=False)[1] for url in self._weights().values()]
        self._checkout = find_checkout()
        self.weights_sha256 = _sha256("".join(digests).encode())

    @property
    def params(self) -> dict[str, JSON]:
        return {"tracker": self.tracker, "tracks": self.tracks, "seed": self.seed}

    def check_size(self, size: tuple[int, int]) -> None:
        check_at_least(size, 32, self.name)

    @torch.no_grad()
    def clip(self, frames: Frames, pairs: Sequence[Pair]) -> tuple[Flow, Visible]:
        return self._clip(frames.float() / 255, pairs)

    def pair(self, first: Images, second: Images) -> Flow:
        """Each pair is a clip of its own; gradients reach the frames through the refiner."""
        clips = [self._clip(torch.stack(two), [(0, 1)]) for two in zip(first, second, strict=True)]
        return torch.cat([first.new_zeros(0, 2, *first.shape[-2:]), *(flow for flow, _ in clips)])

    def _clip(
        self, frames: Float[Tensor, "t 3 h w"], pairs: Sequence[Pair]
    ) -> tuple[Flow, Visible]:
        size = (frames.shape[-2], frames.shape[-1])
        self.check_size(size)
        flows, visible = [frames.new_zeros(0, 2, *size)], [frames.new_zeros(0, *size).bool()]
        if pairs:
            padded, inside = pad(frames, STRIDE, SMALLEST)
            model = self._model((padded.shape[-2], padded.shape[-1])).to(frames.device)
            with torch.no_grad(), _seeded(self.seed, padded.device):
                tracks = _track(model.point_tracker, padded[None], self.tracks)
            refiner = model.optical_flow_refiner
            features = refiner({"video": padded[None]}, mode="feats")["feats"]
        for i, j in pairs:
            flow, alpha = _refine(refiner, features, tracks, (i, j))
            first, second = frames[i : i + 1], frames[j : j + 1]
            flows.append(zero_if_still(flow.permute(0, 3, 1, 2)[..., *inside], first, second))
            visible.append((alpha > VISIBLE)[..., *inside] | first.eq(second).all())
        return torch.cat(flows), torch.cat(visible)

    def _weights(self) -> dict[str, str]:
        """URLs by role."""
        return {
            "tracker": ZOO + TRACKERS[self.tracker][1],
            "estimator": ZOO + "cvo_raft_patch_8.pth",
            "refiner": ZOO + "movi_f_raft_patch_4_alpha.pth",
        }

    def _model(self, size: tuple[int, int]) -> Any:
        files = tuple((role, str(hub_file(url))) for role, url in self._weights().items())
        return _build(str(self._checkout), size, TRACKERS[self.tracker][0], files)


def find_checkout() -> Path:
    """The folder of DOT's code: FLUXSHARD_DOT, else one in torch hub's folder; content checked."""
    default = Path(torch.hub.get_dir()) / f"16lemoing_dot_{COMMIT[:7]}"
    folder = Path(os.environ.get("FLUXSHARD_DOT", default))
    remedy = (
        f"git clone https://github.com/16lemoing/dot {folder} && git -C {folder} checkout {COMMIT}"
    )
    if not (folder / "dot" / "models").is_dir():
        raise EstimatorUnavailable(
            f"no checkout of DOT at {folder} (or set FLUXSHARD_DOT): {remedy}"
        )
    if code_sha256(folder) != CODE_SHA256:
        raise EstimatorUnavailable(
            f"the checkout of DOT at {folder} is not commit {COMMIT}: {remedy}"
        )
    return folder


def code_sha256(folder: Path) -> str:
    """SHA-256 over the checkout's Python and configuration files."""
    files = sorted([*folder.glob("dot/**/*.py"), *folder.glob("configs/*.json")])
    return _sha256(b"".join(path.read_bytes().replace(b"\r\n", b"\n") for path in files))


@lru_cache(maxsize=1)
def _build(
    checkout: str, size: tuple[int, int], config: str, weights: tuple[tuple[str, str], ...]
) -> Any:
    hub = str(Path(__file__).parent / "hub")
    with _seeded(0, torch.device("cpu")):  # networks are born with random weights
        model = torch.hub.load(
            hub, "dense_optical_tracker", checkout, size, config, dict(weights), source="local"
        )
    return frozen(model)


def _track(
    tracker: Any, video: Float[Tensor, "1 t 3 h w"], tracks: int
) -> Float[Tensor, "1 t n 3"]:
    """Tracks of points over a clip: x and y in [0, 1], visible."""
    h, w = video.shape[-2:]
    found = tracker(
        {"video": video},
        mode="tracks_at_motion_boundaries",
        num_tracks=tracks,
        sim_tracks=min(tracks, AT_ONCE),
    )["tracks"]
    return found / found.new_tensor([w - 1, h - 1, 1])


def _refine(
    refiner: Any, features: Tensor, tracks: Float[Tensor, "1 t n 3"], pair: Pair
) -> tuple[Float[Tensor, "1 h w 2"], Float[Tensor, "1 h w"]]:
    """Flow in pixels and visibility in [0, 1] of a pair of frames."""
    i, j = pair
    source, target = features[:, i], features[:, j]
    if not tracks[:, i, :, 2].any():  # then there is no nearest track to start from
        return refiner.model(src_feats=source, tgt_feats=target)
    points = {"src_points": tracks[:, i], "tgt_points": tracks[:, j]}
    found = refiner(
        {"src_feats": source, "tgt_feats": target, **points},
        mode="flow_with_tracks_init",
        interpolation_version="torch",
        alpha_thresh=VISIBLE,
    )
    return found["flow"], found["alpha"]


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """DOT draws its points from the global generators of torch and numpy: borrow them.

    Those of the CPU and of `device` alone: `torch.manual_seed` would also seed all other devices.
    """
    state = np.random.get_state()  # noqa: NPY002
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
