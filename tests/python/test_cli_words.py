"""What the command line says speaks of its options, not of Python's arguments."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import discffusion
from discffusion.cli import build_app
from discffusion.cli.words import Words, spoken
from discffusion.evaluation import Report
from discffusion.evaluation.record import Record

PACKAGE = Path(discffusion.__file__).parent
#: strings with a name and an equals sign that no command shows as an error, each with the reason
NOT_SHOWN = {
    "Scorer('value'": "how an object prints",
    "Observation(timestep=": "how an object prints",
    "Dataset('value'": "how an object prints",
    "Shapes(split=": "how an object prints",
    "value<img": "HTML",
    "<span style=": "HTML",
    "say which: nth=": "only asked of Explanation in Python",
    "distributed=True needs": "the command line never asks for it",
    "as lambda: Scorer(": "the command line always gives a function",
    "fit needs the model": "the command line fits no baseline",
    "model_max_length=": "a field of a checkpoint's file",
    "load_baseline(": "code in a model card",
    "NAME=": "a placeholder of the command line",
    "=FOLDER": "of the command line itself",
    "=MODEL": "of the command line itself",
}


@pytest.fixture(scope="module")
def words() -> dict[str, Words]:
    return {command.name: command.callback.words for command in build_app().registered_commands}  # type: ignore


@pytest.mark.parametrize(
    ("command", "python", "shell"),
    [
        ("eval", "give another output, or start over with resume=False", "start over with --no-resume"),
        ("train", "(resume=False starts over)", "(--no-resume starts over)"),
        ("train", "give another checkpoint_dir, or", "give another --output, or"),
        ("train", "raise epochs or max_steps, give", "raise --epochs or --max-steps, give"),
        ("train", "train with the same rank, dense (rank=None), or unload them first",
         "dense (without --rank), or leave --init out"),
        ("train", "with in_batch=True and a batch_size of 2", "with --in-batch and a --batch-size of 2"),
        ("train", "batch_size is 0; expected", "--batch-size is 0; expected"),
        ("eval", "and have that reported: allow_missing=True", "and have that reported: --allow-missing"),
        ("train", "and have that reported: allow_missing=True", "and have that reported: --allow-missing"),
        ("score-shards", "what is there with allow_missing=True", "what is there with --allow-cut"),
        ("eval", "to its folder or to image_root=. To", "to its folder or to --data image_root=FOLDER. To"),
        ("reproduce", "below the root, or below image_root=", "or below the dataset's option image_root"),
        ("score-shards", "relative to image_root", "relative to --image-root"),
        ("eval", "comvg needs root=, the folder", "comvg needs --root, the folder"),
        ("eval", "has to be named as split=: a, b", "has to be named as --split: a, b"),
        ("train", "table: split='my train' is for a folder", "table: --split 'my train' is for a folder"),
        ("eval", "so subset=\"a,b\" can be read", "so --subset a,b can be read"),
        ("eval", "task='retrieval' takes", "--data task=retrieval takes"),
        ("eval", "leaky=False is for layout='texts': wrong", "--data leaky=false is for --data layout=texts: wrong"),
        ("eval", "subset='x' needs group=, the column", "--subset x needs --data group=COLUMN, the column"),
        ("eval", "shapes: got an unexpected keyword argument 'b'; its options are split, seed, image_size",
         "'b'; `discffusion eval shapes --list` tells its options"),
        ("score", "sees 0 CUDA device(s); use device=\"cpu\" or install", "use --device cpu or install"),
        ("score", "choose truncate=\"warn\" or \"silent\"", "choose --truncate warn or silent"),
        ("score", "and tokens is \"content\"; use tokens=\"all\" or a text", "use --tokens all or a text"),
        ("score", "steps is 0; expected 1 to 1000", "--steps is 0; expected 1 to 1000"),
        ("score", "lambda_ is 0.0; expected a number above 0", "--lambda is 0.0; expected a number above 0"),
        ("score", "give one of steps, timesteps and noise_levels",
         "give one of --steps, --timesteps and --noise-levels"),
        ("score", "`hf auth login`) or pass token=", "`hf auth login`) or set HF_TOKEN"),
        ("generate", "lower guidance_scale, or use dtype=\"float32\"",
         "lower --guidance-scale, or use --dtype float32"),
        ("score-shards", "actors are of launcher=\"ray\"; other", "actors are of --launcher ray; other"),
        ("score", "load the model it was trained on, or pass strict=False to use it all the same",
         "load the model it was trained on"),
        ("eval", "nothing can be compared; use split='val' or 'train'", "use --split val or train"),
        ("eval", "with negative_texts and negative_images, nothing",
         "with --data negative_texts and --data negative_images, nothing"),
        ("eval", "score without them, or with distributed=False", "score without them, or without torchrun"),
    ],
)  # fmt: skip
def test_an_argument_is_said_as_it_is_typed(
    command: str, python: str, shell: str, words: dict[str, Words]
) -> None:
    said = spoken(python, words[command])
    assert said.endswith(shell)
    assert spoken(said, words[command]) == said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--score-batch-size", "0"], "--score-batch-size is 0; "),
        (["--layers", "attic"], '--layers is "attic"; '),
        (["--train-layers", "attic"], '--train-layers is "attic"; '),
        (["--train-seed", "-1"], "--train-seed is -1; "),
        (["--timesteps-per-step", "0"], "--timesteps-per-step is 0; "),
    ],
)
def test_of_two_options_that_python_gives_one_name(arguments: list[str], said: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        build_app(), ["train", "shapes", "-o", str(tmp_path), "--device", "cpu", *arguments]
    )
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"discffusion: {said}")


@pytest.mark.parametrize(
    "message",
    [
        "there is no file 'a/split=train/steps=3.png'",
        "/data/split=train/x.csv, line 3: text is an empty list; expected a text",
        "table: no column 'noise_levels'; it has 'a', 'batch_size'",
        "the run was of Shapes(split='train', subset=None) and is of another",
        "the text 'steps=3 of root=x' needs 90 tokens",
        "the model 'x/image_root' is not in the cache",
    ],
)
def test_what_users_typed_stays(message: str, words: dict[str, Words]) -> None:
    for command in words.values():
        assert spoken(message, command) == message


def texts_of(source: ast.Module) -> Iterator[str]:
    """All strings but docstrings; formatted ones with something in the place of values."""
    inside = set()
    for node in ast.walk(source):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            inside.add(id(node.value))
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in ast.walk(node) if part is not node}
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant)
                else "'value'" if getattr(part, "conversion", -1) == ord("r") else "value"
                for part in node.values
            )  # fmt: skip
    for node in ast.walk(source):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.value


def messages() -> Iterator[str]:
    """Every string of the package and of the core that names an argument with an equals sign."""
    files = [file for file in PACKAGE.rglob("*.py") if file.parent.name != "cli"]
    found = [text for file in files for text in texts_of(ast.parse(file.read_text()))]
    core = PACKAGE.parents[1] / "src"
    for file in core.rglob("*.rs"):
        code = re.sub(r"^\s*//.*$", "", file.read_text(), flags=re.MULTILINE)
        # a string goes on behind a backslash at the end of a line
        strings = re.findall(r'"((?:[^"\\]|\\.)*)"', re.sub(r"\\\n\s*", "", code), re.DOTALL)
        found += [text.replace('\\"', '"') for text in strings]
    for text in found:
        if " " in text.strip() and len(text) < 600 and re.search(r"(?<![\w.\-])[a-z_]+=(?!=)", text):
            yield text


def test_no_message_names_an_argument(words: dict[str, Words]) -> None:
    every = [text for text in messages() if not any(part in text for part in NOT_SHOWN)]
    assert len(every) > 45
    left = []
    for text in every:
        # in the command that shows most of them; the others are of score-shards and generate
        said = spoken(spoken(spoken(text, words["train"]), words["eval"]), words["score-shards"])
        said = spoken(said, words["generate"])
        said = re.sub(r"--data \w+=\S*", "", said)
        names = re.findall(r"(?<![\w.\-])([a-z_]+)=(?!=)", said)
        left += [(name, text) for name in names if name != "value"]
    assert left == []


def test_notes_below_a_table_speak_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def evaluate(*_: object, **__: object) -> Report:
        record = Record("a", np.array([[1.0, 0.0]]), np.array([[True, False]]))
        note = "leaky=False: 1 of 2 rows are left out for that; the list as published has them"
        return Report.from_records([record], ["accuracy"], settings={}, notes=[note])

    monkeypatch.setattr("discffusion.evaluation.evaluate", evaluate)
    shown = CliRunner().invoke(build_app(), ["eval", "shapes", "--device", "cpu"])
    assert shown.exit_code == 0, shown.output
    last = shown.stdout.splitlines()[-1]
    assert last == "- --data leaky=false: 1 of 2 rows are left out for that; the list as published has them"


def test_the_options_of_a_dataset_can_be_asked_for() -> None:
    shown = CliRunner().invoke(build_app(), ["eval", "table", "--list"])
    assert shown.exit_code == 0, shown.output
    assert re.search(r"^  negative_texts +names of columns", shown.stdout, re.MULTILINE)
    assert re.search(r"^  image_root +folder that relative paths start from", shown.stdout, re.MULTILINE)
    unknown = CliRunner().invoke(build_app(), ["eval", "beach", "--list"])
    assert (unknown.exit_code, unknown.stdout) == (2, "")
