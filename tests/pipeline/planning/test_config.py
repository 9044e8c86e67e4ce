"""The configuration of a build refuses what cannot be, before anything is decoded."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from pipeline.planning.config import BuildConfig, flow_specs
from shards import UsageError

CONFIG = BuildConfig(size=(64, 96), frames=9, fps=Fraction(12), levels=(1, 2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": (0, 0)}, "size 0x0: both sides must be even and ≥ 16"),
        ({"size": (64, 97)}, "size 64x97"),
        ({"frames": 1}, "frames is 1"),
        ({"fps": Fraction(0)}, "fps is 0"),
        ({"fps": Fraction(-1, 2)}, "fps is -1/2"),
        ({"max_repeated": -0.1}, "max_repeated is -0.1"),
        ({"max_repeated": 1.5}, "max_repeated is 1.5"),
        ({"max_repeated": float("nan")}, "max_repeated is nan"),
        ({"crf": -1}, "crf is -1"),
        ({"crf": 52}, "crf is 52; x264 takes 0"),
        ({"clips_per_shard": 0}, "clips_per_shard is 0"),
        ({"levels": ()}, "levels ()"),
        ({"levels": (1, 9)}, "below the 9 frames"),
        ({"levels": (0,)}, "levels (0,)"),
        ({"levels": (2, 1, 2)}, "one is named twice"),
        ({"max_error_px": 0.0}, "max_error_px is 0.0"),
        ({"max_error_px": float("inf")}, "max_error_px is inf"),
        ({"occlusion": "[/x]"}, "unknown occlusion criterion '[/x]'"),
    ],
)
def test_a_value_outside_its_rule_is_wrong_usage(changes: dict[str, Any], message: str):
    with pytest.raises(UsageError) as error:
        replace(CONFIG, **changes)
    assert message in str(error.value)


def test_the_limits_themselves_are_allowed():
    for crf in (0, 51):
        assert replace(CONFIG, crf=crf).crf == crf
    for share in (0.0, 1.0):
        assert replace(CONFIG, max_repeated=share).clip_rule.max_repeated == share


def test_without_flow_its_settings_do_not_matter():
    plain = replace(CONFIG, flow="none", levels=(), occlusion="?", max_error_px=0.0)
    assert plain.estimators == ()
    assert flow_specs(plain) == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flow": "magic"}, "unknown flow estimator 'magic'"),
        ({"flow": "dis,"}, "unknown flow estimator ''"),
        ({"flow": "ptlflow:no_such_model"}, "ptlflow"),
        ({"flow": "dis", "size": (16, 16)}, "16x16 are too small for dis"),
    ],
)
def test_an_estimator_that_cannot_work_is_wrong_usage(changes: dict[str, Any], message: str):
    with pytest.raises(UsageError) as error:
        flow_specs(replace(CONFIG, **changes))
    assert message in str(error.value)


def test_what_is_stored_gives_the_same_configuration():
    assert BuildConfig.from_json(CONFIG.to_json()) == CONFIG
    assert CONFIG.differences(CONFIG.to_json()) == []
    (line,) = CONFIG.differences(replace(CONFIG, crf=23).to_json())
    assert line == "crf: dataset has 23, this build asks for 18"


def test_a_dataset_is_not_continued_by_another_version_of_the_shot_detector():
    stored = CONFIG.to_json() | {"shots_by": "adaptive 1"}
    (line,) = CONFIG.differences(stored)
    assert line == "shots_by: dataset has adaptive 1, this build asks for adaptive 2"
    del stored["shots_by"]  # as before there was another version
    assert BuildConfig.from_json(stored) == CONFIG
    assert len(CONFIG.differences(stored)) == 1


def test_specs_are_of_the_configuration():
    dis, variational = flow_specs(replace(CONFIG, flow="dis,variational"), "clip")
    assert (dis.estimator, variational.estimator) == ("dis", "variational")
    for spec in (dis, variational):
        assert (spec.size, spec.levels, spec.frames_from) == ((64, 96), (1, 2), "clip")
        assert (spec.occlusion, spec.max_error_px) == (CONFIG.occlusion, CONFIG.max_error_px)
