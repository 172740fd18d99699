"""The pocket model says once that it knows nothing of what it is asked; of its own world it says nothing."""

from __future__ import annotations

import copy
import io
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.python.run_python import run_python

from discffusion import Scorer, hub, load_dataset
from discffusion.data.shapes.captions import answer, both, caption, colourless
from discffusion.data.shapes.choices import question
from discffusion.data.shapes.randomness import generator
from discffusion.data.shapes.sampling import draw_plan
from discffusion.pocket.world import WORDS, is_drawn, unknown_words

SCENE = str(Path(__file__).parents[3] / "examples" / "scene.png")
TEXT = "a red circle left of a blue square"


@pytest.fixture
def pocket() -> Scorer:
    return Scorer(config="attention", noise_levels=[0.5], device="cpu")


def photograph() -> np.ndarray:
    """Soft light and grain, as no drawing has them."""
    rows, columns = np.mgrid[0:64, 0:64]
    light = 90 + 60 * np.sin(rows / 17)[..., None] + np.stack([columns, rows, columns - rows], 2)
    return np.clip(light + np.random.default_rng(0).normal(0, 12, light.shape), 0, 255).astype(np.uint8)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run_python(f"import sys; sys.argv[1:] = {arguments!r}; from discffusion.cli import main; main()")


def told(call: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(warning.message) for warning in caught if "pocket model" in str(warning.message)]


def test_the_words_are_those_of_the_corpus() -> None:
    rng, seen = generator("words", 0, 0), set()
    for _ in range(3000):
        plan = draw_plan(rng)
        scene = plan.scene()
        asked, right, wrong = question(rng, plan)
        texts = [
            caption(scene),
            both(scene),
            colourless(scene),
            *(answer(asked, reply) for reply in (right, *wrong)),
        ]
        assert unknown_words(texts) == []
        seen.update(word.strip("?") for text in texts for word in text.split())
    assert seen - {""} == WORDS


def test_words_that_are_not() -> None:
    assert unknown_words(["A Red circle, left of the square!", "what is above? a cross", ""]) == []
    assert unknown_words(["a dog on a sofa", "2 dogs; a DOG"]) == ["dog", "on", "sofa", "2", "dogs"]
    assert unknown_words(["ein roter Kreis", "红色的圆"]) == ["ein", "roter", "kreis", "红色的圆"]


@pytest.mark.parametrize("size", [32, 64, 512])
@pytest.mark.parametrize("quality", [None, 30])
def test_scenes_are_drawn(size: int, quality: int | None) -> None:
    for subset in ("subject", "winoground", "referring", "mixed"):
        for item in load_dataset("shapes", split="test", subset=subset, n=30, image_size=size, seed=3):
            for image in item.images:
                if quality is not None:
                    data = io.BytesIO()
                    image.save(data, "JPEG", quality=quality)
                    image = Image.open(data)
                assert is_drawn(np.asarray(image.convert("RGB")))


def test_photographs_are_not() -> None:
    data = pytest.importorskip("skimage.data")
    for name in (
        "astronaut",
        "brick",
        "camera",
        "cat",
        "coffee",
        "coins",
        "grass",
        "gravel",
        "page",
        "rocket",
        "text",
    ):
        found = getattr(data, name)()
        assert not is_drawn(found if found.ndim == 3 else np.repeat(found[..., None], 3, axis=2)), name
    assert not is_drawn(photograph())


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.score(SCENE, "a dog"),
        lambda s: s.score([SCENE], ["a dog"]),
        lambda s: s.matrix([SCENE], [TEXT, "a dog"]),
        lambda s: s.rank(SCENE, [TEXT, "a dog"]),
        lambda s: s.rank(SCENE, [TEXT, "a dog"], stages=[1], keep=[]),
        lambda s: s.observe(SCENE, "a dog"),
        lambda s: s.explain(SCENE, "a dog"),
        lambda s: s.generate("a dog", steps=1),
        lambda s: s.embed_texts("a dog"),
        lambda s: s.head_weights(SCENE, "a dog"),
    ],
    ids="score scores matrix rank staged observe explain generate embed_texts head_weights".split(),
)
def test_every_way_to_ask_warns_once(pocket: Scorer, call: Any) -> None:
    (message,) = told(lambda: call(pocket))
    assert "does not know 'dog'" in message
    assert "--model" in message
    assert told(lambda: call(pocket)) == []
    assert told(lambda: pocket.with_config(seed=1).score(photograph(), "a cat")) == []  # one for all copies
    assert told(lambda: copy.deepcopy(pocket).score(photograph(), "a cat")) == []


def test_a_photograph(pocket: Scorer, tmp_path: Path) -> None:
    Image.fromarray(photograph()).save(tmp_path / "photo.jpg")
    assert told(lambda: pocket.score(SCENE, TEXT)) == []
    (message,) = told(lambda: pocket.matrix([SCENE, tmp_path / "photo.jpg"], [TEXT]))
    assert "such as a photograph" in message


def test_the_line_is_the_callers(pocket: Scorer) -> None:
    with pytest.warns(UserWarning, match="pocket model") as caught:
        pocket.score(SCENE, "a dog")
    assert [warning.filename for warning in caught] == [__file__]


def test_other_models_say_nothing(tiny: Path, tmp_path: Path) -> None:
    with Scorer(tiny, device="cpu", steps=1) as other:
        assert told(lambda: other.score(photograph(), "a dog on a sofa")) == []
    # the pocket model by its path is the pocket model; a copy of it is somebody's own
    folder, _ = hub.resolve()
    with Scorer(folder, config="attention", device="cpu") as named:
        assert len(told(lambda: named.score(SCENE, "a dog"))) == 1
    shutil.copytree(folder, tmp_path / "own")
    with Scorer(tmp_path / "own", config="attention", device="cpu") as own:
        assert told(lambda: own.score(SCENE, "a dog")) == []


def test_the_command_line_says_it_on_stderr() -> None:
    done = command("score", SCENE, "a dog", "a cat", "--config", "attention")
    assert done.returncode == 0
    assert done.stderr.count("the bundled pocket model does not know 'dog', 'cat'") == 1
    assert len(done.stdout.splitlines()) == 2
    done = command("score", SCENE, TEXT, "--config", "attention")
    assert (done.returncode, done.stderr) == (0, "")
