"""``discffusion rank``."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from discffusion.cli.images import read
from discffusion.cli.options import Setup
from discffusion.cli.score import describe
from discffusion.cli.stages import Keep, Stages, staging


def rank(
    setup: Setup,
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE...", help="One or more image files.", show_default=False)
    ],
    texts: Annotated[
        list[str],
        typer.Option("--text", "-t", help="A text; give it again for more.", show_default=False),
    ],
    top_k: Annotated[int | None, typer.Option(min=1, help="Print only the best.", show_default="all")] = None,
    stages: Stages = None,
    keep: Keep = None,
) -> None:
    """Rank images for a text, or texts for an image, best first: rank, score and what it is of.

    Examples: `discffusion rank *.jpg --text "a dog on a sofa"` and
    `discffusion rank photo.jpg -t "a dog" -t "a cat" -t "a bird"`
    """
    if len(images) > 1 and len(texts) > 1:
        raise typer.BadParameter("several images and several texts: give one image or one --text")
    how = staging(stages, keep)
    by_text = len(texts) == 1
    candidates = images if by_text else texts
    with setup.scorer() as scorer:
        if by_text:
            found = scorer.rank([read(image) for image in images], texts[0], top_k, **how)
        else:
            found = scorer.rank(read(images[0]), texts, top_k, **how)
        if setup.json:
            typer.echo(json.dumps({**describe(scorer), "ranking": _rows(found, images, texts)}, indent=2))
        else:
            for place, (index, value) in enumerate(found, start=1):
                typer.echo(f"{place}\t{value:.6g}\t{candidates[index]}")


def _rows(found: list[tuple[int, float]], images: list[str], texts: list[str]) -> list[dict[str, Any]]:
    by_text = len(texts) == 1
    return [
        {
            "rank": place,
            "index": index,
            "image": images[index if by_text else 0],
            "text": texts[0 if by_text else index],
            "score": value,
        }
        for place, (index, value) in enumerate(found, start=1)
    ]
