"""Boxes are the largest of their shape, drawn by position, and never made larger."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards import UsageError
from trainer.config import Bucket, StreamConfig
from trainer.spatial.framing import Framing, check_motion, largest_box

sides = st.integers(16, 600)


def framing(stored: tuple[int, int] = (48, 64), size: str = "", **config) -> Framing:
    settings = StreamConfig(size=size, **config)
    return Framing(stored=stored, bucket=settings.shapes[0], config=settings)


def test_unless_asked_for_anything_pictures_are_shown_as_stored() -> None:
    assert framing().draw(0, 5) is None
    assert framing(size="64x48").draw(0, 5) is None


@given(sides, sides, st.integers(8, 200), st.integers(8, 200))
def test_a_box_is_as_large_as_its_shape_allows(h: int, w: int, height: int, width: int) -> None:
    if height > h or width > w:
        return
    box = largest_box((h, w), (height, width))
    assert box[0] == h or box[1] == w
    assert height <= box[0] <= h
    assert width <= box[1] <= w
    # The other side is that of the exact shape, to the pixel.
    assert abs(box[0] - box[1] * height / width) <= max(1, height / width) * 0.51


def test_the_centre_is_cut_or_a_place_by_position() -> None:
    middle = framing(size="32x32").draw(0, 5)
    assert middle is not None
    assert (middle.top, middle.left, middle.height, middle.width) == (0, 8, 48, 48)
    assert middle.resizes
    cut = framing(size="32x32", resize=False).draw(0, 5)
    assert cut is not None
    assert (cut.top, cut.left, cut.height, cut.width) == (8, 16, 32, 32)
    assert not cut.resizes
    drawing = framing(size="60x44", resize=False, crop="random")
    drawn = [drawing.draw(7, position) for position in range(500)]
    assert drawn == [drawing.draw(7, position) for position in range(500)]
    assert drawn != [drawing.draw(8, position) for position in range(500)]
    places = Counter((one.top, one.left) for one in drawn if one)
    assert {*places} == {(top, left) for top in range(5) for left in range(5)}


def test_a_share_is_mirrored_by_position() -> None:
    half = framing(flip=0.5)
    drawn = [half.draw(7, position) for position in range(2000)]
    mirrored = [one for one in drawn if one is not None]
    assert abs(len(mirrored) - 1000) < 5 * 500**0.5
    assert {(one.flip, one.size, one.resizes) for one in mirrored} == {(True, (48, 64), False)}
    assert all(framing(flip=1.0).draw(7, position) for position in range(20))


def test_nothing_is_made_larger() -> None:
    with pytest.raises(UsageError, match=r"clips of 64x48 are smaller than stream.size 66x48"):
        framing(size="66x48")
    with pytest.raises(UsageError, match="smaller"):
        Framing(stored=(48, 64), bucket=Bucket(4, (50, 20)), config=StreamConfig())


def test_flow_loss_refuses_frames_that_are_resized_unless_that_is_accepted_by_name() -> None:
    whole, cut = framing(), framing(size="32x32", resize=False)
    check_motion([whole, cut], accepted=False)
    resized = framing(size="32x24")
    check_motion([resized], accepted=True)
    with pytest.raises(UsageError, match=r"64x48 are shown at 32x24.*accept-resize"):
        check_motion([whole, resized], accepted=False)
