"""What a clip's caption, embeddings or class tell the network."""

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from shards import UsageError, chance
from trainer.config import ConditioningConfig
from trainer.libraries import import_transformers
from trainer.model.context import Context


class Conditioner:
    """Conditions of clips, from their captions and from columns of the index.

    Attributes:
        columns: of the index that are needed.
        width: channels of a state of text; 0: there is no text.
        classes: how many there are; 0: there are no classes.

    Raises:
        UsageError: there is no such text encoder.
    """

    def __init__(self, config: ConditioningConfig, device: torch.device | str = "cpu") -> None:
        self._config, self._device = config, torch.device(device)
        self._encoder = TextEncoder(config, self._device) if config.text else None
        self.columns = tuple(name for name in (config.embeddings, config.labels) if name)
        self.width = config.width if self._encoder is None else self._encoder.width
        self.classes = config.classes

    def __call__(
        self,
        captions: Sequence[str | None],
        columns: Mapping[str, Sequence[Any]],
        told: Sequence[bool],
    ) -> Context | None:
        """The context of clips on the device; None where nothing is told of any clip ever.

        Args:
            columns: values of `columns`, one a clip.
            told: False for clips that are shown as if they had neither text nor class.

        Raises:
            UsageError: a value is no embedding or class as configured.
        """
        if not (self.width or self.classes):
            return None
        labels = self._labels(columns, told) if self.classes else None
        states = self._states(captions, columns, told) if self.width else None
        if states is None:
            return Context(labels=labels).to(self._device)
        length = self._config.length
        filled = torch.zeros(len(states), length, self.width)
        for row, state in zip(filled, states, strict=True):
            row[: len(state)] = state
        mask = torch.arange(length) < torch.tensor([len(state) for state in states])[:, None]
        return Context(states=filled, mask=mask, labels=labels).to(self._device)

    def _states(
        self,
        captions: Sequence[str | None],
        columns: Mapping[str, Sequence[Any]],
        told: Sequence[bool],
    ) -> list[Float[Tensor, "_ d"]]:
        """Of each clip, as many as it has."""
        if self._encoder is not None:
            texts = (
                (text if heard else "") or "" for text, heard in zip(captions, told, strict=True)
            )
            return [self._encoder(text) for text in texts]
        values = columns[self._config.embeddings]
        return [
            embedding(value if heard else None, self._config)
            for value, heard in zip(values, told, strict=True)
        ]

    def _labels(
        self, columns: Mapping[str, Sequence[Any]], told: Sequence[bool]
    ) -> Int64[Tensor, " b"]:
        values = columns[self._config.labels]
        found = [
            class_number(value if heard else None, self._config)
            for value, heard in zip(values, told, strict=True)
        ]
        return torch.tensor(found, dtype=torch.int64)


class TextEncoder:
    """The states of captions by a frozen text encoder of transformers.

    Each caption goes through alone and unpadded, so that its states depend on nothing else: on no
    batch, and not on which captions were seen before. States of the latest captions are kept.

    Attributes:
        width: channels of a state.

    Raises:
        UsageError: transformers is missing, or there is no such encoder.
    """

    def __init__(self, config: ConditioningConfig, device: torch.device) -> None:
        self._device = device
        self._tokenizer, model = _load(config.text)
        self._model = model.to(device).requires_grad_(False).eval()
        places = getattr(model.config, "max_position_embeddings", None) or config.length
        self._length = min(config.length, self._tokenizer.model_max_length, places)
        self._room = config.cache_mib * 2**20  # bytes
        self._cache: OrderedDict[str, Float[Tensor, "_ d"]] = OrderedDict()
        self.width: int = model.config.hidden_size

    def __call__(self, caption: str) -> Float[Tensor, "_ d"]:
        """States of a caption, float32, on the CPU."""
        states = self._cache.pop(caption, None)
        if states is None:
            states = self._encode(caption)
            self._room -= states.nbytes
        self._cache[caption] = states
        while self._room < 0:
            self._room += self._cache.popitem(last=False)[1].nbytes
        return states

    def _encode(self, caption: str) -> Float[Tensor, "_ d"]:
        tokens = self._tokenizer(
            caption, truncation=True, max_length=self._length, return_tensors="pt"
        ).to(self._device)
        if tokens.input_ids.shape[1] == 0:  # a tokenizer that adds nothing to an empty text
            return torch.zeros(0, self.width)
        with torch.no_grad(), torch.autocast(self._device.type, enabled=False):
            found = self._model(
                input_ids=tokens.input_ids, attention_mask=tokens.attention_mask
            ).last_hidden_state[0]
        return found.float().cpu()


def told(seed: int, positions: Sequence[int], dropout: float) -> list[bool]:
    """Which clips are told of: all but a share, each decided by its position in the stream."""
    return [not chance(dropout, seed, position, "text") for position in positions]


def embedding(value: Any, config: ConditioningConfig) -> Float[Tensor, "_ d"]:
    """States that a column holds, in rows; none for None.

    Raises:
        UsageError: they are no rows of `conditioning.width`, or more than have room.
    """
    if value is None:
        return torch.zeros(0, config.width)
    numbers = torch.from_numpy(np.array(value, np.float32).reshape(-1))
    rows, rest = divmod(len(numbers), config.width)
    if rest or rows > config.length or not numbers.isfinite().all():
        raise UsageError(
            f"a clip has {len(numbers)} numbers in column {config.embeddings}, which must be "
            f"finite and come in rows of conditioning.width {config.width}, at most "
            f"conditioning.length {config.length} of them: set the two to suit the column"
        )
    return numbers.view(rows, config.width)


def class_number(value: Any, config: ConditioningConfig) -> int:
    """The class that a column holds; -1, none, for None.

    Raises:
        UsageError: it is no class.
    """
    if value is None:
        return -1
    if value not in range(config.classes):
        raise UsageError(
            f"column {config.labels} has {value!r}, where classes are whole numbers from 0 to "
            f"{config.classes - 1}: set conditioning.classes, or another column"
        )
    return int(value)


def require_all(missing: Collection[str], source: str) -> None:
    """UsageError if weights are missing, which the libraries would fill with random numbers."""
    if missing:
        raise UsageError(
            f"{source} lacks {len(missing)} weights of its class, as {sorted(missing)[0]}: it is "
            "damaged, or of another version of the library"
        )


def _load(source: str) -> tuple[Any, Any]:
    """Tokenizer and encoder of a folder or id, or of the pipeline of diffusers there."""
    transformers = import_transformers()
    wrong: list[Exception] = []
    for tokenizer, encoder in (("", ""), ("tokenizer", "text_encoder")):
        try:
            config = transformers.AutoConfig.from_pretrained(source, subfolder=encoder)
            config = config.text_config if config.model_type == "clip" else config
            known = type(config) in transformers.MODEL_FOR_TEXT_ENCODING_MAPPING
            loader = transformers.AutoModelForTextEncoding if known else transformers.AutoModel
            model, found = loader.from_pretrained(
                source, subfolder=encoder, config=config, output_loading_info=True
            )
            require_all(found["missing_keys"], source)
            return transformers.AutoTokenizer.from_pretrained(source, subfolder=tokenizer), model
        except (OSError, ValueError) as error:
            wrong.append(error)
    raise UsageError(
        f"conditioning.text {source} is no text encoder that transformers can load, nor a pipeline "
        f"that holds one: {wrong[0]}"
    ) from wrong[0]
