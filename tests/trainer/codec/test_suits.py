from dataclasses import replace
from typing import Any

import pytest

from shards import UsageError
from trainer.codec.codec import FrameRule
from trainer.codec.suits import check_codec
from trainer.config import (
    FluxFlowConfig,
    ProcessConfig,
    PyramidConfig,
    SmoothnessConfig,
    StreamConfig,
    TrainConfig,
)

WAN = FrameRule(factor=4, step=4)
COGVIDEOX = FrameRule(factor=4, step=8, prefix=False, exact_first=False)
CONFIG = TrainConfig(stream=StreamConfig(frames=33))
FLAT = PyramidConfig(enabled=False)


def test_settings_that_suit_pass() -> None:
    for rule in (WAN, COGVIDEOX, FrameRule()):
        check_codec(rule, CONFIG)
    check_codec(WAN, replace(CONFIG, process=ProcessConfig(given=1)))
    smooth = SmoothnessConfig(weight=1.0)
    check_codec(FrameRule(), replace(CONFIG, smoothness=smooth))
    check_codec(WAN, replace(CONFIG, smoothness=smooth, fluxflow=FluxFlowConfig(mode="off")))
    check_codec(FrameRule(), replace(CONFIG, process=ProcessConfig(given=4), pyramid=FLAT))


@pytest.mark.parametrize(
    ("rule", "change", "message"),
    [
        (WAN, {"stream": StreamConfig(frames=16)}, r"stream.frames 16 makes clips of 16"),
        (
            WAN,
            {"process": ProcessConfig(given=2), "pyramid": FLAT},
            r"process.given 2: .* frame 0 alone has one; set it to 1",
        ),
        (
            COGVIDEOX,
            {"process": ProcessConfig(given=1)},
            r"process.given 1: .* no frame of this codec has one; set it to 0",
        ),
        (
            WAN,
            {"smoothness": SmoothnessConfig(weight=0.5)},
            r"smoothness.weight 0.5 .* fluxflow.mode frame shuffles frames that share latents",
        ),
    ],
)
def test_what_latents_of_several_frames_cannot_serve_is_refused(
    rule: FrameRule, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        check_codec(rule, replace(CONFIG, **change))
