"""``discffusion explain``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from discffusion.cli.images import read
from discffusion.cli.options import Calibration, Deltas, Setup
from discffusion.cli.results import about, as_json, cells, image_digests, values, warn_of_files

if TYPE_CHECKING:
    from discffusion.explanation import Explanation

_MAPS = "Maps"


def explain(
    setup: Setup,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="An image file, or - for standard input.")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="A text.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for plots, arrays and numbers.", show_default=False),
    ] = None,
    show_map: Annotated[
        Literal["probs", "logits", "cosine", "text_probs"] | None,
        typer.Option(help="Kind of the maps shown.", show_default="probs", rich_help_panel=_MAPS),
    ] = None,
    show_layers: Annotated[
        str | None,
        typer.Option(
            "--show-layers",
            "--show-sites",
            help="Layers whose maps are shown, as --layers names them; several separated by commas. "
            "--show-sites is the deprecated name.",
            show_default="last(1)",
            rich_help_panel=_MAPS,
        ),
    ] = None,
    deltas: Deltas = None,
    calibration: Calibration = None,
) -> None:
    """Take a score apart: what every word, layer and timestep adds to it, and the words' attention maps.

    Prints what each word adds, then what belongs to no word; the sum is the score. Where the score has a calibration,
    the last line is the probability of a match.

    Example: `discffusion explain photo.jpg "a dog on a sofa" -m MODEL -o explained`
    """
    from discffusion.explanation.files import prepare_folder

    warn_of_files([text])
    if output is not None:  # before anything is computed
        prepare_folder(output)
    shown: dict[str, Any] = {}
    if show_map is not None:
        shown["map"] = show_map
    if show_layers is not None:
        shown["layers"] = show_layers.split(",") if "," in show_layers else show_layers
    with setup.scorer(deltas, calibration) as scorer:
        data = read(image)
        explanation = scorer.explain(data, text, **shown)
        (found,) = values(scorer, [explanation.score])
        if setup.json:
            facts = about(scorer, setup.revision, image_digests([(image, data)]))
            typer.echo(as_json({**facts, **explanation.to_dict(), **found, "image": image}))
        else:
            _print(explanation)
            for name, cell in zip(found, cells(found), strict=True):
                typer.echo(f"{cell}\t{name}")
    if output is not None:  # last, so that what was found is printed whatever becomes of the files
        explanation.save(output)


def _print(explanation: Explanation) -> None:
    for word, value in zip(explanation.words, explanation.per_word, strict=True):
        typer.echo(f"{value:+.6g}\t{word.text}")
    for token, value in zip(explanation.tokens, explanation.per_token, strict=True):
        if token.kind != "own":
            typer.echo(f"{value:+.6g}\t{token.text}")
    if explanation.denoising_per_timestep.any():
        typer.echo(f"{explanation.denoising:+.6g}\tdenoising")
    if explanation.prior_per_timestep.any():
        typer.echo(f"{explanation.prior:+.6g}\tprior")
