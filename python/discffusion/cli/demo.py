"""``discffusion demo``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from discffusion.cli.options import Setup, of_files
from discffusion.cli.results import as_json

_SERVER = "Server"


def demo(
    setup: Setup,
    deltas: Annotated[
        list[str] | None,
        typer.Option(help="A file of deltas that can be chosen; may be repeated.", show_default=False),
    ] = None,
    calibration: Annotated[
        list[str] | None,
        typer.Option(
            help="A file of a calibration that can be chosen in place of a preset; may be repeated.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to serve at; 0.0.0.0 for all interfaces.", rich_help_panel=_SERVER)
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port; 0 picks a free one.", rich_help_panel=_SERVER)
    ] = 7860,
    max_megabytes: Annotated[
        int, typer.Option(min=1, help="Largest image file taken, in MB.", rich_help_panel=_SERVER)
    ] = 20,
    max_megapixels: Annotated[
        int,
        typer.Option(min=1, max=178, help="Largest image taken, in million pixels.", rich_help_panel=_SERVER),
    ] = 40,
) -> None:
    """Serve a page to this machine's browser: scores, ranking and word maps of an image and several texts.

    Presets, calibrations and deltas can be switched on the page; options of a score are set on top of each preset, and
    do not go with calibrations. Where a score has a calibration, the probability of a match is shown. Nothing is sent
    to any other machine. Needs `pip install "discffusion[demo]"`. Ctrl-C ends it.

    Example: `discffusion demo --deltas few-shot/deltas.safetensors`
    """
    from discffusion._extras import need
    from discffusion.calibration import Calibration
    from discffusion.demo import DemoService, Limits, serve

    for module in ("gradio", "matplotlib.figure"):  # before the model is loaded
        need(module, "demo")
    for path in calibration or ():
        setup.check(path, preset=True)
        with of_files():
            Calibration.load(path)
    limits = Limits(bytes=max_megabytes * 1024**2, pixels=max_megapixels * 1_000_000)
    with setup.scorer() as scorer:
        service = DemoService(scorer, setup.fields, tuple(deltas or ()), limits, tuple(calibration or ()))
        serve(
            service,
            host=host,
            port=port,
            preset=setup.config,
            ready=lambda url: _ready(url, host, setup.json),
        )


def _ready(url: str, host: str, json: bool) -> None:
    typer.echo(as_json({"url": url}, None) if json else url)
    sys.stdout.flush()
    if host not in ("127.0.0.1", "::1", "localhost"):
        print(f"discffusion: anyone who can reach {host} can use the page", file=sys.stderr)
