"""Small encoded videos for the tests of the pipeline."""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

WriteVideo = Callable[..., str]


@pytest.fixture(scope="session")
def write_video(tmp_path_factory: pytest.TempPathFactory) -> WriteVideo:
    """`write_video(name, pictures, ...) -> path`: encodes uint8 [h, w, 3] RGB pictures.

    `times` are presentation times in units of `time_base`.
    """
    folder = tmp_path_factory.mktemp("videos")

    def write(
        name: str,
        pictures: Sequence[np.ndarray],
        *,
        encoder: str = "libx264",
        pixel_format: str = "yuv420p",
        times: Sequence[int] | None = None,
        time_base: Fraction = Fraction(1, 25),
        options: dict[str, str] | None = None,
        muxing: dict[str, str] | None = None,
        display_matrix: Sequence[int] | None = None,
        sample_aspect: Fraction | None = None,
    ) -> str:
        path = str(folder / name)
        with av.open(path, "w", options=muxing or {}) as container:
            stream = container.add_stream(encoder, rate=25, options=options or {})
            assert isinstance(stream, av.VideoStream)
            stream.height, stream.width = pictures[0].shape[:2]
            stream.pix_fmt = pixel_format
            stream.codec_context.time_base = time_base
            stream.thread_count = 1
            if sample_aspect is not None:
                stream.codec_context.sample_aspect_ratio = sample_aspect
            stream.set_display_matrix(display_matrix)
            for i, picture in enumerate(pictures):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.time_base = time_base
                frame.pts = i if times is None else times[i]
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return write


@pytest.fixture(scope="session")
def moving_pictures() -> Callable[..., list[np.ndarray]]:
    """`moving_pictures(n, height, width, seed)`: a texture that moves; all pictures differ."""

    def make(n: int, height: int = 96, width: int = 128, seed: int = 0) -> list[np.ndarray]:
        coarse = np.random.default_rng(seed).integers(0, 256, (9, 12, 3)).astype(np.float32)
        texture = np.kron(coarse, np.ones((32, 32, 1), np.float32))
        texture = np.mean([np.roll(texture, s, 0) for s in range(16)], 0)
        texture = np.mean([np.roll(texture, s, 1) for s in range(16)], 0)
        texture = np.tile(texture.astype(np.uint8), (4, 4, 1))
        return [texture[i : i + height, 2 * i : 2 * i + width].copy() for i in range(n)]

    return make


@pytest.fixture
def fail_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., AbstractContextManager[list[int]]]:
    """`with fail_reads(after=n) as reads`: n reads of videos succeed, all others are EIO.

    Nothing is known from before; `reads` are the places in the file, as they are read.
    """
    from pipeline.source.content import _sha256

    @contextmanager
    def fail(after: int | None = None) -> Iterator[list[int]]:
        _sha256.cache_clear()
        reads: list[int] = []
        read = os.pread

        def pread(file: int, size: int, at: int) -> bytes:
            if len(reads) == after:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            reads.append(at)
            return read(file, size, at)

        with monkeypatch.context() as patch:
            patch.setattr(os, "pread", pread)
            yield reads

    return fail


@pytest.fixture
def path_of(data_dir: Path) -> Callable[[str], str]:
    """`path_of("videos/bear.mp4")`: the path of a real test file."""
    return lambda name: str(data_dir / name)
