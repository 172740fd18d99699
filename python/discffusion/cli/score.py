"""``discffusion score``."""

from __future__ import annotations

from typing import Annotated

import typer

from discffusion.cli.images import read
from discffusion.cli.options import Calibration, Deltas, Setup
from discffusion.cli.results import about, as_json, cells, image_digests, values, warn_of_files


def score(
    setup: Setup,
    image: Annotated[str, typer.Argument(help="An image file, or - for standard input.", show_default=False)],
    texts: Annotated[
        list[str], typer.Argument(metavar="TEXT...", help="One or more texts.", show_default=False)
    ],
    deltas: Deltas = None,
    calibration: Calibration = None,
) -> None:
    """Score an image with texts: one line a text, the score first. Higher matches better.

    Where the score has a calibration, the probability of a match, 0 to 1, stands between score and text.

    Example: `discffusion score photo.jpg "a dog on a sofa" "a cat on a sofa" -m MODEL`

    Without `--model`, the pocket model scores, which knows drawn shapes only:
    `discffusion score scene.png "a red circle left of a blue square"`
    """
    warn_of_files(texts)
    with setup.scorer(deltas, calibration) as scorer:
        data = read(image)
        scores = scorer.matrix([data], texts)[0].tolist()
        rows = list(zip(texts, values(scorer, scores), strict=True))
        if setup.json:
            told = [{"image": image, "text": text, **found} for text, found in rows]
            facts = about(scorer, setup.revision, image_digests([(image, data)]))
            typer.echo(as_json({**facts, "scores": told}))
        else:
            for text, found in rows:
                typer.echo("\t".join([*cells(found), text]))
