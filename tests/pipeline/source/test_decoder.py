import errno
import os
from collections.abc import Callable
from fractions import Fraction
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from pipeline.source.content import SourceChanged, Stalled
from pipeline.source.decoder import Decoder, NoVideo

Pictures = Callable[..., list[np.ndarray]]


@pytest.fixture(scope="module")
def damaged(
    write_video: Callable[..., str], moving_pictures: Pictures, tmp_path_factory: object
) -> tuple[str, int]:
    """60 frames, a keyframe every 20, the packet of frame 25 overwritten."""
    options = {"x264-params": "keyint=20:min-keyint=20:scenecut=0:bframes=0"}
    path = write_video("damaged.mp4", moving_pictures(60), options=options)
    with av.open(path) as container:
        packet = list(container.demux(video=0))[25]
        start, size = packet.pos, packet.size
    assert start is not None
    data = bytearray(Path(path).read_bytes())
    data[start + 5 : start + size] = b"\xff" * (size - 5)
    Path(path).write_bytes(data)
    return path, 25


def test_damage_is_counted_and_lasts_until_the_next_keyframe(damaged: tuple[str, int]) -> None:
    path, lost = damaged
    with Decoder(path) as decoder:
        sound: dict[Fraction | int, bool] = {}
        for frame in decoder.frames():
            assert frame.pts is not None
            sound[frame.pts * 25 * decoder.time_base] = decoder.sound
        assert decoder.errors >= 1
    assert all(sound[i] for i in range(lost))
    assert not any(sound.get(i, False) for i in range(lost, 40))
    assert all(sound[i] for i in range(40, 60))


def test_whole_files_are_sound(write_video: Callable[..., str], moving_pictures: Pictures) -> None:
    with Decoder(write_video("sound.mp4", moving_pictures(12))) as decoder:
        assert all(decoder.sound for _ in decoder.frames())
        assert decoder.errors == 0


def test_reading_without_a_packet_stalls(damaged: tuple[str, int]) -> None:
    with pytest.raises(Stalled, match=r"nothing came out of .*damaged.mp4 in 0 s"):
        Decoder(damaged[0], timeout_s=0)


def test_the_time_counts_from_the_last_packet(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that goes on a second whenever it is looked at: any machine, any length."""
    ticks = count()
    clock = SimpleNamespace(monotonic=lambda: next(ticks))
    monkeypatch.setattr("pipeline.source.content.time", clock)
    with Decoder(str(data_dir / "videos/bikes.mp4"), timeout_s=60) as decoder:
        assert sum(1 for _ in decoder.frames()) == 250
    assert next(ticks) > 250


def test_a_file_that_ends_early_was_changed(data_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    path.write_bytes((data_dir / "videos/bikes.mp4").read_bytes())
    with Decoder(str(path)) as decoder:
        frames = decoder.frames()
        assert next(frames).width == 640
        os.truncate(path, 200_000)
        with pytest.raises(SourceChanged, match="became shorter"):
            list(frames)


def test_a_seek_that_cannot_read_is_no_damage(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Decoder(str(data_dir / "videos/flower.webm")) as decoder:
        monkeypatch.setattr(os, "pread", broken_read)
        with pytest.raises(OSError, match="Input/output error") as caught:  # noqa: PT012
            decoder.seek(2000)
            list(decoder.frames())
        assert not isinstance(caught.value, av.FFmpegError)
        assert decoder.errors == 0


def broken_read(file: int, size: int, at: int) -> bytes:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("left", [True, False])
def test_no_memory_is_damage_only_where_some_is_left(
    damaged: tuple[str, int], monkeypatch: pytest.MonkeyPatch, left: bool
) -> None:
    """FFmpeg says ENOMEM to a damaged file that asks for too much, and on a full machine."""
    monkeypatch.setattr("pipeline.source.decoder.mmap", memory(left))
    with Decoder(damaged[0]) as decoder:
        full = SimpleNamespace(decode=refuse_memory)
        monkeypatch.setattr(decoder, "_packets", lambda: iter([None]))
        monkeypatch.setattr(decoder, "stream", full)
        if left:
            assert next(decoder.frames(), None) is None
            assert decoder.errors == 1
        else:
            with pytest.raises(MemoryError, match="no memory left to decode"):
                next(decoder.frames())


def memory(left: bool) -> Callable[..., SimpleNamespace]:
    def mmap(*_: int) -> SimpleNamespace:
        if left:
            return SimpleNamespace(close=lambda: None)
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    return mmap


def refuse_memory(_: object) -> None:
    raise av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory")


def test_pictures_beyond_all_measure_are_refused(
    write_video: Callable[..., str], moving_pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video("large.mp4", moving_pictures(2))
    monkeypatch.setattr("pipeline.source.decoder.MAX_PIXELS", 96 * 128 - 1)
    with pytest.raises(NoVideo, match="128x96 are more than 12287 pixels") as caught:
        Decoder(path)
    assert caught.value.reason == "too_large"


@pytest.mark.parametrize("name", ["a:b.mp4", "-dash .mp4", "Ünïcode 視頻.mp4", "%03d [x] ?.mp4"])
def test_names_are_never_taken_for_something_else(
    write_video: Callable[..., str],
    moving_pictures: Pictures,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    path = write_video("plain.mp4", moving_pictures(2))
    strange = Path(path).with_name(name)
    strange.write_bytes(Path(path).read_bytes())
    monkeypatch.chdir(strange.parent)
    for spelling in (str(strange), name):
        with Decoder(spelling) as decoder:
            assert sum(1 for _ in decoder.frames()) == 2


def test_cover_pictures_are_no_video(data_dir: Path) -> None:
    with pytest.raises(NoVideo, match="only a cover picture") as caught:
        Decoder(str(data_dir / "bad/derived_mp3_named.mp4"))
    assert caught.value.reason == "no_video_stream"


def test_the_first_of_several_video_streams_is_taken(data_dir: Path) -> None:
    with Decoder(str(data_dir / "videos/nasa_13013.mp4")) as decoder:
        frames = [frame.width for frame in decoder.frames()]
    assert frames == [320] * 325


def test_frames_that_the_header_counts(data_dir: Path) -> None:
    """All frames come out, those that the decoder still holds at the end of the file included."""
    for name, frames in [("bikes.mp4", 250), ("test.ogv", 443), ("sample_av1.mp4", 30)]:
        with Decoder(str(data_dir / "videos" / name)) as decoder:
            assert sum(1 for _ in decoder.frames()) == frames


PLAYLISTS = {
    "concat.mp4": "ffconcat version 1.0\nfile plain.mp4\n",
    "hls.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nplain.mp4\n#EXT-X-ENDLIST\n",
    "sdp.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_a_playlist_opens_nothing(
    write_video: Callable[..., str], moving_pictures: Pictures, name: str
) -> None:
    path = Path(write_video("plain.mp4", moving_pictures(2)))
    playlist = path.with_name(name)
    playlist.write_text(PLAYLISTS[name])
    with pytest.raises(NoVideo, match="no container of videos but a playlist") as caught:
        Decoder(str(playlist))
    assert caught.value.reason == "container"
