from dataclasses import replace

import pytest

from shards import UsageError
from trainer.config import FlowLossConfig, StreamConfig
from trainer.spatial.framing import Framing
from trainer.terms.layers import check_layer, check_sizes, live_estimator

CONFIG = FlowLossConfig(weight=1.0)


def test_the_layers_own_estimator_is_the_default(made) -> None:
    assert live_estimator(made.spec, CONFIG).name == "variational"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"estimator": "dis"}, r"'variational'.*'dis'.*--estimator variational.*accept-layer dis"),
        ({"revision": "0"}, r"revision .*revision 0"),
        ({"weights_sha256": "a" * 64}, r"weights None.*weights aaaa"),
    ],
)
def test_another_estimator_is_refused_unless_named(made, change: dict, message: str) -> None:
    spec = replace(made.spec, **change)
    config = replace(CONFIG, estimator="variational")
    with pytest.raises(UsageError, match=message):
        live_estimator(spec, config)
    accepting = replace(config, accept_layer=spec.estimator)
    assert live_estimator(spec, accepting).name == "variational"


def test_imported_flow_is_trained_against_by_name_and_where_it_is_visible(made) -> None:
    spec = replace(made.spec, estimator="imported:sea", params={"files": "x"}, occlusion="native")
    named = replace(CONFIG, estimator="variational", accept_layer="imported:sea")
    with pytest.raises(UsageError) as caught:
        live_estimator(spec, CONFIG)
    for option in ("estimator variational", "accept-layer imported:sea", "occluded-weight 0"):
        assert f"--flow-loss.{option}" in str(caught.value)
    with pytest.raises(UsageError, match=r"Say --flow-loss.occluded-weight 0$"):
        live_estimator(spec, named)
    assert live_estimator(spec, replace(named, occluded_weight=0)).name == "variational"


def test_an_estimator_that_is_not_there_is_a_wrong_choice(made) -> None:
    with pytest.raises(UsageError, match="unknown flow estimator 'nothing'"):
        live_estimator(made.spec, replace(CONFIG, estimator="nothing"))


def test_a_layer_must_have_the_clips_geometry_and_the_levels(made) -> None:
    check_layer(made.spec, CONFIG, (48, 64), 4)
    with pytest.raises(UsageError, match=r"48x64 pixels, the clips are 64x64"):
        check_layer(made.spec, CONFIG, (64, 64), 4)
    with pytest.raises(UsageError, match=r"levels \(2, 4\)"):
        check_layer(replace(made.spec, levels=(2, 4)), CONFIG, (48, 64), 4)
    forward_only = replace(made.spec, directions=("forward",))
    check_layer(forward_only, CONFIG, (48, 64), 4)
    with pytest.raises(UsageError, match=r"'composed' compares .*--directions forward,backward"):
        check_layer(forward_only, replace(CONFIG, order="composed"), (48, 64), 4)


def test_frames_may_be_too_small_for_the_live_estimator(made) -> None:
    config = StreamConfig(buckets=("64x48x8", "24x24x8"))
    framings = [Framing(stored=(48, 64), bucket=one, config=config) for one in config.shapes]
    estimator = live_estimator(made.spec, CONFIG)
    check_sizes(estimator, framings[:1])
    with pytest.raises(UsageError, match=r"stream\.size 24x24x8: frames of 24x24 are too small"):
        check_sizes(estimator, framings)
