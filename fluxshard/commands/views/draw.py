"""`fluxshard inspect`, under a name that the standard library has not taken."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from fluxshard.arguments import DatasetPath, check_writable


def inspect(
    dataset: DatasetPath,
    key: Annotated[Positional[str], arg(metavar="KEY")] = "",
    /,
    *,
    out: str,
    layer: str = "",
) -> int:
    """Draw one clip: frames, flow in the Middlebury colour wheel, occlusion.

    Args:
        dataset: folder or URL of the dataset.
        key: of the clip; by default the first.
        out: the picture to write, a .png file.
        layer: flow layer, by estimator or digest; by default the one that was built first.
    """
    from fluxshard.report.clip_figure import inspect_figure
    from fluxshard.terminal import say
    from shards import UsageError

    if Path(out).suffix.lower() != ".png":
        raise UsageError(f"{out}: the picture is a PNG; give a name that ends in .png")
    figure = inspect_figure(dataset, key or None, layer or None)
    check_writable(str(Path(out).parent))
    figure.savefig(out)
    say(f"wrote {out}")
    return 0
