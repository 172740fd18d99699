"""What the page asks for, and what is refused, without a page."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from tests.python.calibration.files import curve_alone, saved
from tests.python.run_python import run_python

from discffusion import Deltas, Scorer, Trainer
from discffusion.demo import DemoService, Limits
from discffusion.errors import ConfigError, DiscffusionError, ImageError


@pytest.fixture
def service(scorer: Scorer) -> DemoService:
    return DemoService(
        scorer, {"steps": 2}, limits=Limits(bytes=20_000, pixels=10_000, texts=3, characters=80)
    )


@pytest.fixture
def image(tmp_path: Path, picture: np.ndarray) -> Path:
    path = tmp_path / "picture.png"
    PIL.Image.fromarray(picture).save(path)
    return path


def test_ranking_is_the_scorers(service: DemoService, scorer: Scorer, image: Path) -> None:
    answer = service.rank(image, " a dog \n\na cat\na dog\n", "default", "none")
    texts = ["a dog", "a cat"]
    assert answer.ranking == [(score, texts[index]) for index, score in scorer.rank(image, texts)]
    paper = service.rank(image, "a dog", "paper", "none")
    assert paper.ranking == [(scorer.with_config("paper", steps=2).score(image, "a dog"), "a dog")]
    assert "preset paper" in paper.note


def test_a_calibration_is_a_choice_beside_the_presets(scorer: Scorer, image: Path, tmp_path: Path) -> None:
    plain = scorer.with_calibration(None)
    file = saved(tmp_path, plain, weighted=True)
    service = DemoService(plain, {"seed": 3}, calibrations=(file,))
    assert service.presets[-1] == file.name
    calibrated = plain.with_config(seed=3).with_calibration(file)
    answer = service.rank(image, "a dog\na cat", file.name, "none")
    ranked = calibrated.rank(image, ["a dog", "a cat"])
    assert answer.ranking == [(score, ["a dog", "a cat"][index]) for index, score in ranked]
    expected = calibrated.calibration.probability([score for _, score in ranked])  # type: ignore[union-attr]
    assert answer.probabilities == expected.tolist()
    assert f"calibration {file.name}, deltas none" in answer.note
    assert service.explain(image, "a dog", file.name, "none").score == pytest.approx(
        calibrated.score(image, "a dog"), abs=1e-6
    )
    other = service.rank(image, "a dog", "attention", "none")
    assert other.probabilities is None
    assert other.ranking[0][0] == plain.with_config("attention", seed=3).score(image, "a dog")


def test_a_score_that_has_a_probability_shows_it(scorer: Scorer, image: Path) -> None:
    calibrated = scorer.with_calibration(curve_alone(scorer.with_config("default")))
    service = DemoService(calibrated)
    answer = service.rank(image, "a dog", "default", "none")
    assert answer.probabilities == [pytest.approx(calibrated.probability(image, "a dog"))]
    assert service.rank(image, "a dog", "paper", "none").probabilities is None


def test_a_calibration_belongs_to_one_of_the_deltas(scorer: Scorer, image: Path, tmp_path: Path) -> None:
    plain = scorer.with_calibration(None)
    rng = np.random.default_rng(0)
    arrays = Trainer(plain, rank=1).deltas.arrays()
    drawn = {name: rng.normal(0, 0.3, array.shape).astype(np.float32) for name, array in arrays.items()}
    deltas = Deltas.from_arrays(drawn, plain)
    deltas.save(tmp_path / "tuned")
    file = saved(tmp_path, plain.with_deltas(deltas), weighted=True)
    with pytest.raises(ConfigError, match="belongs to another scorer: deltas was"):
        DemoService(plain, calibrations=(file,))
    service = DemoService(plain, deltas=(tmp_path / "tuned",), calibrations=(file,))
    assert service.rank(image, "a dog", file.name, "tuned").probabilities is not None
    with pytest.raises(ConfigError, match="'weighted.safetensors' is of the deltas 'tuned'"):
        service.rank(image, "a dog", file.name, "none")
    with pytest.raises(ConfigError, match="another choice of the name"):
        DemoService(plain, deltas=(tmp_path / "tuned",), calibrations=(file, file))


def test_cut_texts_are_named(service: DemoService, image: Path) -> None:
    long = "a b c d e f g h i j k l m n o p q r s t u v w x y z a b c d e f g h i j k l m n"
    service.limits = Limits(characters=1000)
    assert "Cut to what the model reads" in service.rank(image, " ".join([long] * 3), "default", "none").note
    assert "Cut" not in service.rank(image, "a dog", "default", "none").note


def png_header(width: int, height: int) -> bytes:
    """A PNG file of this size that ends where its pixels should begin."""
    parts = [b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT"]
    chunks = (struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"hello", "no image known here"),
        (png_header(101, 100), "101 x 100 pixels; this page takes 0.01 million"),
        (png_header(30_000, 30_000), "pixels than any photograph"),
        (png_header(50, 50), "PNG image"),
        (bytes(20_001), "this page takes 0.0190735 MB"),
    ],
    ids=["empty", "text", "pixels", "bomb", "cut off", "bytes"],
)
def test_bad_images(service: DemoService, tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=message):
        service.rank(path, "a dog", "default", "none")


def test_no_image(service: DemoService) -> None:
    with pytest.raises(ImageError, match="there is no image"):
        service.rank(None, "a dog", "default", "none")


@pytest.mark.parametrize(
    ("texts", "preset", "deltas", "message"),
    [
        (" \n ", "default", "none", "there is no text"),
        ("a\nb\nc\nd", "default", "none", "4 texts were given; this page takes 3"),
        ("a" * 81, "default", "none", "has 81 characters; this page takes 80"),
        ("a", "papr", "none", "there are default, attention, denoising, paper, release"),
        ("a", "default", "others", "there are none"),
    ],
)
def test_bad_choices(
    service: DemoService, image: Path, texts: str, preset: str, deltas: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        service.rank(image, texts, preset, deltas)


def test_a_port_in_use_is_one_line(tiny: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        found = subprocess.run(
            [sys.executable, "-m", "discffusion", "demo", "--model", str(tiny), "--port", port],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert (found.returncode, found.stdout) == (1, "")
    assert len(found.stderr.splitlines()) == 1
    assert f"127.0.0.1, port {port}" in found.stderr


def test_an_address_that_is_not_ours(service: DemoService) -> None:
    from discffusion.demo import serve

    with pytest.raises(DiscffusionError, match=r"192\.0\.2\.1, port 7860"):
        serve(service, host="192.0.2.1")


def test_the_package_brings_no_gradio() -> None:
    code = "import sys, discffusion.demo, discffusion.cli; print('gradio' in sys.modules)"
    assert run_python(code).stdout.strip() == "False"
