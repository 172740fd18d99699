"""What the page asks for, without the page: input is checked here, and the model is loaded once."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from discffusion import _native
from discffusion._progress import Progress
from discffusion.calibration import Calibration
from discffusion.config import preset_names
from discffusion.deltas import Deltas
from discffusion.errors import ConfigError, ImageError

if TYPE_CHECKING:
    import PIL.Image

    from discffusion.explanation import Explanation
    from discffusion.scorer import Scorer

__all__ = ["DemoService", "Limits", "RankingResult"]


@dataclass(frozen=True)
class Limits:
    """The most that is taken from a visitor.

    Attributes:
        bytes: of an image file.
        pixels: of an image, read from the file's header before anything is decoded.
        texts: lines.
        characters: of a text.
        waiting: requests that wait for the model.
    """

    bytes: int = 20 * 1024 * 1024
    pixels: int = 40_000_000
    texts: int = 20
    characters: int = 1000
    waiting: int = 20


@dataclass(frozen=True)
class RankingResult:
    """Texts for an image, best first.

    Attributes:
        ranking: score and text.
        note: how they were computed, and which texts were cut, in a sentence or two.
        probabilities: of a match, 0 to 1, one a text; None where the score has no calibration.
    """

    ranking: list[tuple[float, str]]
    note: str
    probabilities: list[float] | None = None


class DemoService:
    """Answers what visitors ask of one model, with any preset and any of the deltas. May be used from many threads.

    Args:
        scorer: the model.
        fields: options that are set on top of every preset.
        deltas: files of deltas that can be chosen.
        limits: the most that is taken from a visitor.
        calibrations: files of calibrations, which can be chosen in place of a preset: each has its own options, of
            which ``batch_size``, ``truncate`` and ``seed`` alone are those of `fields`. One belongs to the model with
            one of the deltas, or without.

    Raises:
        ConfigError: an option is unknown, two files have one name, or a calibration cannot be read or belongs to
            another model or to deltas that are not given.
        DeltasError: a file of deltas cannot be read, or fits another architecture.
    """

    #: the choice of no deltas
    PLAIN = "none"

    def __init__(
        self,
        scorer: Scorer,
        fields: Mapping[str, Any] | None = None,
        deltas: tuple[str | os.PathLike[str], ...] = (),
        limits: Limits | None = None,
        calibrations: tuple[str | os.PathLike[str], ...] = (),
    ) -> None:
        self.model = f"{scorer.model_id}, {scorer.dtype} on {scorer.device}"
        self.limits = limits or Limits()
        options = {"truncate": "silent", **(fields or {})}  # the note says which texts are cut
        make = _native.core().ScoreConfig.make
        self._configs = {name: make(name, **options) for name in preset_names()}
        self._scorers = {self.PLAIN: scorer}
        for path in deltas:
            name = Path(path).name
            if name in self._scorers:
                raise ConfigError(f"deltas {os.fspath(path)!r}: there is another file of the name {name!r}")
            self._scorers[name] = scorer.with_deltas(Deltas.load(path, scorer))
        self.deltas = tuple(self._scorers)
        # by the calibration's name, those of the scorers that it belongs to, by the name of their deltas
        self._calibrated: dict[str, dict[str, Scorer]] = {}
        own = {name: value for name, value in options.items() if name in ("batch_size", "truncate", "seed")}
        for path in calibrations:
            name = Path(path).name
            if name in self._calibrated or name in self._configs:
                raise ConfigError(
                    f"calibration {os.fspath(path)!r}: there is another choice of the name {name!r}"
                )
            self._calibrated[name] = self._of(Calibration.load(path), own)
        self.presets = (*self._configs, *self._calibrated)

    def _of(self, calibration: Calibration, options: Mapping[str, Any]) -> dict[str, Scorer]:
        """The scorers that a calibration belongs to, calibrated.

        Raises:
            ConfigError: there are none.
        """
        found, problem = {}, None
        for deltas, scorer in self._scorers.items():
            try:
                found[deltas] = scorer.with_config(**options).with_calibration(calibration)
            except ConfigError as error:
                problem = problem or error
        if not found and problem is not None:
            raise problem
        return found

    def rank(
        self,
        image: str | os.PathLike[str] | None,
        lines: str,
        preset: str,
        deltas: str,
        progress: Progress = False,
    ) -> RankingResult:
        """The texts, one a line, ranked for an image file.

        Raises:
            ImageError: there is no image, or it cannot be read, or it is too large.
            ConfigError: there are no texts or too many, one is too long, or a choice is unknown.
        """
        data, texts, scorer = self._image(image), self._texts(lines), self._scorer(preset, deltas)
        start = time.perf_counter()
        ranked = scorer.rank(data, texts, progress=progress)
        seconds = time.perf_counter() - start
        kind = "calibration" if preset in self._calibrated else "preset"
        note = f"{self.model}; {kind} {preset}, deltas {deltas}; {seconds:.1f} s."
        cut = [text for text, (_, is_cut) in zip(texts, scorer.count_tokens(texts), strict=True) if is_cut]
        if cut:
            note += f" Cut to what the model reads: {', '.join(repr(text[:40]) for text in cut)}."
        probabilities = None
        if scorer.has_probability and scorer.calibration is not None:
            probabilities = scorer.calibration.probability([score for _, score in ranked]).tolist()
        return RankingResult([(score, texts[index]) for index, score in ranked], note, probabilities)

    def explain(
        self,
        image: str | os.PathLike[str] | None,
        text: str,
        preset: str,
        deltas: str,
        progress: Progress = False,
    ) -> Explanation:
        """Where the score of an image file and a text comes from. Raises as :meth:`rank`."""
        data, (text,), scorer = self._image(image), self._texts(text), self._scorer(preset, deltas)
        return scorer.explain(data, text, progress=progress)

    def word_maps(
        self,
        image: str | os.PathLike[str] | None,
        text: str,
        preset: str,
        deltas: str,
        progress: Progress = False,
    ) -> PIL.Image.Image:
        """The maps of a text's words on the image, as one image. Raises as :meth:`rank`."""
        import PIL.Image

        from discffusion.plot.figure import png

        # as many in a row as leave their names legible in half a page's width
        figure = self.explain(image, text, preset, deltas, progress).plot_words(columns=3)
        return PIL.Image.open(io.BytesIO(png(figure)))

    def _scorer(self, preset: str, deltas: str) -> Scorer:
        if preset not in self.presets:
            raise ConfigError(f"preset is {preset!r}; there are {', '.join(self.presets)}")
        if deltas not in self._scorers:
            raise ConfigError(f"deltas is {deltas!r}; there are {', '.join(self.deltas)}")
        if preset in self._calibrated:
            of = self._calibrated[preset]
            if deltas not in of:
                raise ConfigError(f"the calibration {preset!r} is of the deltas {' or '.join(map(repr, of))}")
            return of[deltas]
        return self._scorers[deltas].with_config(self._configs[preset])

    def _texts(self, lines: str) -> list[str]:
        texts = list(dict.fromkeys(line.strip() for line in lines.splitlines() if line.strip()))
        if not texts:
            raise ConfigError("there is no text; type one or several, one a line")
        if len(texts) > self.limits.texts:
            raise ConfigError(f"{len(texts)} texts were given; this page takes {self.limits.texts} at a time")
        longest = max(texts, key=len)
        if len(longest) > self.limits.characters:
            raise ConfigError(
                f"the text {longest[:40]!r}… has {len(longest)} characters; this page takes {self.limits.characters}"
            )
        return texts

    def _image(self, path: str | os.PathLike[str] | None) -> bytes:
        """The file's bytes, if they are few enough and their header says few enough pixels."""
        import PIL.Image

        if path is None:
            raise ImageError("there is no image; choose one, or drop it on the page")
        file = Path(path)
        size = file.stat().st_size
        if size > self.limits.bytes:
            most = self.limits.bytes / 1024**2
            raise ImageError(
                f"the image has {size / 1024**2:.1f} MB; this page takes {most:g} MB, scale it down"
            )
        data = file.read_bytes()
        try:
            with PIL.Image.open(io.BytesIO(data)) as pil_image:  # reads the header alone
                width, height = pil_image.size
        except PIL.Image.DecompressionBombError:
            raise self._too_large("more pixels than any photograph") from None
        except (OSError, ValueError, SyntaxError):
            return data  # no format known here: the core says what it knows, and has a limit of its own
        if width * height > self.limits.pixels:
            raise self._too_large(f"{width} x {height} pixels")
        return data

    def _too_large(self, what: str) -> ImageError:
        most = self.limits.pixels / 1e6
        return ImageError(f"the image has {what}; this page takes {most:g} million pixels, scale it down")
