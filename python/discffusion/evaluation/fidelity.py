"""FID and inception score of generated images, by torch-fidelity (``pip install "discffusion[fidelity]"``)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from discffusion._deprecated import renamed_argument
from discffusion._extras import need
from discffusion.errors import CheckpointError, ConfigError

__all__ = ["WEIGHTS", "fidelity"]

#: name of the file of weights that torch-fidelity publishes with its release 0.2.0
WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@renamed_argument(pictures="images")
def fidelity(
    images: str | os.PathLike[str] | Iterable[Any],
    real: str | os.PathLike[str] | Iterable[Any] | None = None,
    *,
    weights: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    batch_size: int = 16,
) -> dict[str, float]:
    """How good images are as a whole: the inception score, and the distance to real ones (FID; lower is better).

    Both depend on the number of images: papers use thousands. Nothing is downloaded.

    Args:
        images: a folder, or images of any kind that a scorer takes.
        real: the same; without any there is no FID.
        weights: of the Inception network, torch-fidelity's file; None looks for it among torch's downloads.
        device: ``"cpu"`` or ``"cuda"``.
        batch_size: images at a time.

    Returns:
        ``inception_score``, its spread over ten parts ``inception_score_std``, and ``fid``.

    Raises:
        InstallationError: torch-fidelity is not installed.
        CheckpointError: the weights are missing, or no tensors alone.
        ConfigError: there are fewer than two images.
    """
    torch, library = need("torch", "fidelity"), need("torch_fidelity", "fidelity")
    path = Path(weights) if weights is not None else Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS
    with TemporaryDirectory(prefix="discffusion-") as folder:
        safe = Path(folder) / "inception.pth"
        _copy_tensors(torch, path, safe)
        made = _dataset(torch, images)
        options: dict[str, Any] = {
            "input1": made,
            "isc": True,
            "isc_splits": min(10, len(made)),  # ten as published; an empty one has no score
            "cuda": device != "cpu",
            "batch_size": batch_size,
            "feature_extractor_weights_path": str(safe),
            "cache": False,
            "verbose": False,
        }
        if real is not None:
            options |= {"input2": _dataset(torch, real), "fid": True}
        measured = library.calculate_metrics(**options)
    names = {
        "inception_score_mean": "inception_score",
        "inception_score_std": "inception_score_std",
        "frechet_inception_distance": "fid",
    }
    return {names[name]: float(value) for name, value in measured.items() if name in names}


def _copy_tensors(torch: Any, path: Path, to: Path) -> None:
    """The file's tensors without anything that a pickle could run: torch-fidelity itself reads all of it."""
    if not path.is_file():
        raise CheckpointError(
            f"{path} is not there; fetch {WEIGHTS} from the releases of torch-fidelity and give it as weights"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as why:
        raise CheckpointError(
            f"{path} does not hold tensors alone ({type(why).__name__}); fetch it again"
        ) from why
    torch.save(state, to)


def _dataset(torch: Any, given: Any) -> Any:
    """What torch-fidelity reads: images uint8 [3, H, W] by index."""
    from discffusion.images import is_single, prepare

    if isinstance(given, str | os.PathLike):
        folder = Path(given)
        if not folder.is_dir():
            raise ConfigError(f"{folder} is not a folder of images")
        given = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    items = [given] if is_single(given) else list(given)
    if len(items) < 2:
        raise ConfigError(f"{len(items)} images were given; expected two or more")

    class Pictures(torch.utils.data.Dataset):  # type: ignore[misc]
        def __len__(self) -> int:
            return len(items)

        def __getitem__(self, index: int) -> Any:
            image = prepare(items[index])
            if isinstance(image, bytes):
                from discffusion import _native

                image = _native.core().decode_image(image)
            return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))

    return Pictures()
