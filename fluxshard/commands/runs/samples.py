"""Samples of a model while it trains."""

import os
from pathlib import Path

from fluxshard.commands.runs.wishes import Wish, sample_clips
from shards import UsageError
from trainer.config import TrainConfig
from trainer.run.loop import Watcher
from trainer.run.restore import Trained, read_run


def sampling(out: str, config: TrainConfig, count: int, prompts: str) -> Watcher | None:
    """What writes samples/CLIPS.mp4 into the folder of a run; None where none are wanted.

    All ranks sample, as the model may be spread over them, and the first one writes.

    Args:
        count: of clips; 0: as many as there are prompts.
        prompts: file with a text on each line, or "".

    Raises:
        UsageError: there is no such file, it is empty, or the model learns from no captions.
    """
    texts = read_prompts(prompts) if prompts else ()
    if texts and not config.conditioning.text:
        raise UsageError("the model learns from no captions (conditioning.text): drop --prompts")
    if not (count or texts):
        return None
    wish = Wish(count=count or len(texts), given={}, prompts=texts)

    def write(trained: Trained, clips: int) -> None:
        from fluxshard.report.grid import grid_video, played_at

        found = sample_clips(config, read_run(out).size, trained, wish)
        if os.environ.get("RANK", "0") == "0":
            folder = Path(out) / "samples"
            folder.mkdir(exist_ok=True)
            video = grid_video(list(found.numpy()), played_at(config.stream.fps))
            (folder / f"{clips:012d}.mp4").write_bytes(video)

    return write


def read_prompts(file: str) -> tuple[str, ...]:
    """The lines of a file that are not empty."""
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"--prompts {file}: {error.strerror}") from error
    texts = tuple(line.strip() for line in lines if line.strip())
    if not texts:
        raise UsageError(f"--prompts {file} holds no text: write one on each line")
    return texts
