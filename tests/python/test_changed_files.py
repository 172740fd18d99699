"""Files of a model that change under a live Scorer: an error or the old numbers, never others, never a dead process."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tests.python.run_python import run_python

from discffusion import CheckpointError, Scorer
from discffusion.hub import POCKET, resolve

ROOT = Path(__file__).parents[2]
IMAGE, TEXT = str(ROOT / "examples" / "scene.png"), "a red circle left of a blue square"
FILES = [
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/model.safetensors",
]
QUICK: dict[str, Any] = {"config": "attention", "noise_levels": [0.4], "layers": "all"}

# What reads weights, some of them late, by what it answers.
USES: dict[str, Callable[[Scorer], Any]] = {
    "score": lambda s: s.score(IMAGE, TEXT),
    "explain": lambda s: s.explain(IMAGE, TEXT).maps,
    "full attribution": lambda s: s.with_config(heads="attributed", attribution="full").score(IMAGE, TEXT),
    "denoising": lambda s: s.with_config(method="denoising").score(IMAGE, TEXT),
    "generate": lambda s: np.asarray(s.generate(TEXT, steps=1, guidance_scale=1.0)),
    "deltas": lambda s: _with_deltas(s),
}


def _with_deltas(scorer: Scorer) -> float:
    site = scorer.info()["layers"][-1]
    name = "up_blocks.1.attentions.1.transformer_blocks.0.attn2.to_k"
    assert site["name"] == "up.1.1"
    delta = np.full((site["channels"], 128), 0.01, np.float32)
    changed = scorer.with_config()
    from discffusion.deltas import Deltas

    changed.load_deltas(Deltas.from_arrays({f"{name}.delta": delta}, scorer))
    return changed.score(IMAGE, TEXT)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the pocket model, of one's own."""
    return Path(shutil.copytree(resolve(POCKET)[0], tmp_path / "model"))


@pytest.fixture(scope="module")
def before() -> dict[str, Any]:
    """What each use answers where nothing changes."""
    return {name: use(Scorer(**QUICK)) for name, use in USES.items()}


def other_weights(file: Path) -> bytes:
    """A file of the same names, types and shapes, and so of the same length, with other numbers."""
    changed = {name: (weights * 1.3).astype(weights.dtype) for name, weights in load_file(file).items()}
    part = file.with_suffix(".other")
    save_file(changed, part, metadata={"format": "pt"})
    data = part.read_bytes()
    part.unlink()
    return data


def rewrite(folder: Path) -> None:
    for name in FILES:
        data = other_weights(folder / name)
        with (folder / name).open("r+b") as file:
            file.write(data)
            file.truncate()


def rewrite_keeping_the_time(folder: Path) -> None:
    times = [(folder / name).stat() for name in FILES]
    rewrite(folder)
    for name, then in zip(FILES, times, strict=True):
        os.utime(folder / name, ns=(then.st_atime_ns, then.st_mtime_ns))


def truncate(folder: Path) -> None:
    for name in FILES:
        os.truncate(folder / name, 1000)


def replace(folder: Path) -> None:
    for name in FILES:
        data = other_weights(folder / name)
        (folder / "new").write_bytes(data)
        (folder / "new").replace(folder / name)


def remove(folder: Path) -> None:
    shutil.rmtree(folder)


def touch_nothing_but_names(folder: Path) -> None:
    for name in FILES:
        (folder / f"{name}.backup").hardlink_to(folder / name)
        (folder / name).chmod(0o600)


def answers(scorer: Scorer, name: str) -> Any:
    """What a use answers, or None for the error that a changed file is."""
    try:
        return USES[name](scorer)
    except CheckpointError as error:
        if "was written to after the model was loaded" not in str(error) or ".safetensors" not in str(error):
            raise
        return None


@pytest.mark.parametrize("name", USES)
@pytest.mark.parametrize("change", [rewrite, rewrite_keeping_the_time])
@pytest.mark.parametrize("warm", [False, True])
def test_a_rewritten_file_is_an_error_or_the_old_numbers(
    model: Path, before: dict[str, Any], change: Callable[[Path], None], name: str, warm: bool
) -> None:
    scorer = Scorer(model, **QUICK)
    if warm:
        scorer.score(IMAGE, TEXT)
    change(model)
    found = answers(scorer, name)
    # All that a score needs was read at the first one.
    assert (found is not None) == (warm and name == "score")
    if found is not None:
        np.testing.assert_array_equal(found, before[name])
    # It stays so, and another Scorer has the new numbers.
    assert (answers(scorer, name) is None) == (found is None)
    assert not np.array_equal(USES["score"](Scorer(model, **QUICK)), before["score"])


@pytest.mark.parametrize("name", USES)
@pytest.mark.parametrize("change", [replace, remove, touch_nothing_but_names])
def test_what_is_replaced_or_removed_is_still_read(
    model: Path, before: dict[str, Any], change: Callable[[Path], None], name: str
) -> None:
    scorer = Scorer(model, **QUICK)
    change(model)
    np.testing.assert_array_equal(USES[name](scorer), before[name])


@pytest.mark.parametrize("change", [rewrite, truncate, remove])
def test_what_was_read_at_once_needs_no_file(
    model: Path, before: dict[str, Any], change: Callable[[Path], None]
) -> None:
    told = Scorer(model).describe()["parts"]
    scorer = Scorer(model, lazy=False, **QUICK)
    change(model)
    for name in USES:
        np.testing.assert_array_equal(USES[name](scorer), before[name])
    assert scorer.describe()["parts"] == told


TRUNCATED = """
import os
from tests.python.test_changed_files import IMAGE, QUICK, TEXT, answers, truncate
from discffusion import Scorer
from pathlib import Path

scorer = Scorer(os.environ["MODEL"], **QUICK)
if os.environ["WARM"]:
    scorer.score(IMAGE, TEXT)
truncate(Path(os.environ["MODEL"]))
print("an error" if answers(scorer, os.environ["USE"]) is None else "an answer")
"""


@pytest.mark.parametrize(("name", "warm"), [("score", ""), ("generate", "yes"), ("full attribution", "yes")])
def test_a_shortened_file_does_not_end_the_process(model: Path, name: str, warm: str) -> None:
    done = run_python(TRUNCATED, ROOT, MODEL=str(model), USE=name, WARM=warm)
    assert (done.returncode, done.stdout.strip()) == (0, "an error"), done.stderr


def test_an_identity_is_never_that_of_a_changed_file(model: Path) -> None:
    scorer = Scorer(model, **QUICK)
    rewrite_keeping_the_time(model)
    with pytest.raises(CheckpointError, match="was written to"):
        scorer.describe()


NO_MAPS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* As a file system that cannot map: weights cannot be mapped. */
void *mmap(void *at, size_t length, int protection, int flags, int file, off_t offset) {
  static void *(*given)(void *, size_t, int, int, int, off_t);
  char link[64], path[4096];
  if (file >= 0) {
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size > 0) {
      path[size] = 0;
      if (strstr(path, ".safetensors")) { errno = ENODEV; return MAP_FAILED; }
    }
  }
  if (given == NULL) given = (void *(*)(void *, size_t, int, int, int, off_t))dlsym(RTLD_NEXT, "mmap");
  return given(at, length, protection, flags, file, offset);
}
void *mmap64(void *at, size_t length, int protection, int flags, int file, off_t offset) {
  return mmap(at, length, protection, flags, file, offset);
}
"""
SCORE = """
from tests.python.test_changed_files import IMAGE, TEXT, QUICK
from discffusion import Scorer
import mmap, os
try:
    with open(os.environ["WEIGHTS"], "rb") as file: mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
except OSError as error: print(error.strerror)
print(repr(Scorer(**QUICK).score(IMAGE, TEXT)))
"""


def test_a_file_system_that_cannot_map(tmp_path: Path, before: dict[str, Any]) -> None:
    source, library = tmp_path / "no_maps.c", tmp_path / "no_maps.so"
    source.write_text(NO_MAPS)
    compiler = [
        os.environ.get("CC", "cc"),
        "-O1",
        "-shared",
        "-fPIC",
        str(source),
        "-o",
        str(library),
        "-ldl",
    ]
    subprocess.run(compiler, check=True)
    weights = resolve(POCKET)[0] / FILES[0]
    done = run_python(SCORE, ROOT, LD_PRELOAD=str(library), WEIGHTS=str(weights))
    assert done.returncode == 0, done.stderr
    refused, score = done.stdout.split("\n")[:2]
    assert (refused, float(score)) == ("No such device", before["score"])
