"""Pictures, files, notebooks, comparisons and the command line."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from tests.python.run_python import run_python
from typer.testing import CliRunner

from discffusion import ConfigError, DiscffusionError, Explanation, ImageError, InstallationError, Scorer
from discffusion.cli import build_app

TEXT = "a blue square left of a dog"


@pytest.fixture(scope="module")
def explained(scorer: Scorer) -> Explanation:
    rows, columns = np.mgrid[0:24, 0:40]
    picture = np.stack([rows * 10, columns * 6, (rows + columns) * 4], axis=2).astype(np.uint8)
    return scorer.with_config(method="combined", layers="last(2)").explain(picture, TEXT, layers="up")


def size(png: bytes | None) -> tuple[int, int]:
    assert png is not None
    picture = PIL.Image.open(io.BytesIO(png))
    assert picture.format == "PNG"
    assert len(np.unique(np.asarray(picture.convert("L")))) > 20  # something is drawn
    return picture.size


def texts(figure: Any) -> list[str]:
    """Every title and label of a figure and those within it."""
    found = []
    for axes in figure.get_axes():
        found += [axes.get_title(), axes.get_xlabel(), axes.get_ylabel()]
        found += [label.get_text() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
    return found


def test_pictures_show_words_layers_and_terms(explained: Explanation) -> None:
    overview = texts(explained.plot())
    assert any(text.startswith("square\n") for text in overview)
    assert {"image", "<bos>", "<padding>", "denoising", *explained.per_layer} <= set(overview)
    words = texts(explained.plot_words())
    for word, value in zip(explained.words, explained.per_word, strict=True):
        assert f"{word.text}\n{value:+.3g}" in words
    narrow = [axes for axes in explained.plot_words(columns=2).get_axes() if axes.get_title()]
    assert {axes.get_title() for axes in narrow} < set(words)
    assert len(narrow) == len(explained.words) + 1
    assert len({axes.get_subplotspec().colspan.start for axes in narrow}) == 2
    with pytest.raises(ConfigError, match="columns is 0"):
        explained.plot_words(columns=0)
    layers = explained.plot_layers()
    heats = [axes for axes in layers.get_axes() if axes.get_images()]
    np.testing.assert_allclose(
        heats[0].get_images()[0].get_array()[:2],
        [of.sum(axis=(1, 2)) for of in explained.contributions.values()],
    )
    over = explained.overlay("blue square", normalise=None)
    np.testing.assert_allclose(
        over.get_axes()[0].get_images()[1].get_array(), explained.map_of("blue square"), atol=1e-6
    )
    assert "blue square" in texts(over)
    assert "cosine" in texts(over)[-1] or any(
        "cosine" in text or "probability" in text for text in texts(over)
    )


def test_nothing_is_clipped(explained: Explanation) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    for figure in (
        explained.plot(),
        explained.plot_words(),
        explained.plot_words(columns=1),
        explained.plot_layers(),
        explained.overlay("dog"),
    ):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        renderer = canvas.get_renderer()
        whole = figure.get_tightbbox(renderer)
        width, height = figure.get_size_inches()
        assert whole.x0 >= -0.02 and whole.y0 >= -0.02, whole
        assert whole.x1 <= width + 0.02 and whole.y1 <= height + 0.02, whole


def test_notebooks_show_a_picture(explained: Explanation, monkeypatch: pytest.MonkeyPatch) -> None:
    width, height = size(explained._repr_png_())
    assert width > 600 and height > 400
    html = explained._repr_html_()
    assert "data:image/png;base64," in html
    assert ">square</span>" in html
    assert size(explained.overlay("dog")._repr_png_())[0] > 300
    assert repr(explained).startswith(f"Explanation({TEXT!r}, score ")
    # without matplotlib, the words and the score
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    again = Explanation(**{name: getattr(explained, name) for name in Explanation.__dataclass_fields__})
    assert again._repr_png_() is None
    assert ">square</span>" in again._repr_html_() and "img" not in again._repr_html_()
    with pytest.raises(InstallationError, match=r"discffusion\[plot\]"):
        again.plot()


def test_text_is_escaped_in_html(scorer: Scorer, picture: np.ndarray) -> None:
    html = scorer.explain(picture, 'a <b> "dog"')._repr_html_()
    assert "<b>" not in html
    assert "&lt;" in html


def test_files_hold_everything(explained: Explanation, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    explained.save(folder)
    names = {"explanation.json", "explanation.npz", "overview.png", "words.png", "layers.png"}
    assert {path.name for path in folder.iterdir()} == names
    for name in names:
        if name.endswith(".png"):
            size((folder / name).read_bytes())
    told = json.loads((folder / "explanation.json").read_text(encoding="utf-8"))
    assert told == json.loads(json.dumps(explained.to_dict()))
    assert told["score"] == explained.score
    assert told["settings"]["model"] and told["settings"]["config"]["method"] == "combined"
    total = sum(token["contribution"] for token in told["tokens"]) + told["denoising"]
    assert total == pytest.approx(told["score"], abs=1e-6 * max(1, abs(told["score"])))
    with np.load(folder / "explanation.npz") as arrays:
        np.testing.assert_array_equal(arrays["maps"], explained.maps)
        np.testing.assert_array_equal(arrays["image"], explained.image)
        for site, values in explained.contributions.items():
            np.testing.assert_array_equal(arrays[f"contributions/{site}"], values)
        for site, maps in explained.layer_maps.items():
            np.testing.assert_array_equal(arrays[f"layer_maps/{site}"], maps)


def test_a_crash_while_saving_leaves_the_old_files(
    explained: Explanation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    explained.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def crash(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(DiscffusionError, match="overview.png cannot be written: disk full"):
        explained.save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_two_texts_of_an_image(scorer: Scorer, picture: np.ndarray) -> None:
    other = scorer.with_config(method="combined", layers="all")
    a, b = (other.explain(picture, text) for text in ("a red dog on a sofa", "a blue dog on the big sofa"))
    found = a.compare(b)
    assert found.score == a.score - b.score
    assert sum(row.difference for row in found.words) + found.denoising == pytest.approx(
        found.score, abs=1e-5
    )
    pairs = [(row.a, row.b) for row in found.words]
    assert pairs[:5] == [("a", "a"), ("red", "blue"), ("dog", "dog"), ("on", "on"), ("a", "the")]
    assert (None, "big") in pairs and ("sofa", "sofa") in pairs and ("<padding>", "<padding>") in pairs
    assert sum(found.per_layer.values()) + found.denoising == pytest.approx(found.score, abs=1e-5)
    assert found.per_timestep.sum() == pytest.approx(found.score, abs=1e-5)
    assert found.place is not None and found.place.shape == (24, 40)
    swapped = b.compare(a)
    assert swapped.place is not None
    np.testing.assert_allclose(swapped.place, -found.place)
    size(found._repr_png_())
    assert {"red | blue", "∅ | big"} <= set(texts(found.plot()))
    assert json.loads(json.dumps(found.to_dict()))["score"] == found.score


def test_two_images_with_a_text(scorer: Scorer, picture: np.ndarray) -> None:
    a, b = (scorer.explain(image, TEXT) for image in (picture, 255 - picture))
    found = a.compare(b)
    assert found.place is None
    assert [row.label for row in found.words[:3]] == ["a", "blue", "square"]
    assert sum(row.difference for row in found.words) == pytest.approx(found.score, abs=1e-5)
    size(found._repr_png_())


def test_what_does_not_compare(scorer: Scorer, picture: np.ndarray) -> None:
    a = scorer.explain(picture, "a dog")
    with pytest.raises(ConfigError, match="two texts of one image"):
        a.compare(scorer.explain(255 - picture, "a cat"))
    with pytest.raises(ConfigError, match="different models, deltas or configurations"):
        a.compare(scorer.with_config(seed=5).explain(picture, "a cat"))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (("IMAGE", ["a", "b"]), {}, ConfigError, "one image and one text"),
        ((["IMAGE", "IMAGE"], "a"), {}, ConfigError, "one image and one text"),
        (("IMAGE", 3), {}, ConfigError, "a text is a str"),
        (("missing.png", "a"), {}, ImageError, "there is no file"),
        (
            ("IMAGE", "a"),
            {"map": "heat"},
            ConfigError,
            'map is "heat"; expected one of probs, logits, cosine',
        ),
        (("IMAGE", "a"), {"map": 3}, ConfigError, "map is 3"),
        (("IMAGE", "a"), {"layers": "upper"}, ConfigError, "layers"),
        (("IMAGE", "a"), {"layers": ["up.9.9"]}, ConfigError, r'layers names "up\.9\.9"'),
        (("IMAGE", "a"), {"layers": []}, ConfigError, "layers"),
        (("IMAGE", "a"), {"noise": np.zeros((7, 4, 8, 8), np.float32)}, ConfigError, "noise has the shape"),
    ],
)
def test_bad_requests(
    scorer: Scorer, picture: np.ndarray, arguments: Any, options: Any, error: type[Exception], message: str
) -> None:
    def filled(value: Any) -> Any:
        if isinstance(value, list):
            return [filled(each) for each in value]
        return picture if isinstance(value, str) and value == "IMAGE" else value

    with pytest.raises(error, match=message):
        scorer.explain(*(filled(value) for value in arguments), **options)


def test_places_that_are_not_shown(explained: Explanation) -> None:
    with pytest.raises(ConfigError, match=r"layer is 'mid\.0'; shown are up"):
        explained.map_of("dog", layer="mid.0")
    with pytest.raises(ConfigError, match="say which layer"):
        explained.map_of("dog", head=0)
    with pytest.raises(ConfigError, match="head is 99; .* has the heads 0 to"):
        explained.map_of("dog", layer=next(iter(explained.layer_maps)), head=99)
    with pytest.raises(ConfigError, match="timestep is 3; there are"):
        explained.map_of("dog", timestep=3)
    with pytest.raises(ConfigError, match="use observe"):
        explained.map_of("dog", layer="up.1.0", timestep=explained.timesteps[0])


def test_command_line(tiny: Path, picture: np.ndarray, tmp_path: Path) -> None:
    image = tmp_path / "picture.png"
    PIL.Image.fromarray(picture).save(image)
    command = ["explain", str(image), TEXT, "--model", str(tiny), "--device", "cpu", "--steps", "2"]
    plain = CliRunner().invoke(build_app(), command)
    assert plain.exit_code == 0, plain.output
    rows = [line.split("\t") for line in plain.stdout.splitlines()]
    assert [name for _, name in rows[:3]] == ["a", "blue", "square"]
    assert rows[-1][1] == "score"
    assert sum(float(value) for value, _ in rows[:-1]) == pytest.approx(float(rows[-1][0]), abs=1e-4)
    folder = tmp_path / "out"
    more = [
        "-o",
        str(folder),
        "--json",
        "--show-map",
        "logits",
        "--show-layers",
        "up.1.0,mid.0",
        "--method",
        "combined",
    ]
    result = CliRunner().invoke(build_app(), command + more)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["image"] == str(image)
    assert told["shown"]["map"] == "logits" and set(told["shown"]["layers"]) == {"mid.0", "up.1.0"}
    assert told["denoising"] != 0
    assert (folder / "overview.png").exists()
    wrong = CliRunner().invoke(build_app(), [*command, "--show-map", "heat"])
    assert wrong.exit_code == 2


def test_explaining_imports_no_matplotlib(tiny: Path) -> None:
    code = (
        "import sys, numpy as np; from discffusion import Scorer\n"
        f"found = Scorer({str(tiny)!r}, device='cpu', steps=1).explain(np.zeros((8, 8, 3), np.uint8), 'a dog')\n"
        "found.maps, found.to_dict(); print('matplotlib' in sys.modules, 'torch' in sys.modules)"
    )
    result = run_python(code)
    assert result.stdout.strip() == "False False", result.stderr
