"""``discffusion score``."""

from __future__ import annotations

from typing import Annotated

import typer

from discffusion.cli.images import read
from discffusion.cli.options import Deltas, Setup
from discffusion.cli.results import about, as_json, image_digests, warn_of_files


def score(
    setup: Setup,
    image: Annotated[str, typer.Argument(help="An image file, or - for standard input.", show_default=False)],
    texts: Annotated[
        list[str], typer.Argument(metavar="TEXT...", help="One or more texts.", show_default=False)
    ],
    deltas: Deltas = None,
) -> None:
    """Score an image with texts: one line a text, the score first. Higher matches better.

    Example: `discffusion score photo.jpg "a dog on a sofa" "a cat on a sofa" -m MODEL`

    Without `--model`, the pocket model scores, which knows drawn shapes only:
    `discffusion score scene.png "a red circle left of a blue square"`
    """
    warn_of_files(texts)
    with setup.scorer(deltas) as scorer:
        data = read(image)
        scores = scorer.matrix([data], texts)[0].tolist()
        if setup.json:
            rows = [{"image": image, "text": text, "score": s} for text, s in zip(texts, scores, strict=True)]
            facts = about(scorer, setup.revision, image_digests([(image, data)]))
            typer.echo(as_json({**facts, "scores": rows}))
        else:
            for text, value in zip(texts, scores, strict=True):
                typer.echo(f"{value:.6g}\t{text}")
