"""The page itself, in Gradio. Fonts are the system's, and nothing is fetched from anywhere else."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from discffusion.config import preset_names
from discffusion.demo.service import DemoService
from discffusion.errors import DiscffusionError

__all__ = ["page", "theme"]

_ABOUT = """# How well do an image and a text match?
Choose an image and type some texts, one a line. A text-to-image diffusion model removes noise from
the image with each text as its condition; the default preset ranks the texts by how much they help, the preset
attention by where the model looks. Higher is better; scores compare within one preset only. Where a score has a
calibration, the probability of a match stands beside it."""

# one request at a time: the model uses all cores, or the whole device, for each
_ONE = {"concurrency_limit": 1, "concurrency_id": "model", "api_visibility": "private"}


# as a default argument, Gradio puts the bar of the request in its place
_BAR = gr.Progress()


def theme() -> Any:
    """Gradio's plain theme in the system's fonts."""
    return gr.themes.Base(
        font=["ui-sans-serif", "system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )


def page(service: DemoService, preset: str, deltas: str) -> Any:
    """The page, with a queue in front of the model, not yet served."""
    with gr.Blocks(title="discffusion", analytics_enabled=False) as blocks:
        gr.Markdown(_ABOUT)
        scored = gr.State(None)  # the image and the choices that the ranking belongs to
        with gr.Row():
            with gr.Column():
                image = gr.Image(
                    label="Image", sources=["upload", "clipboard"], height=320, buttons=[], elem_id="image"
                )
                image.preprocess = _path
                texts = gr.Textbox(
                    label="Texts, one a line", lines=4, max_lines=service.limits.texts, elem_id="texts"
                )
                with gr.Row():
                    preset_choice = gr.Radio(
                        list(service.presets),
                        value=preset,
                        label="Preset"
                        if len(service.presets) == len(preset_names())
                        else "Preset or calibration",
                        scale=3,
                        elem_id="preset",
                    )
                    deltas_choice = gr.Dropdown(
                        list(service.deltas), value=deltas, label="Deltas", scale=2, elem_id="deltas"
                    )
                button = gr.Button("Score", variant="primary", elem_id="score")
            with gr.Column():
                ranking = gr.Dataframe(
                    headers=["score", "probability", "text"],
                    datatype=["str", "str", "str"],
                    type="array",
                    column_count=3,
                    column_widths=["20%", "20%", "60%"],
                    interactive=False,
                    wrap=True,
                    label="Ranking, best first",
                    buttons=[],
                    elem_id="ranking",
                )
                note = gr.Markdown(elem_id="note")
                shown = gr.Dropdown(
                    [],
                    label="Word maps of",
                    info="Where the model looks for each word, and what the word adds to the score.",
                    visible=False,
                    elem_id="shown",
                )
                maps = gr.Image(
                    label="Word maps",
                    show_label=False,
                    format="png",
                    interactive=False,
                    buttons=["fullscreen", "download"],
                    visible=False,
                    elem_id="maps",
                )
        asked = [image, texts, preset_choice, deltas_choice]
        button.click(_ranked(service), asked, [ranking, note, shown, maps, scored], **_ONE).success(
            _mapped(service), [scored, shown], maps, **_ONE
        )
        shown.input(_mapped(service), [scored, shown], maps, **_ONE)
    blocks.queue(max_size=service.limits.waiting, api_open=False)
    return blocks


def _path(payload: Any) -> str | None:
    """The file as it came: Gradio itself would decode it before its size is known."""
    return None if payload is None else payload.path


def _ranked(service: DemoService) -> Callable[..., tuple[Any, ...]]:
    def ranked(image: str | None, texts: str, preset: str, deltas: str, bar: Any = _BAR) -> tuple[Any, ...]:
        with _errors_on_the_page():
            answer = service.rank(image, texts, preset, deltas, _progress(bar))
        matching = [""] * len(answer.ranking)
        if answer.probabilities is not None:
            matching = [f"{p:.1%}" for p in answer.probabilities]
        rows = [[f"{score:.6g}", p, text] for (score, text), p in zip(answer.ranking, matching, strict=True)]
        ordered = [text for _, text in answer.ranking]
        choice = gr.Dropdown(ordered, value=ordered[0], visible=True)
        return rows, answer.note, choice, gr.Image(None, visible=True), (image, preset, deltas)

    return ranked


def _mapped(service: DemoService) -> Callable[..., Any]:
    def mapped(scored: tuple[str, str, str] | None, text: str | None, bar: Any = _BAR) -> Any:
        if scored is None or text is None:
            return None
        image, preset, deltas = scored
        with _errors_on_the_page():
            return service.word_maps(image, text, preset, deltas, _progress(bar))

    return mapped


def _progress(bar: Any) -> Callable[[int, int], None]:
    def report(done: int, total: int) -> None:
        bar((done, total), unit="evaluations")

    return report


@contextmanager
def _errors_on_the_page() -> Iterator[None]:
    """Errors of ours as a message on the page; others too, and their trace on the terminal."""
    try:
        yield
    except DiscffusionError as error:
        raise gr.Error(html.escape(str(error)), print_exception=False) from None
    except Exception as error:
        raise gr.Error(
            html.escape(f"unexpected {type(error).__name__}; the terminal shows the trace")
        ) from error
