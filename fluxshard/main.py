"""The command line: from raw videos to a video diffusion model in training.

Each subcommand is a file of `fluxshard.commands`, imported when it is called: the overview loads
nothing, and the help of a command what its options need.
"""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from threading import Timer, get_ident
from types import FrameType
from typing import Any

# The first line of each command's docstring; a test holds them equal.
COMMANDS = {
    "scan": "Find the clips of videos, as a table to filter, sort or edit before a build.",
    "build": "Build a dataset of clips and flow from videos.",
    "flow": "Add a flow layer to a dataset, beside those that it has; nothing else of it changes.",
    "merge": "Make one dataset of several; it refers to their shards, no data is copied.",
    "cache": "Look after the catalog of computed flow; the flow itself stays in its datasets.",
    "verify": "Check every byte of a dataset against its index.",
    "info": "Say what a dataset holds: clips, seconds of video, shards, bytes, layers, rejects.",
    "rejects": "List what a dataset lacks: inputs and clips refused, why, and what is tried again.",
    "index": "Write the index files by which DALI, Energon or webshart read a dataset's tars.",
    "inspect": "Draw one clip: frames, flow in the Middlebury colour wheel, occlusion.",
    "stream": "Stream a dataset as training would: how fast that is, and where the time goes.",
    "train": "Train a video diffusion model on a dataset, or continue a run from its checkpoint.",
    "sample": "Sample clips from a trained model, as mp4 files, and as a grid in an mp4 and a GIF.",
    "eval": "Judge a training run by clips kept from it: loss by noise level, and motion.",
    "demo": "Make videos with known motion, build shards, train, sample, write a report.",
}
# `inspect` is one of the standard library's.
_ROOMS = {
    "info": "views.info",
    "rejects": "views.rejects",
    "inspect": "views.draw",
    "sample": "runs.sample",
    "eval": "runs.eval",
}
_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
_AGAIN_S = 0.05  # until an interrupt that has to wait is looked at again


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Returns:
        0 for success, 1 for failure, 2 for wrong usage, 130 after Ctrl-C. An exception that is
        none of these is a fault of ours or of the machine, and passes.
    """
    name, *arguments = (sys.argv[1:] if argv is None else argv) or [""]
    if name in ("-h", "--help"):
        print(overview())
        return 0
    if name == "--version":
        from importlib.metadata import version

        print(f"fluxshard {version('fluxshard')}")
        return 0
    if name not in COMMANDS:
        problem = f"error: {name!a} is no command of fluxshard\n\n" if name else ""
        print(f"{problem}{overview()}", file=sys.stderr)
        return 2
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: decoders need the cores
    try:
        with one_interrupt(last=argv is None):
            return answer(name, arguments)
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return _INTERRUPTED


def overview() -> str:
    """What there is, for people to read."""
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            "usage: fluxshard [--help] [--version] COMMAND ...",
            "",
            "From raw videos to a video diffusion model in training.",
            "",
            *(f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items()),
            "",
            "`fluxshard COMMAND --help` explains the options of each.",
        ]
    )


def answer(name: str, arguments: Sequence[str]) -> int:
    """Call the command, and say what is wrong if one sentence can."""
    try:
        return run(name, arguments)
    except Exception as error:
        code = exit_code(error)
        if code is None:
            raise
        from fluxshard.terminal import say

        say(str(error), "error", "red")
        return code


def run(name: str, arguments: Sequence[str]) -> int:
    """Call the command with its arguments as written; returns its exit code."""
    from fluxshard.arguments import parse

    if name == "train":
        from fluxshard.commands.train import parse_train

        return parse_train(arguments)
    if name == "build":
        from fluxshard.commands.build import parse_build

        return parse_build(arguments)
    return parse(command_of(name), name, arguments)


def command_of(name: str) -> Any:
    """The function of a subcommand."""
    module = _ROOMS.get(name, name)
    return getattr(import_module(f"fluxshard.commands.{module}"), name)


def exit_code(error: Exception) -> int | None:
    """Of an error that one sentence explains: wrong usage, damage, a server or cluster gone"""
    from pipeline.workers import ClusterLost  # the help does without all these
    from shards import DamagedDataset, Exhausted, StorageFailure, UsageError

    if isinstance(error, UsageError):
        return 2
    ours = DamagedDataset | StorageFailure | Exhausted | ClusterLost | FloatingPointError
    return 1 if isinstance(error, ours) else None


@contextmanager
def one_interrupt(*, last: bool) -> Iterator[None]:
    """The first Ctrl-C raises KeyboardInterrupt, later ones do not cut the cleaning up short.

    In the middle of an import it waits: libraries that load others swallow it, and go on with
    half a module.

    Args:
        last: Python ends after this, where a library's cleaning up would answer with a traceback.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        if importing(frame):
            again = Timer(_AGAIN_S, signal.pthread_kill, (get_ident(), number))
            again.daemon = True
            again.start()
            return
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # it is ignored, or somebody else answers it
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN if last else signal.default_int_handler)


def importing(frame: FrameType | None) -> bool:
    """Whether a frame belongs to an import that has begun within `main`."""
    while frame is not None and frame.f_code is not main.__code__:
        if frame.f_globals.get("__name__") == "importlib._bootstrap":
            return True
        frame = frame.f_back
    return False


if __name__ == "__main__":
    sys.exit(main())
