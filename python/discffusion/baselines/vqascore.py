"""A generative vision-language model asked whether an image shows what a text says (Lin et al., ECCV 2024)."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion._extras import need
from discffusion.baselines.decoded import DecodedImages
from discffusion.baselines.published import EXTRA, ModelSource, load_model, load_part
from discffusion.baselines.running import RunningBaseline
from discffusion.errors import CheckpointError, ConfigError

__all__ = ["VqaScore"]

QUESTION = 'Does this figure show "{text}"? Please answer yes or no.'


class VqaScore(RunningBaseline):
    """The probability that a generative model answers with yes, 0 to 1.

    It is the probability, after the model's own chat template, that the next token reads ``answer``: the sum over all
    tokens of the vocabulary that do, whatever their case and the space before them. Every pair goes through the whole
    model; an image is read and preprocessed once a request.

    Args:
        model: a folder or hub id of a model that transformers loads as ``AutoModelForImageTextToText``.
        question: what is asked, with ``{text}`` where the text belongs.
        answer: what counts as agreement.
        batch_size: pairs that go through the model at a time.
        others: as :class:`discffusion.baselines.running.RunningBaseline` takes them.
    """

    name = "vqascore"
    unit = "probability of the answer"

    def __init__(
        self,
        model: str | os.PathLike[str] = "llava-hf/llava-1.5-7b-hf",
        *,
        question: str = QUESTION,
        answer: str = "yes",
        batch_size: int = 8,
        **others: Any,
    ) -> None:
        if not isinstance(question, str) or "{text}" not in question:
            raise ConfigError(f"question is {question!r}; expected a string with {{text}} in it")
        if not isinstance(answer, str) or not answer.strip():
            raise ConfigError(f"answer is {answer!r}; expected a word")
        self._question, self._answer = question, answer
        super().__init__(model, batch_size=batch_size, **others)

    def describe(self) -> dict[str, Any]:
        description = super().describe()
        return {
            **description,
            "config": {**description["config"], "question": self._question, "answer": self._answer},
        }

    def _open(self, source: ModelSource) -> None:
        transformers = need("transformers", EXTRA)
        kind = transformers.AutoModelForImageTextToText
        self._model = load_model(kind, source, None, self._dtype, self._device)
        self._processor = load_part(transformers.AutoProcessor, source, "the processor")
        if getattr(self._processor, "chat_template", None) is None:
            raise CheckpointError(
                f"{source.name!r} has no chat template, so its prompt format is unknown; it needs "
                "chat_template.jinja or the like in its files"
            )
        if self._model.config.is_encoder_decoder:
            raise CheckpointError(
                f"{source.name!r} is an encoder-decoder; expected a decoder that reads the image"
            )
        self._tokenizer = self._processor.tokenizer
        self._tokenizer.padding_side = "right"  # so that padding comes after all that the answer depends on
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        text = self._model.config.get_text_config()
        self._limit = int(getattr(text, "max_position_embeddings", 1 << 20))

    @cached_property
    def _answers(self) -> list[int]:
        """The tokens that read the answer."""
        tokens = range(len(self._tokenizer))
        read = self._tokenizer.batch_decode([[token] for token in tokens])
        wanted = self._answer.strip().casefold()
        matching = [
            token for token, text in zip(tokens, read, strict=True) if text.strip().casefold() == wanted
        ]
        if not matching:
            raise ConfigError(
                f"no token of {self.model_id!r} reads {self._answer!r}; expected an answer that is one token"
            )
        return matching

    def _prompt(self, text: str) -> str:
        turn = {
            "role": "user",
            "content": [{"type": "image"}, {"type": "text", "text": self._question.replace("{text}", text)}],
        }
        prompt: str = self._processor.apply_chat_template([turn], add_generation_prompt=True, tokenize=False)
        return prompt

    def _lengths(self, texts: list[str]) -> list[int]:
        """Without what the image adds, which depends on the image."""
        prompts = [self._prompt(text) for text in texts]
        return [len(ids) for ids in self._tokenizer(prompts, truncation=False, verbose=False)["input_ids"]]

    def _pairs(self, seen: DecodedImages, texts: list[str], pairs: NDArray[np.int64]) -> NDArray[np.float64]:
        torch = need("torch", EXTRA)
        scores = []
        images: dict[int, Any] = {}
        with torch.inference_mode():
            for part in self._chunks(pairs):  # by image, so that few are held at a time
                wanted = part[:, 0].tolist()
                images = {i: images[i] if i in images else seen[i] for i in dict.fromkeys(wanted)}
                prompts = [self._prompt(texts[j]) for j in part[:, 1]]
                scores.append(self._agreement([images[i] for i in wanted], prompts))
        return np.concatenate(scores)

    def _agreement(self, images: list[Any], prompts: list[str]) -> NDArray[np.float64]:
        torch = need("torch", EXTRA)
        given = self._processor(
            images=[[image] for image in images], text=prompts, padding=True, return_tensors="pt"
        )
        given = given.to(self._device, self._dtype)  # which leaves whole numbers as they are
        lengths = given["attention_mask"].sum(dim=1)
        if int(lengths.max()) > self._limit:
            raise ConfigError(
                f"an image and its question take {int(lengths.max())} tokens, and the model reads {self._limit}; "
                "shorten the texts"
            )
        logits = self._model(**given).logits
        last = logits[torch.arange(len(lengths), device=logits.device), lengths - 1]
        chances = last.double().softmax(dim=-1)[:, self._answers].sum(dim=-1)
        scores: NDArray[np.float64] = chances.cpu().numpy()
        return scores
