from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.source.decoder import Decoder, DecodeTimeout, NoVideo

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


def test_deadline(damaged: tuple[str, int]) -> None:
    with Decoder(damaged[0]) as decoder:
        decoder.allow(-1)
        with pytest.raises(DecodeTimeout):
            next(decoder.frames())
        decoder.allow(60)
        assert next(decoder.frames()) is not None
    with pytest.raises(DecodeTimeout):
        Decoder(damaged[0], timeout_s=0)


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
