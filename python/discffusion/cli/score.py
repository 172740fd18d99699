"""``discffusion score``."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from discffusion.cli.images import read
from discffusion.cli.options import Setup


def score(
    setup: Setup,
    image: Annotated[str, typer.Argument(help="An image file, or - for standard input.", show_default=False)],
    texts: Annotated[
        list[str], typer.Argument(metavar="TEXT...", help="One or more texts.", show_default=False)
    ],
) -> None:
    """Score an image with texts: one line a text, the score first. Higher matches better.

    Example: `discffusion score photo.jpg "a dog on a sofa" "a cat on a sofa"`
    """
    with setup.scorer() as scorer:
        scores = scorer.matrix([read(image)], texts)[0].tolist()
        if setup.json:
            rows = [{"image": image, "text": text, "score": s} for text, s in zip(texts, scores, strict=True)]
            typer.echo(json.dumps({**describe(scorer), "scores": rows}, indent=2))
        else:
            for text, value in zip(texts, scores, strict=True):
                typer.echo(f"{value:.6g}\t{text}")


def describe(scorer: Any) -> dict[str, Any]:
    """What a result needs beside it to be repeated."""
    from discffusion import __version__

    return {
        "version": __version__,
        "model": scorer.model_id,
        "device": scorer.device,
        "dtype": scorer.dtype,
        "config": scorer.config.to_dict(),
    }
