"""How clips are noised, and at which levels."""

from dataclasses import dataclass
from typing import Literal

from trainer.config.rules import require


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessConfig:
    """The diffusion process. A noise level is noise over signal, σ/γ, whatever the process."""

    kind: Literal["edm", "flow", "ddim"] = "edm"
    """edm: noise is added, and the network is preconditioned (arXiv 2206.00364). flow: flow
    matching, a straight line from clip to noise (arXiv 2210.02747). ddim: the variance is kept
    (arXiv 2010.02502)."""
    mean: float | None = None
    """Mean of the normal law of ln level, which is the logit of flow matching's t; unset: -1.2 for
    edm, 0 for flow. Has no meaning for ddim."""
    std: float | None = None
    """Its standard deviation; unset: 1.2 for edm, 1 for flow."""
    uniform: bool = False
    """Flow matching: t is uniform in (0, 1), rather than normal in its logit."""
    shift: float = 1.0
    """Flow matching: every level is multiplied by it, t becomes shift·t/(1 + (shift − 1)·t)."""
    sigma_data: float = 0.5
    """EDM: standard deviation of what the codec makes of frames."""
    sigma_max: float = 80.0
    """EDM: the level where sampling begins."""
    predicts: Literal["noise", "velocity"] = "noise"
    """DDIM: what the network says: ε, or v = γε − σx (arXiv 2202.00512)."""
    betas: Literal["linear", "scaled_linear"] = "scaled_linear"
    """DDIM: the 1000 steps of DDPM (1e-4 to 0.02), or of Stable Diffusion (linear in the root,
    0.00085 to 0.012)."""
    per_slot: float = 0.0
    """Share of the clips whose slots draw levels of their own (FVDM's p, arXiv 2410.03160; its code
    has 0.2). Adapting a strong model, 1 is best (Pusa, arXiv 2507.16116)."""
    per_slot_by: Literal["sample", "batch"] = "sample"
    """Whether that is decided for each clip or, as in FVDM's code, for a whole batch."""

    align: bool = False
    """Deal the noises of a global batch out so that clips and noises lie close (TPDiff, arXiv
    2503.09566, algorithm 1)."""
    given: int = 0
    """So many first slots are clean context that the network sees and is not asked for: training
    to go on from them. With the pyramid, or a codec that compresses time, 1 at most."""

    def __post_init__(self) -> None:
        require(self.given >= 0, f"process.given must be at least 0, got {self.given}")
        for name in ("std", "shift", "sigma_data", "sigma_max"):
            value = getattr(self, name)
            require(value is None or value > 0, f"process.{name} must be > 0, got {value}")
        require(0 <= self.per_slot <= 1, f"process.per_slot must be in [0, 1], got {self.per_slot}")
        meant = {
            "mean": self.kind != "ddim" and not self.uniform,
            "std": self.kind != "ddim" and not self.uniform,
            "uniform": self.kind == "flow",
            "shift": self.kind == "flow",
            "sigma_data": self.kind == "edm",
            "sigma_max": self.kind == "edm",
            "predicts": self.kind == "ddim",
            "betas": self.kind == "ddim",
        }
        for name, means in meant.items():
            default = self.__dataclass_fields__[name].default
            law = " with a uniform law" if self.uniform else ""
            require(
                means or getattr(self, name) == default,
                f"process.{name} {getattr(self, name)} says nothing for process.kind "
                f"{self.kind}{law}: leave it out",
            )
