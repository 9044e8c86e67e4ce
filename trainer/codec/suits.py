"""Whether a run's settings suit its codec: what can be told as soon as the codec is known."""

from trainer.codec.codec import FrameRule, check_stages
from trainer.config import TrainConfig
from trainer.config.rules import require


def check_codec(rule: FrameRule, config: TrainConfig) -> None:
    """Refuse what latents that hold several frames cannot serve.

    Raises:
        UsageError: a stage has no whole latents, given slots have no latents of their own, or
            shuffled slots would have to be put in order.
    """
    for bucket in config.stream.shapes:
        check_stages(rule, bucket.frames, config.pyramid.strides)
    if rule.factor == 1:
        return
    given, own = config.process.given, int(rule.exact_first)
    require(
        given <= own,
        f"process.given {given}: so many first frames have no latents of their own, as "
        f"{'frame 0 alone has one' if own else 'no frame of this codec has one'}; set it to {own}",
    )
    require(
        config.smoothness.weight == 0 or config.fluxflow.mode == "off",
        f"smoothness.weight {config.smoothness.weight:g} compares latents in the order of their "
        f"frames, and fluxflow.mode {config.fluxflow.mode} shuffles frames that share latents: set "
        "one of them to 0 or off, or use a codec of single frames",
    )
