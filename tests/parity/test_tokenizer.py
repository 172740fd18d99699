"""Token numbers, strings and offsets against transformers' `CLIPTokenizer`, on texts that nobody types."""

from __future__ import annotations

import json
import random
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.make_tokenizer import END, START, write_tokenizer
from transformers import CLIPTokenizer

from discffusion import _native
from discffusion.errors import CheckpointError, ConfigError

_core = _native.core()

LENGTH = 77
# First and last code point of blocks with marks, ligatures, joiners, astral planes, private use and more.
BLOCKS = """
    20-7e 00-1f 7f-a0 a0-24f 250-2ff 300-36f 370-3ff 400-52f 530-5ff 600-6ff 900-97f e00-e7f 1100-11ff
    1e00-1fff 2000-206f 2070-218f 2190-2bff 3000-30ff 4e00-9fff ac00-d7a3 e000-f8ff f900-faff fb00-fdff
    fe00-fe0f ff00-ffff 10000-107ff 1d400-1d7ff 1f1e6-1f1ff 1f300-1faff 20000-2a6df e0000-e01ef
    10ff00-10ffff
"""
SPECIAL = (START, END, "<|STARTOFTEXT|>", "<|EndOfText|>", "!", "!!", "</w>", "<|endoftext|", "startoftext|>")
WORDS = (
    "a photo of the red dog's cat isn't running, we've IT'S Photograph unhappiness 123 4x4 café İstanbul "
    "ſtreet ß ﬁn ǅ Å e\u0301 \u212b 👨‍👩‍👧 ❤️ ... -- ?! _under_score_ http://x.y/z?q=1 \t\t \n"
)
EDGES = ["", " ", "\n\t ", "!", END, START, "\ufeff", "\x00", "a\u0301", "  a  b  ", "x" * 3000, "dog " * 500]


@cache
def texts(count: int) -> list[str]:
    """Seeded: up to 500 words, of English, special tokens and characters from all blocks."""
    draw = random.Random(7)
    blocks = [tuple(int(end, 16) for end in block.split("-")) for block in BLOCKS.split()]

    words = WORDS.split(" ")

    def word() -> str:
        kind = draw.random()
        if kind < 0.5:
            return draw.choice(words)
        if kind < 0.6:
            return draw.choice(SPECIAL)
        first, last = draw.choice(blocks)
        return "".join(chr(draw.randint(first, last)) for _ in range(draw.randint(1, 8)))

    def text() -> str:
        kind = draw.random()
        longest = 500 if kind < 0.1 else 90 if kind < 0.4 else 12
        between = draw.choice(["", "  ", " \n"]) if kind > 0.9 else " "
        return between.join(word() for _ in range(draw.randint(0, longest)))

    return EDGES + [text() for _ in range(count - len(EDGES))]


def compare(folder: Path, count: int, length: int = LENGTH) -> None:
    ours, theirs = _core.Tokenizer.open(str(folder), LENGTH), CLIPTokenizer.from_pretrained(folder)
    sample = texts(count)
    options = {"padding": "max_length", "truncation": True, "max_length": length}
    cut = theirs(sample, return_offsets_mapping=True, **options)
    whole = theirs(sample, verbose=False)["input_ids"]
    padding = [theirs.pad_token_id] * (LENGTH - length)
    for text, ids, offsets, all_ids in zip(
        sample, cut["input_ids"], cut["offset_mapping"], whole, strict=True
    ):
        tokens = ours.encode(text, "silent")
        assert tokens["ids"].tolist() == ids + padding, text
        assert tokens["strings"] == theirs.convert_ids_to_tokens(ids + padding), text
        assert tokens["offsets"][:length] == offsets, text
        assert tokens["needed"] == len(all_ids), text
        assert tokens["truncated"] == (len(all_ids) > length), text
        assert tokens["content"] == (1, min(len(all_ids), length) - 1), text


@pytest.mark.parametrize("pad_token", [END, "!"], ids=["sd1", "sd2"])
def test_ten_thousand_texts(tmp_path: Path, pad_token: str) -> None:
    write_tokenizer(tmp_path, pad_token)
    compare(tmp_path, 10_000)


@pytest.mark.parametrize("pad_token", [END, "!"], ids=["sd1", "sd2"])
def test_one_file_as_transformers_saves_it(tmp_path: Path, pad_token: str) -> None:
    write_tokenizer(tmp_path / "two", pad_token)
    CLIPTokenizer.from_pretrained(tmp_path / "two").save_pretrained(tmp_path / "one")
    assert (tmp_path / "one" / "tokenizer.json").exists()
    assert not (tmp_path / "one" / "vocab.json").exists()
    compare(tmp_path / "one", 1000)


def test_a_configuration_that_lists_its_added_tokens(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    vocab = json.loads((tmp_path / "vocab.json").read_text("utf-8"))

    def added(content: str, normalized: bool) -> dict[str, Any]:
        flags = {"lstrip": False, "rstrip": False, "single_word": False, "special": True}
        return {"content": content, "normalized": normalized, **flags}

    tokens = [added("!", False), added(START, True), added(END, True)]
    config = {
        "added_tokens_decoder": {str(vocab[token["content"]]): token for token in tokens},
        "bos_token": START,
        "eos_token": END,
        "unk_token": END,
        "pad_token": "!",
        "model_max_length": LENGTH,
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    compare(tmp_path, 1000)


@pytest.mark.parametrize(
    "missing", [("special_tokens_map.json",), ("special_tokens_map.json", "tokenizer_config.json")]
)
def test_defaults_where_the_files_are_silent(tmp_path: Path, missing: tuple[str, ...]) -> None:
    write_tokenizer(tmp_path)
    for name in missing:
        (tmp_path / name).unlink()
    compare(tmp_path, 1000)


def test_a_shorter_length(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, "!", model_max_length=20)
    compare(tmp_path, 1000, length=20)


def test_refusals(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    with pytest.raises(ConfigError, match=r"502 tokens.*at most 77"):
        _core.Tokenizer.open(str(tmp_path), LENGTH).encode("dog " * 500, "error")
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json.*model_max_length=77"):
        _core.Tokenizer.open(str(tmp_path), 64)
    for name in ("vocab.json", "merges.txt"):
        broken = tmp_path / f"without {name}"
        write_tokenizer(broken)
        (broken / name).unlink()
        with pytest.raises(CheckpointError, match=name):
            _core.Tokenizer.open(str(broken), LENGTH)
        shutil.rmtree(broken)
