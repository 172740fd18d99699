"""A CLIP tokenizer (byte-level BPE) of which every word of the captions is one token, and any other text some."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import regex
from transformers import CLIPTokenizer

from tools.pocket.architecture import MAX_TOKENS

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
_WORDS = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")


def byte_symbols() -> list[str]:
    """The 256 characters that stand for bytes, in CLIP's order."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + n) for n in range(len(others))]


def learn_merges(captions: Iterable[str]) -> list[tuple[str, str]]:
    """Merges, most frequent pair first (ties in alphabetical order), until every word is one token."""
    counts = Counter(word for text in captions for word in _WORDS.findall(text.lower()))
    words = {word: [*word[:-1], word[-1] + "</w>"] for word in sorted(counts) if word.isascii()}
    merges: list[tuple[str, str]] = []
    while True:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, symbols in words.items():
            for pair in zip(symbols, symbols[1:], strict=False):
                pairs[pair] += counts[word]
        if not pairs:
            return merges
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = {word: _merge(symbols, best) for word, symbols in words.items()}


def _merge(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for symbol in symbols:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return merged


def write_tokenizer(folder: Path, captions: Iterable[str]) -> None:
    """``vocab.json``, ``merges.txt`` and the two configuration files, as Stable Diffusion publishes them."""
    folder.mkdir(parents=True, exist_ok=True)
    merges = learn_merges(captions)
    symbols = byte_symbols()
    tokens = [*symbols, *(symbol + "</w>" for symbol in symbols), *(a + b for a, b in merges), BOS, EOS]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    assert len(vocabulary) == len(tokens)
    special = {
        name: {"content": token, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
        for name, token in (("bos_token", BOS), ("eos_token", EOS), ("unk_token", EOS))
    }
    config = {
        "add_prefix_space": False,
        **{name: {"__type": "AddedToken", **token} for name, token in special.items()},
        "do_lower_case": True,
        "errors": "replace",
        "model_max_length": MAX_TOKENS,
        "pad_token": EOS,
        "tokenizer_class": "CLIPTokenizer",
    }
    files = {
        "vocab.json": json.dumps(vocabulary, ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *(f"{a} {b}" for a, b in merges)]) + "\n",
        "special_tokens_map.json": json.dumps({**special, "pad_token": EOS}, indent=2),
        "tokenizer_config.json": json.dumps(config, indent=2),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def open_tokenizer(folder: Path) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(folder)
