"""A generative model asked about a text: the same probability as a direct call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.python.baselines import tiny as models
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from discffusion.baselines import load_baseline
from discffusion.errors import CheckpointError, ConfigError


@pytest.fixture(scope="module")
def asked(llava_folder: Path) -> Any:
    return load_baseline("vqascore", model=llava_folder, batch_size=5)


def direct(folder: Path, image: np.ndarray, text: str) -> float:
    model = LlavaForConditionalGeneration.from_pretrained(folder).eval()
    processor = LlavaProcessor.from_pretrained(folder)
    prompt = f'USER : <image> Does this figure show "{text}"? Please answer yes or no. ASSISTANT :'
    given = processor(images=Image.fromarray(image), text=prompt, return_tensors="pt")
    with torch.no_grad():
        chances = model(**given).logits[0, -1].softmax(dim=-1)
    return float(sum(chances[processor.tokenizer.convert_tokens_to_ids(word)] for word in ("yes", "Yes")))


def test_matrix_is_the_probability_of_yes(
    asked: Any, llava_folder: Path, images: list[np.ndarray], texts: list[str]
) -> None:
    found = asked.matrix(images, texts)
    expected = [[direct(llava_folder, image, text) for text in texts] for image in images]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.ptp(found) > 0.01
    one = load_baseline("vqascore", model=llava_folder, batch_size=1)
    np.testing.assert_allclose(one.matrix(images, texts), found, atol=1e-6)


def test_question_and_answer_are_options(asked: Any, llava_folder: Path, images: list[np.ndarray]) -> None:
    no = load_baseline("vqascore", model=llava_folder, answer="no")
    assert no.describe()["config"]["answer"] == "no"
    assert no.matrix(images[0], "a dog")[0, 0] != asked.matrix(images[0], "a dog")[0, 0]
    other = load_baseline("vqascore", model=llava_folder, question="what is {text} ?")
    assert other.matrix(images[0], "a dog")[0, 0] != asked.matrix(images[0], "a dog")[0, 0]
    for options in ({"question": "what is this"}, {"question": 1}, {"answer": " "}, {"answer": None}):
        with pytest.raises(ConfigError, match="expected a"):
            load_baseline("vqascore", model=llava_folder, **options)
    with pytest.raises(ConfigError, match="no token of .* reads 'of course'"):
        load_baseline("vqascore", model=llava_folder, answer="of course").matrix(images[0], "a dog")


def test_braces_in_a_text_are_its_own(asked: Any, images: list[np.ndarray]) -> None:
    assert np.isfinite(asked.matrix(images[0], ["{text} {0} {", "a {"])).all()


def test_a_text_that_does_not_fit(asked: Any, images: list[np.ndarray]) -> None:
    with pytest.raises(ConfigError, match="take .* tokens, and the model reads 96"):
        asked.matrix(images[0], "dog " * 100)


def test_models_that_cannot_be_asked(llava_folder: Path, clip_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_baseline("vqascore", model=clip_folder)
    silent = models.write_llava(tmp_path / "silent")
    (silent / "chat_template.jinja").unlink()
    with pytest.raises(CheckpointError, match="has no chat template"):
        load_baseline("vqascore", model=silent)
