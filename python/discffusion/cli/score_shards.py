"""``discffusion score-shards``."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

import typer

from discffusion.cli.options import Calibration, Deltas, Setup
from discffusion.cli.results import warn
from discffusion.errors import DatasetError

_SHARDS = "Shards"
_WORKERS = "Workers"


def score_shards(
    setup: Setup,
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="IN... OUT",
            help="Shards (.tar, .parquet, .jsonl), folders, patterns or addresses of them, and the folder for rows.",
            show_default=False,
        ),
    ],
    image_key: Annotated[
        str | None,
        typer.Option(
            help="In tars, the extension of images, as input.jpg.",
            show_default="jpg, png, webp and so on",
            rich_help_panel=_SHARDS,
        ),
    ] = None,
    text_key: Annotated[
        str, typer.Option(help="In tars, the extension of captions.", rich_help_panel=_SHARDS)
    ] = "txt",
    json_text_key: Annotated[
        str | None,
        typer.Option(help="In tars, the field of .json with the caption.", rich_help_panel=_SHARDS),
    ] = None,
    caption_lines: Annotated[
        bool,
        typer.Option("--caption-lines", help="In tars, each line is a caption.", rich_help_panel=_SHARDS),
    ] = False,
    image: Annotated[
        str, typer.Option(help="In tables, the column of images.", rich_help_panel=_SHARDS)
    ] = "image",
    text: Annotated[
        str, typer.Option(help="In tables, the column of texts.", rich_help_panel=_SHARDS)
    ] = "text",
    key: Annotated[
        str | None,
        typer.Option(help="In tables, a column that is copied to the rows.", rich_help_panel=_SHARDS),
    ] = None,
    image_root: Annotated[
        str | None,
        typer.Option(
            help="Where relative paths of images start from.",
            show_default="beside the shard",
            rich_help_panel=_SHARDS,
        ),
    ] = None,
    allow_cut: Annotated[
        bool,
        typer.Option(
            "--allow-cut", help="Also read tars without an end-of-archive marker.", rich_help_panel=_SHARDS
        ),
    ] = False,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", hidden=True)] = False,
    shard_index: Annotated[
        int | None,
        typer.Option(
            help="Score every num-shards-th shard from this one on.",
            show_default="from torchrun or SLURM",
            rich_help_panel=_WORKERS,
        ),
    ] = None,
    num_shards: Annotated[
        int | None,
        typer.Option(
            help="Number of shares.", show_default="from torchrun or SLURM", rich_help_panel=_WORKERS
        ),
    ] = None,
    launcher: Annotated[
        Literal["process", "ray"],
        typer.Option(help="This process, or actors of Ray Data.", rich_help_panel=_WORKERS),
    ] = "process",
    actors: Annotated[
        str | None,
        typer.Option(
            metavar="N or N,N",
            help="On Ray, how many actors, or the fewest and the most.",
            show_default="one a device",
            rich_help_panel=_WORKERS,
        ),
    ] = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="Report the progress of all workers, without scoring.")
    ] = False,
    deltas: Deltas = None,
    calibration: Calibration = None,
) -> None:
    """Score many shards of images with texts, one parquet file a shard, with any number of workers.

    Finished shards are skipped, so workers may die and be started again. What is wrong with an image or a text is told
    in its row; a shard that cannot be read is reported, and the exit status is 1 when the others are done. Where the
    score has a calibration, rows have a column with the probability of a match.

    Example: `discffusion score-shards "laion/{00000..00999}.tar" rows -m MODEL --shard-index 3 --num-shards 8`

    Example: `srun -n 8 discffusion score-shards s3://bucket/laion s3://bucket/rows -m MODEL`

    Example: `discffusion score-shards laion rows -m MODEL --launcher ray`
    """
    if allow_missing:  # what it is called elsewhere is another thing
        warn("--allow-missing of score-shards is --allow-cut now")
    if len(paths) < 2:
        raise typer.BadParameter("give shards and a folder for the rows: score-shards IN... OUT")
    *inputs, output = paths
    setup.check(calibration)
    from discffusion import shards

    if summary:
        result = shards.summarize(inputs, output)
    else:
        result = shards.score_shards(
            inputs,
            output,
            partial(setup.scorer, deltas, calibration),
            shard_index=shard_index,
            num_shards=num_shards,
            launcher=launcher,
            actors=_actors(actors),
            image_key=image_key,
            text_key=text_key,
            json_text_key=json_text_key,
            caption_lines=caption_lines,
            image=image,
            text=text,
            key=key,
            image_root=image_root,
            allow_missing=allow_cut or allow_missing,
        )
    typer.echo(result.to_json() if setup.json else str(result))
    if result.failed:
        name, message = next(iter(sorted(result.failed.items())))
        more = f" (and {len(result.failed) - 1} more)" if len(result.failed) > 1 else ""
        raise DatasetError(f"shard {name} could not be read{more}: {message}")


def _actors(text: str | None) -> int | tuple[int, int] | None:
    if text is None:
        return None
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        return numbers[0]
    if len(numbers) == 2:
        return numbers[0], numbers[1]
    raise typer.BadParameter(
        f"--actors is {text!r}; expected a number, or the fewest and the most, such as 2,8"
    )
