from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from shards import UsageError
from trainer.config import ConditioningConfig
from trainer.libraries import import_transformers
from trainer.model.text import Conditioner, TextEncoder, class_number, embedding, told

WORDS = ("<pad>", "</s>", "<unk>", "a", "red", "blue", "ball", "rolls")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny text encoders of random weights: `t5`, `clip`, and `pipeline`, which holds the first."""
    transformers, folder = import_transformers(), tmp_path_factory.mktemp("encoders")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    torch.manual_seed(0)
    t5 = transformers.T5EncoderModel(
        transformers.T5Config(
            vocab_size=8, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, dropout_rate=0.1
        )
    )
    tiny = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    text = tiny | {"vocab_size": 8, "hidden_size": 12, "max_position_embeddings": 5}
    text |= {"eos_token_id": 1, "bos_token_id": 3, "pad_token_id": 0}
    vision = tiny | {"hidden_size": 8, "image_size": 32}
    clip = transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=vision))
    for name, model in {"t5": t5, "clip": clip, "pipeline/text_encoder": t5}.items():
        model.save_pretrained(folder / name)
    for name in ("t5", "clip", "pipeline/tokenizer"):
        tokenizer.save_pretrained(folder / name)
    return folder


@pytest.fixture
def encoder(folder: Path) -> Callable[..., TextEncoder]:
    def opened(name: str = "t5", **settings: Any) -> TextEncoder:
        config = ConditioningConfig(text=str(folder / name), **settings)
        return TextEncoder(config, torch.device("cpu"))

    return opened


@pytest.mark.parametrize(("name", "width"), [("t5", 16), ("clip", 12), ("pipeline", 16)])
def test_any_text_encoder_reads_captions(encoder, name: str, width: int) -> None:
    states = encoder(name)("a red ball")
    assert encoder(name).width == width
    assert states.shape == (4, width)  # three words and the end
    assert not states.requires_grad
    assert not torch.allclose(states[:3], encoder(name)("a blue ball")[:3])


def test_long_captions_are_cut_to_the_room_and_to_what_the_encoder_takes(encoder) -> None:
    assert len(encoder(length=3)("a red ball rolls")) == 3
    assert len(encoder("clip")("a red ball rolls a red ball")) == 5
    assert len(encoder("clip", length=3)("a red ball rolls a red ball")) == 3


def test_a_caption_has_the_states_of_the_library(encoder, folder: Path) -> None:
    transformers = import_transformers()
    model = transformers.T5EncoderModel.from_pretrained(folder / "t5").eval()
    ids = torch.tensor([[3, 4, 6, 1]])
    with torch.no_grad():
        expected = model(input_ids=ids).last_hidden_state[0]
    torch.testing.assert_close(encoder()("a red ball"), expected)


def test_states_seen_before_are_kept_as_far_as_there_is_room(encoder) -> None:
    one, calls = encoder(cache_mib=1), []
    one._model.register_forward_hook(lambda *_: calls.append(1))
    first = one("a ball")
    assert one("a ball") is first
    assert len(calls) == 1
    one._room = 3 * 16 * 4 + 4 * 16 * 4  # bytes beyond those of the first: a short and a long one
    for caption in ("blue ball", "a blue ball", "a ball"):
        one(caption)
    assert len(calls) == 3  # the latest use of the first was the last
    one("a red ball")  # takes the place of the one that was not used for the longest time
    one("a ball")
    assert len(calls) == 4
    one("blue ball")
    assert len(calls) == 5
    none = encoder(cache_mib=0)
    assert torch.equal(none("a ball"), first)
    assert not none._cache


def test_an_encoder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"conditioning.text .*nothing.* no text encoder"):
        TextEncoder(ConditioningConfig(text=str(tmp_path / "nothing")), torch.device("cpu"))


def test_missing_weights_are_not_made_up(encoder, folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for file in (folder / "t5").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    lost = next(name for name in weights if "SelfAttention.q" in name)
    kept = {name: weight for name, weight in weights.items() if name != lost}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"lacks 1 weights of its class, as .*SelfAttention.q"):
        TextEncoder(ConditioningConfig(text=str(tmp_path)), torch.device("cpu"))


def test_a_context_is_filled_up_to_one_length(folder: Path) -> None:
    conditioner: Any = Conditioner(ConditioningConfig(text=str(folder / "t5"), length=6))
    assert (conditioner.width, conditioner.classes, conditioner.columns) == (16, 0, ())
    context = conditioner(["a red ball", None, "a ball"], {}, [True, True, False])
    assert context.states.shape == (3, 6, 16)
    assert context.mask.sum(1).tolist() == [4, 1, 1]  # an empty text is its end alone
    assert context.states[~context.mask].abs().sum() == 0
    assert torch.equal(context.states[1], context.states[2])
    assert context.labels is None


def test_a_clip_has_the_states_it_has_alone(folder: Path) -> None:
    """Which clips are in its batch, and which were seen before, plays no part, to the last bit."""
    config = ConditioningConfig(text=str(folder / "t5"))
    captions = ["a red ball rolls", "blue", "a ball"]

    def states_of(captions: list[str]) -> torch.Tensor:
        conditioner: Any = Conditioner(config)
        return conditioner(captions, {}, [True] * len(captions)).states

    together = states_of(captions)
    for row, caption in zip(together, captions, strict=True):
        assert torch.equal(states_of([caption])[0], row)


def test_embeddings_and_classes_come_from_columns() -> None:
    config = ConditioningConfig(
        embeddings="emb", width=2, length=3, labels="kind", classes=5, dropout=0.5
    )
    conditioner: Any = Conditioner(config)
    assert (conditioner.width, conditioner.classes) == (2, 5)
    assert conditioner.columns == ("emb", "kind")
    columns = {"emb": [[1.0, 2.0], [1, 2, 3, 4, 5, 6], [7.0, 8.0], None], "kind": [4, 0, 3, None]}
    context = conditioner([None] * 4, columns, [True, True, False, True])
    assert context.mask.tolist() == [[1, 0, 0], [1, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert context.states[1].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert context.states[2:].abs().sum() == 0
    assert context.labels.tolist() == [4, 0, -1, -1]


def test_nothing_configured_tells_nothing() -> None:
    conditioner: Any = Conditioner(ConditioningConfig())
    assert conditioner(["a ball"], {}, [True]) is None


@pytest.mark.parametrize("value", [[1.0, 2.0, 3.0], [0.0] * 8, [float("nan"), 0.0]], ids=str)
def test_wrong_embeddings_are_refused(value: list[float]) -> None:
    config = ConditioningConfig(embeddings="emb", width=2, length=3)
    with pytest.raises(UsageError, match=r"column emb.*width 2"):
        embedding(value, config)


@pytest.mark.parametrize("value", [-1, 5, 2.5, "cat"])
def test_wrong_classes_are_refused(value: Any) -> None:
    with pytest.raises(UsageError, match=r"column kind has .* 0 to 4"):
        class_number(value, ConditioningConfig(labels="kind", classes=5))


def test_a_share_of_clips_is_told_nothing_whatever_its_batch() -> None:
    heard = told(7, range(4000), 0.1)
    assert heard.count(False) == pytest.approx(400, abs=80)  # 4 deviations
    assert told(7, range(1000, 1010), 0.1) == heard[1000:1010]
    assert told(8, range(4000), 0.1) != heard
    assert all(told(7, range(100), 0.0))
    assert not any(told(7, range(100), 1.0))
