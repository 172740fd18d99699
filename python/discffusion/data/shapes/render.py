"""Pictures of scenes: antialiased RGB, drawn large and reduced by averaging."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from discffusion.data.shapes.outline import outline
from discffusion.data.shapes.scene import Background, Scene, Thing
from discffusion.data.shapes.vocabulary import CANVAS, COLOURS

_OVERSAMPLING = 4
_STROKE = 3.0  # width of a hollow shape's line, scene pixels
# corners of a hollow shape's hole, as a factor of the outer ones, so that the line has an even width
_SHARPNESS = {"circle": 1.0, "square": 1.09, "triangle": 1.75, "diamond": 1.6}


def render(scene: Scene, image_size: int = CANVAS) -> Image.Image:
    """The scene as an RGB image of ``image_size`` x ``image_size`` pixels."""
    side = image_size * _OVERSAMPLING
    pil_image = Image.fromarray(_shade(scene.background, image_size))
    layer = pil_image.resize((side, side), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(layer)
    # hollow shapes first, so that nothing hides what they hold
    for thing in sorted(scene.things, key=lambda t: not t.hollow):
        _draw(draw, layer, thing, scene, side / CANVAS)
    return layer.reduce(_OVERSAMPLING)


def _shade(background: Background, image_size: int) -> np.ndarray:
    """uint8 ``[image_size, image_size, 3]``."""
    ramp = (np.arange(image_size) + 0.5) / image_size - 0.5
    slope = background.slope[0] * ramp[None, :] + background.slope[1] * ramp[:, None]
    shade = np.asarray(background.rgb, dtype=np.float64) + slope[..., None]
    return np.clip(np.rint(shade), 0, 255).astype(np.uint8)


def _draw(draw: ImageDraw.ImageDraw, layer: Image.Image, thing: Thing, scene: Scene, scale: float) -> None:
    def corners(size: float, dy: float = 0.0) -> list[tuple[float, float]]:
        points = outline(thing.shape, thing.cx, thing.cy + dy, size)
        return [(x * scale - 0.5, y * scale - 0.5) for x, y in points]

    colour = COLOURS[thing.colour]
    if not thing.hollow:
        draw.polygon(corners(thing.size), fill=colour)
        return
    # a hole of the same outline, filled with what was there before
    size, lift = hole(thing.shape, thing.size)
    before = layer.copy()
    draw.polygon(corners(thing.size), fill=colour)
    mask = Image.new("1", layer.size)
    ImageDraw.Draw(mask).polygon(corners(size, lift), fill=1)
    layer.paste(before, mask=mask)


def hole(shape: str, size: float) -> tuple[float, float]:
    """Size of a hollow shape's hole, and how far below the shape's centre the hole's lies; scene pixels."""
    inner = size - 2 * _STROKE * _SHARPNESS[shape]
    return inner, 0.14 * (size - inner) if shape == "triangle" else 0.0
