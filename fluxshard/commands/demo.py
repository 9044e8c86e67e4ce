"""`fluxshard demo`."""

from pathlib import Path


def demo(out: str = "demo") -> int:
    """Make videos with known motion, build shards, train, sample, write a report.

    Args:
        out: folder for all of it; report.html in it is the page to open.
    """
    from fluxshard.arguments import Resources, check_writable
    from fluxshard.commands.build import build
    from fluxshard.commands.runs.sample import sample
    from fluxshard.commands.train import train
    from fluxshard.demo.truth import true_flow
    from fluxshard.demo.videos import DEMO_CONFIG, make_videos
    from fluxshard.report.page import write_report
    from fluxshard.terminal import say
    from shards import Stopwatch
    from trainer.presets import PRESETS

    folder, watch = Path(out), Stopwatch()
    data, run = str(folder / "dataset"), folder / "run"
    check_writable(out)
    with watch("make videos"):
        sources = make_videos(folder / "videos")
    with watch("build"):
        code = build((*sources, data), DEMO_CONFIG, Resources(no_flow_cache=True))
    with watch("train"):
        code = code or train(data=data, out=str(run), config=PRESETS["tiny"]())
    with watch("sample"):
        code = code or sample(str(run), out=str(folder / "samples"), count=4, steps=12)
    if code:
        return code
    with watch("report"):
        scores = write_report(
            folder / "report.html",
            data,
            run,
            true_flow,
            seconds=watch.seconds,
            samples=folder / "samples" / "grid.mp4",
        )
    for layer, score in scores.items():
        errors = ", ".join(f"{n} apart {s.end_point_error:.3f}" for n, s in score.total.items())
        say(f"{layer}: mean end-point error against the truth, px, frames {errors}")
    say(f"open {folder / 'report.html'}")
    return 0
