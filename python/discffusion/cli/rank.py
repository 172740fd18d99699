"""``discffusion rank``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from discffusion.cli.images import read
from discffusion.cli.options import Calibration, Deltas, Setup
from discffusion.cli.results import about, as_json, cells, image_digests, values, warn_of_files
from discffusion.cli.stages import Keep, Stages, staging


def rank(
    setup: Setup,
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE...", help="One or more image files.", show_default=False)
    ],
    texts: Annotated[
        list[str],
        typer.Option("--text", "-t", help="A text; may be repeated.", show_default=False),
    ],
    top_k: Annotated[int | None, typer.Option(min=1, help="Print only the best.", show_default="all")] = None,
    stages: Stages = None,
    keep: Keep = None,
    deltas: Deltas = None,
    calibration: Calibration = None,
) -> None:
    """Rank images for a text, or texts for an image, best first.

    Prints a line for each: its rank, its score, the probability of a match where the score has a calibration, and the
    image's file or the text.

    Example: `discffusion rank *.jpg --text "a dog on a sofa" -m MODEL`

    Example: `discffusion rank photo.jpg -t "a dog on a sofa" -t "a cat on a sofa" -m MODEL`
    """
    if len(images) > 1 and len(texts) > 1:
        raise typer.BadParameter("several images and several texts: give one image or one --text")
    how = staging(stages, keep)
    warn_of_files(texts)
    by_text = len(texts) == 1
    candidates = images if by_text else texts
    with setup.scorer(deltas, calibration) as scorer:
        data = [read(image) for image in images]
        given: tuple[Any, Any] = (data, texts[0]) if by_text else (data[0], texts)
        ranking = scorer.rank(*given, top_k, **how)
        found = values(scorer, [score for _, score in ranking])
        rows: list[dict[str, Any]] = [
            {
                "rank": place,
                "index": index,
                "image": images[index if by_text else 0],
                "text": texts[0 if by_text else index],
                **value,
            }
            for place, ((index, _), value) in enumerate(zip(ranking, found, strict=True), start=1)
        ]
        if setup.json:
            facts = about(scorer, setup.revision, image_digests(zip(images, data, strict=True)))
            staged = {} if stages is None else how
            typer.echo(as_json({**facts, **staged, "ranking": rows}))
        else:
            for row, value in zip(rows, found, strict=True):
                typer.echo("\t".join([str(row["rank"]), *cells(value), candidates[row["index"]]]))
