"""An explanation as plain data, as HTML and as files."""

from __future__ import annotations

import base64
import io
import json
import os
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from discffusion._extras import need
from discffusion._files import write_bytes, write_text
from discffusion.errors import OutputError
from discffusion.plot.figure import png

if TYPE_CHECKING:
    from discffusion.explanation.explanation import Explanation

__all__ = ["as_dict", "as_html", "prepare_folder", "save"]


def as_dict(explanation: Explanation) -> dict[str, Any]:
    """Everything but the maps as plain data."""
    tokens = [
        {
            "text": token.text,
            "kind": token.kind,
            "start": token.start,
            "stop": token.stop,
            "count": token.count,
            "encoder": token.encoder,
            "contribution": float(value),
        }
        for token, value in zip(explanation.tokens, explanation.per_token, strict=True)
    ]
    words = [
        {
            "text": word.text,
            "start": word.start,
            "stop": word.stop,
            "tokens": list(word.tokens),
            "contribution": float(value),
        }
        for word, value in zip(explanation.words, explanation.per_word, strict=True)
    ]
    return {
        "text": explanation.text,
        "score": explanation.score,
        "denoising": explanation.denoising,
        "prior": explanation.prior,
        "words": words,
        "tokens": tokens,
        "per_layer": explanation.per_layer,
        "per_head": {name: values.tolist() for name, values in explanation.per_head.items()},
        "per_timestep": [
            {
                "timestep": timestep,
                "contribution": float(value),
                "denoising": float(denoising),
                "prior": float(prior),
            }
            for timestep, value, denoising, prior in zip(
                explanation.timesteps,
                explanation.per_timestep,
                explanation.denoising_per_timestep,
                explanation.prior_per_timestep,
                strict=True,
            )
        ],
        "shown": {
            "map": explanation.map,
            "layers": list(explanation.layer_maps),
            "size": list(explanation.image.shape[:2]),
            "view": list(explanation.view),
        },
        "settings": dict(explanation.settings),
    }


def as_html(explanation: Explanation, png_bytes: bytes | None) -> str:
    """The words shaded by what they add, then the plot if there is one."""
    most = float(np.abs(explanation.per_word).max(initial=0.0)) or 1.0
    words = []
    for word, value in zip(explanation.words, explanation.per_word, strict=True):
        # blue adds, orange takes away
        colour = "0, 114, 178" if value >= 0 else "213, 94, 0"
        shade = f"background: rgba({colour}, {0.5 * abs(float(value)) / most:.2f})"
        words.append(f'<span style="{shade}" title="{float(value):+.4g}">{escape(word.text)}</span>')
    head = f"<p>{' '.join(words)}<br>score {explanation.score:.6g}</p>"
    if png_bytes is None:
        return head
    data = base64.b64encode(png_bytes).decode("ascii")
    return f'{head}<img style="max-width: 100%" alt="{escape(explanation.text)}" src="data:image/png;base64,{data}">'


def prepare_folder(folder: str | os.PathLike[str]) -> Path:
    """Makes the folder of :func:`save`, and sees that plots can be drawn.

    Raises:
        InstallationError: matplotlib is not installed.
        OutputError: the folder cannot be made or written.
    """
    need("matplotlib.figure", "plot")
    where = Path(folder).expanduser()
    try:
        where.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder {where} cannot be made: {error.strerror or error}") from None
    if not os.access(where, os.W_OK):
        raise OutputError(f"the folder {where} cannot be written")
    return where


def save(explanation: Explanation, folder: str | os.PathLike[str]) -> None:
    """See :meth:`Explanation.save`."""
    plots = {
        "overview.png": png(explanation.plot()),
        "words.png": png(explanation.plot_words()),
        "layers.png": png(explanation.plot_layers()),
    }
    arrays = io.BytesIO()
    parts: dict[str, Any] = {
        "image": explanation.image,
        "maps": explanation.maps,
        "timestep_maps": explanation.timestep_maps,
        "timesteps": np.array(explanation.timesteps, dtype=np.int64),
        "per_token": explanation.per_token,
        "denoising_per_timestep": explanation.denoising_per_timestep,
        "prior_per_timestep": explanation.prior_per_timestep,
        **{f"layer_maps/{name}": values for name, values in explanation.layer_maps.items()},
        **{f"contributions/{name}": values for name, values in explanation.contributions.items()},
    }
    if explanation.places is not None:
        parts["places"] = explanation.places
    np.savez_compressed(arrays, **parts)
    where = prepare_folder(folder)
    for name, data in {**plots, "explanation.npz": arrays.getvalue()}.items():
        write_bytes(where / name, data)
    # last: where it is, the others are
    text = json.dumps(as_dict(explanation), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(where / "explanation.json", text + "\n")
