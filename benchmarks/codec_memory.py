"""What memory one clip takes in diffusers' video autoencoders, counted on shapes alone.

    python benchmarks/codec_memory.py [--size 256x384] [--only AutoencoderKLWan] [--json rows.json]

Each class as it is by default (for LTX-Video that is 0.9.0), in bfloat16, on the shortest clip that
suits strides 1, 2 and 4: encoded; decoded; decoded with the gradient that FlowLoss asks for, also
with `codec.checkpointing`. Runs on tensors without storage and adds up what lives at the same time,
weights aside. What kernels use inside, and what an allocator wastes, comes on top.
"""

import argparse
import json
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainer.codec.families import FAMILIES
from trainer.libraries import import_diffusers

GIB = 2**30
VIDEO = {name: family for name, family in FAMILIES.items() if family.rule.factor > 1}
KINDS = ("encode", "decode", "gradient", "checkpointing")


class Living(TorchDispatchMode):
    """Bytes of the tensors made inside that live at the same time: now, and at most."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: dict[int, weakref.ref] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._meet(tensor.untyped_storage())
        return made

    def _meet(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key not in self.known:
            self.now += size
            self.peak = max(self.peak, self.now)
            self.known[key] = weakref.ref(storage, lambda _: self._part(key, size))

    def _part(self, key: int, size: int) -> None:
        self.now -= size
        del self.known[key]


def peak(work: Callable[[], Any]) -> float:
    """GiB that live at most while `work` runs, of what it makes."""
    with Living() as living:
        work()
    return living.peak / GIB


def measure(name: str, size: tuple[int, int]) -> dict[str, float | str]:
    """A row: GiB by what is done with a clip; NaN where the class cannot."""
    rule, row = FAMILIES[name].rule, dict.fromkeys(KINDS, float("nan"))
    frames = 4 * rule.step + 1
    with torch.device("meta"):
        model = getattr(import_diffusers(), name)()
        model = torch.nn.Module.to(model, torch.bfloat16).requires_grad_(False).eval()
        clip = torch.empty(1, 3, frames, *size, dtype=torch.bfloat16)
        with torch.no_grad():
            latents = model.encode(clip).latent_dist.mode()
            row["encode"] = peak(lambda: model.encode(clip))
            row["decode"] = peak(lambda: model.decode(latents))
        latents.requires_grad_()
        row["gradient"] = peak(lambda: model.decode(latents).sample.sum().backward())
        if FAMILIES[name].recomputes:
            model.enable_gradient_checkpointing()
            row["checkpointing"] = peak(lambda: model.decode(latents).sample.sum().backward())
    weights = sum(parameter.nbytes for parameter in model.parameters()) / GIB
    return {"class": name, "frames": frames, "weights": weights, **row}


def main(arguments: Sequence[str] | None = None) -> list[dict[str, float | str]]:
    """Count, print the table, and write it where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", default="256x384", help="height x width of frames")
    parser.add_argument("--only", choices=VIDEO, help="one class")
    parser.add_argument("--json", type=Path, help="also write the rows")
    options = parser.parse_args(arguments)
    height, width = map(int, options.size.split("x"))
    versions = f"diffusers {import_diffusers().__version__}, torch {torch.__version__}"
    print(f"one clip of {options.size}, bfloat16, GiB beside the weights; {versions}\n")
    print(f"{'class':29} frames  weights  {'  '.join(f'{kind:>13}' for kind in KINDS)}")
    rows = []
    for name in [options.only] if options.only else VIDEO:
        rows.append(row := measure(name, (height, width)))
        figures = "  ".join(f"{row[kind]:13.1f}" for kind in KINDS)
        print(f"{name:29} {row['frames']:6}  {row['weights']:7.1f}  {figures}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    return rows


if __name__ == "__main__":
    main()
