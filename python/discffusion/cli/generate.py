"""``discffusion generate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from discffusion.cli.options import Setup
from discffusion.cli.results import FORMAT, as_json
from discffusion.errors import DiscffusionError, OutputError

_PANEL = "Generation"


def generate(
    setup: Setup,
    prompts: Annotated[
        list[str], typer.Argument(metavar="PROMPT...", help="One or more texts.", show_default=False)
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="File of the image; of several, each gets a number before the ending."
        ),
    ] = Path("generated.png"),
    negative_prompt: Annotated[
        str | None, typer.Option(help="Text to steer away from.", rich_help_panel=_PANEL)
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            help="Seed of the noise; image j of a prompt is made with the seed plus j.",
            rich_help_panel=_PANEL,
        ),
    ] = 0,
    deltas: Annotated[
        str | None, typer.Option(help="File of deltas to generate with.", rich_help_panel="Model")
    ] = None,
) -> None:
    """Generate images of texts: one line an image, its file.

    Example: `discffusion generate "a red circle left of a blue square" --seed 1 -o scene.png`
    """
    _check(output)
    options = dict(setup.generation)
    if "truncate" in options:  # Python takes it from the configuration of the scorer
        setup.fields["truncate"] = options.pop("truncate")
    num_images = options.pop("num_images", 1)
    with setup.scorer(deltas) as scorer, setup.speaking_of("generation"):
        made = scorer.generate(
            prompts, **options, negative_prompt=negative_prompt, seed=seed, num_images=num_images
        )
        rows = []
        for number, image in enumerate(made):
            path = _numbered(output, number, len(made))
            try:
                image.save(path)
            except (OSError, ValueError) as why:
                raise DiscffusionError(f"{path} cannot be written ({why})") from why
            prompt, offset = divmod(number, num_images)
            rows.append({"prompt": prompts[prompt], "seed": seed + offset, "file": str(path)})
        if setup.json:
            facts = {"format": FORMAT, **_about(scorer, options), "revision": setup.revision}
            typer.echo(as_json({**facts, "images": rows}))
        else:
            for row in rows:
                typer.echo(row["file"])


def _check(output: Path) -> None:
    import PIL.Image

    if output.suffix.lower() not in PIL.Image.registered_extensions():
        raise typer.BadParameter(f"{output} does not end as an image's name does, such as .png")
    if not output.parent.is_dir():
        raise OutputError(f"{output.parent} is not a folder")


def _numbered(path: Path, number: int, count: int) -> Path:
    return path if count == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")


def _about(scorer: Any, options: dict[str, Any]) -> dict[str, Any]:
    """What is needed to make the images again."""
    from discffusion import generation
    from discffusion._version import __version__

    described = scorer.describe()
    return {
        "version": __version__,
        "torch": (described.get("versions") or {}).get("torch"),
        **{name: described[name] for name in ("model", "fingerprint", "deltas", "device", "dtype")},
        "options": generation.check(
            scorer._model,
            {**options, "num_images": 1, "batch_size": "auto", "truncate": scorer.config.truncate},
        ),
    }
