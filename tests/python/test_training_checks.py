"""What a score refuses, training refuses too: at once, in the same words, and with the item's key."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.python.training_items import SCORE, Drawn, item, trainer_of

from discffusion import CheckpointError, ConfigError, MatchItem, Scorer, Trainer


def test_heads_that_a_layer_lacks(scorer: Scorer) -> None:
    with pytest.raises(ConfigError, match="heads lists 99, but .* has the heads 0 to"):
        Trainer(scorer.with_config(**SCORE, heads=[99]))


def test_a_size_that_the_model_cannot_take(scorer: Scorer) -> None:
    with pytest.raises(ConfigError, match="resolution is 63"):
        Trainer(scorer.with_config(**{**SCORE, "resolution": 63}))


def test_a_blank_caption_among_many_is_named_before_the_first_step(scorer: Scorer) -> None:
    odd = item(3)
    blank = MatchItem(key="odd one", images=odd.images, texts=["a red circle", "  "], match=odd.match)
    trainer = trainer_of(scorer.with_config(tokens="content"))
    with pytest.raises(ConfigError, match=r"item 'odd one' of train: text \"  \" has no tokens of its own"):
        trainer.fit([*map(item, range(12)), blank])
    assert trainer.steps == 0
    # a score of all tokens takes it, and so does training
    history = trainer_of(scorer).fit([item(0), blank])
    assert all(np.isfinite(history["loss"]))


def test_captions_that_are_cut_are_told_of_once(scorer: Scorer) -> None:
    long = MatchItem(
        key="long", images=item(0).images, texts=["a red circle " * 40, "two birds"], match=item(0).match
    )
    trainer = Trainer(scorer.with_config(**{**SCORE, "truncate": "warn"}), layers="up", temperature=0.1)
    with pytest.warns(UserWarning, match=r"1 text\(s\) of train are longer") as told:
        trainer.fit([item(1), long])
    assert len(told) == 1
    with pytest.raises(ConfigError, match="item 'long' of train: the text .* needs"):
        Trainer(scorer.with_config(**{**SCORE, "truncate": "error"}), layers="up").fit([item(1), long])


def test_what_the_loss_does_not_depend_on_stays_as_it_was(scorer: Scorer) -> None:
    first = trainer_of(scorer, layers="all", timesteps_per_step=1)
    first.fit(Drawn(2), epochs=2)
    grown = first.scorer.with_config(layers="down")
    names = [name for name in first.deltas.arrays() if ".attn2." in name]
    before = first.deltas.arrays()
    again = Trainer(grown, layers="all", temperature=0.1, margin=0.5, weight_decay=0.5, learning_rate=0.1)
    again.fit(Drawn(2))
    after = again.deltas.arrays()
    behind = [name for name in names if name.startswith(("up_blocks", "mid_block"))]
    reached = [name for name in names if name.startswith("down_blocks.0")]
    assert behind and reached
    assert all(np.array_equal(before[name], after[name]) for name in behind)
    assert all(not np.array_equal(before[name], after[name]) for name in reached)


def test_a_tokenizer_with_more_tokens_than_the_text_encoder_has_vectors(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "with a token more"
    shutil.copytree(tiny, folder)
    rows = json.loads((folder / "text_encoder" / "config.json").read_text())["vocab_size"]
    path = folder / "tokenizer" / "tokenizer_config.json"
    config = json.loads(path.read_text()) if path.exists() else {}
    added = config.setdefault("added_tokens_decoder", {})
    token = {"content": "<sks>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    added[str(rows)] = {**token, "special": False}
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=rf"'?\"?<sks>\"? with the number {rows}, but the text encoder"):
        Scorer(folder, device="cpu")
