"""FID and inception score through torch-fidelity, with an Inception network of random weights: the published ones
are not available offline, so no figure here means anything but in comparison."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from discffusion.errors import CheckpointError, ConfigError
from discffusion.evaluation.fidelity import fidelity


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch_fidelity")
    import torch
    from torch_fidelity import feature_extractor_inceptionv3 as inception

    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(inception.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        torch.manual_seed(0)
        network = inception.FeatureExtractorInceptionV3("random", ["2048"])
    torch.save(network.state_dict(), path)
    return path


def pictures(count: int, seed: int) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    return [draw.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(count)]


@pytest.mark.slow
def test_distances(weights: Path, tmp_path: Path) -> None:
    noise = pictures(6, 0)
    for number, image in enumerate(noise):
        PIL.Image.fromarray(image).save(tmp_path / f"{number}.png")
    same = fidelity(noise, tmp_path, weights=weights)
    assert same["inception_score"] >= 1
    other = fidelity([image // 4 for image in noise], tmp_path, weights=weights)
    # The features of a network that never learned hardly differ, so distances are small; the size says nothing.
    assert other["fid"] > 1000 * abs(same["fid"])


def test_what_is_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="weights-inception"):
        fidelity(pictures(2, 0), weights=tmp_path / "none.pth")
    for given, message in ((pictures(1, 0), "two or more"), (tmp_path / "none", "not a folder")):
        with pytest.raises(ConfigError, match=message):
            fidelity(given, weights=weights)

    class Harmful:
        def __reduce__(self) -> Any:
            return (print, ("run",))

    (tmp_path / "bad.pth").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(CheckpointError, match="tensors alone"):
        fidelity(pictures(2, 0), weights=tmp_path / "bad.pth")
