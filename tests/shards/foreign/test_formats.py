"""The bytes of other readers' index files, as their own tools write them."""

import json

import numpy as np
import pytest

from shards.foreign.formats import dali_index, energon_index, webshart_index
from shards.foreign.samples import Member, Sample

# A tar of two clips: headers at 0, 1024, 2560 and 3584, 5120, 6144; the last caption is empty.
SAMPLES = [
    Sample(
        key="a-0",
        members=(
            Member(part="json", offset=512, size=2),
            Member(part="mp4", offset=1536, size=700),
            Member(part="txt", offset=3072, size=5),
        ),
    ),
    Sample(
        key="b-1",
        members=(
            Member(part="json", offset=4096, size=2),
            Member(part="mp4", offset=5120, size=512),
            Member(part="txt", offset=6144, size=0),
        ),
    ),
]
CLIPS = [
    {"caption": "A dog.", "height": 48, "width": 64},
    {"caption": "", "height": 48, "width": 64},
]


def test_dali_takes_a_line_of_extension_offset_size_and_name_for_each_sample():
    assert dali_index(SAMPLES) == (
        b"v1.2 2\n"
        b"json 512 2 a-0.json mp4 1536 700 a-0.mp4 txt 3072 5 a-0.txt\n"
        b"json 4096 2 b-1.json mp4 5120 512 b-1.mp4 txt 6144 0 b-1.txt\n"
    )


def test_energon_takes_the_start_of_each_sample_and_the_end_as_little_endian_numbers():
    data = energon_index(SAMPLES)
    assert data.hex() == "0000000000000000000e0000000000000018000000000000"
    assert np.frombuffer(data, "<u8").tolist() == [0, 3584, 6144]


def test_webshart_takes_every_file_with_the_size_and_caption_of_videos():
    found = json.loads(webshart_index(SAMPLES, CLIPS, "000000.tar", 10240))
    size = {"width": 64, "height": 48, "aspect": pytest.approx(4 / 3)}
    assert found == {
        "path": "000000.tar",
        "filesize": 10240,
        "includes_image_geometry": True,
        "files": {
            "a-0.json": {"offset": 512, "length": 2},
            "a-0.mp4": {"offset": 1536, "length": 700, "captions": "A dog.", **size},
            "a-0.txt": {"offset": 3072, "length": 5},
            "b-1.json": {"offset": 4096, "length": 2},
            "b-1.mp4": {"offset": 5120, "length": 512, **size},
            "b-1.txt": {"offset": 6144, "length": 0},
        },
    }


def test_webshart_is_told_of_no_size_where_there_are_no_videos():
    flow = [Sample(key="a-0", members=(Member(part="flow", offset=512, size=9),))]
    found = json.loads(webshart_index(flow, [{}], "000000.tar", 10240))
    assert found["files"] == {"a-0.flow": {"offset": 512, "length": 9}}
    assert found["includes_image_geometry"] is False
