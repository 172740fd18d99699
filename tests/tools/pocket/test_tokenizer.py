"""The pocket model's tokenizer: every caption word is one token, and any text can be written."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("transformers")
pytest.importorskip("diffusers")

from tools.pocket.tokenizer import byte_symbols, learn_merges, open_tokenizer, write_tokenizer

CAPTIONS = [
    "",
    "a red circle left of a blue square",
    "what colour is the circle? red",
    "a cross far from a triangle",
]


def test_the_byte_symbols_are_256() -> None:
    assert len(set(byte_symbols())) == 256 and byte_symbols()[0] == "!"


def test_merges_make_every_word_one_token(tmp_path: Path) -> None:
    assert learn_merges(CAPTIONS) == learn_merges(list(reversed(CAPTIONS)))
    write_tokenizer(tmp_path, CAPTIONS)
    tokenizer = open_tokenizer(tmp_path)
    ids = tokenizer("a red circle left of a blue square").input_ids
    assert len(ids) == 8 + 2
    assert tokenizer.convert_ids_to_tokens(ids)[1:4] == ["a</w>", "red</w>", "circle</w>"]
    padded = tokenizer("", padding="max_length").input_ids
    assert len(padded) == 77 and padded[1:] == [tokenizer.eos_token_id] * 76


def test_any_text_has_tokens(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, CAPTIONS)
    tokenizer = open_tokenizer(tmp_path)
    for text in ("Ünicode 猫 42", "don't \U0001f600", "circles"):
        ids = tokenizer(text).input_ids[1:-1]
        assert ids and tokenizer.eos_token_id not in ids
