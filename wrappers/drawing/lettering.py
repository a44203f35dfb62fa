"""Text on pictures."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import unicodedata
from pathlib import Path
from typing import Any, TypeAlias

from PIL import Image, ImageDraw, ImageFont

Colour: TypeAlias = tuple[int, int, int]

MINUS = "\N{MINUS SIGN}"
ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
DIGITS = frozenset("0123456789.-" + MINUS)
# What stands for a glyph that a font lacks and that Unicode does not take apart.
STAND_INS = {MINUS: "-", "\N{MULTIPLICATION SIGN}": "x", "\N{FRACTION SLASH}": "/"}
STAND_INS |= {"\N{RIGHTWARDS ARROW}": "->", "\N{LEFTWARDS ARROW}": "<-"}
# No character, and none will ever be: drawn is what a font draws for want of a glyph.
NO_CHARACTER = "\U0010ffff"


def _font_of(package: str, path: str, size: int) -> Any:
    """Load a font that a package brings along; None without it."""
    found = importlib.util.find_spec(package)  # located, not imported: imports are slow
    file = Path((found and found.origin) or "").parent / path
    return ImageFont.truetype(str(file), size) if file.is_file() else None


@functools.lru_cache(maxsize=32)
def fonts(size: int) -> list[Any]:
    """
    Load the fonts of captions and labels. DejaVu Sans, which matplotlib brings along, has Greek
    letters, accents and a true minus sign. Pillow's own font has none of them; pygame, which comes
    with Gymnasium's environments, brings a bolder one that has.
    """
    whole = _font_of("matplotlib", "mpl-data/fonts/ttf/DejaVuSans.ttf", size)
    found = [whole] if whole else [ImageFont.load_default(size)]
    return found + [each for each in [_font_of("pygame", "freesansbold.ttf", size)] if each]


@functools.lru_cache(maxsize=1024)
def _drawing(character: str, size: int) -> Any:
    """Find the font that has a character's glyph; None if there is none."""

    def drawn(face: Any, text: str) -> tuple[tuple[int, int], bytes]:
        mask = face.getmask(text)
        return mask.size, bytes(mask)

    for face in fonts(size):
        if character.isascii() or drawn(face, character) != drawn(face, NO_CHARACTER):
            return face
    return None


@functools.lru_cache(maxsize=1024)
def _legible(character: str, size: int) -> str:
    """Spell a character whose glyph the fonts lack with those that they have."""
    if _drawing(character, size) is not None:
        return character
    parts = unicodedata.normalize("NFKD", character).casefold()
    if parts.isascii() or len(parts) > 1:  # an accent has no glyph of its own to spell
        spelt = [part for part in parts if not unicodedata.combining(part)]
        text = "".join(_legible(part, size) for part in spelt)
        return text.upper() if character.isupper() else text
    name = unicodedata.name(character, "")
    if " LETTER " in name:
        name = name.partition(" LETTER ")[2].partition(" WITH ")[0]
        return name if character.isupper() else name.lower()
    dash = unicodedata.category(character) == "Pd"
    return STAND_INS.get(character, "-" if dash else "?")


@functools.lru_cache(maxsize=1024)
def _stamp(text: str, size: int) -> Image.Image:
    # Rasterising a glyph costs 40 µs and up, pasting one that is kept about 4 µs.
    face = _drawing(text[:1], size)
    ascent, descent = fonts(size)[0].getmetrics()  # all stand on the same line
    mask = Image.new("L", (max(1, round(face.getlength(text))), ascent + descent))
    ImageDraw.Draw(mask).text((0, ascent), text, font=face, fill=255, anchor="ls")
    return mask


def _stamps(text: str, size: int) -> list[Image.Image]:
    # Numbers change with every frame, their digits do not. Words are kept whole, but for glyphs of
    # another font.
    text = legible(text, size)
    if DIGITS.issuperset(text):
        return [_stamp(digit, size) for digit in text]
    runs = itertools.groupby(text, lambda character: _drawing(character, size))
    return [_stamp("".join(run), size) for _, run in runs]


def legible(text: str, size: int) -> str:
    """Spell a line with the fonts' glyphs: letters lose accents, a minus becomes a hyphen."""
    if not text.isprintable():
        text = "".join(" " if each.isspace() else each for each in text)
    return text if text.isascii() else "".join(_legible(each, size) for each in text)


def text_width(text: str, size: int) -> int:
    """Measure a line of text."""
    return sum(stamp.width for stamp in _stamps(text, size))


def fitted(text: str, size: int, width: float) -> str:
    """Shorten a line of text, with an ellipsis, until it fits."""
    text, ellipsis = legible(text, size), legible(ELLIPSIS, size)

    def length(line: str) -> float:
        runs = itertools.groupby(line, lambda character: _drawing(character, size))
        return float(sum(face.getlength("".join(run)) for face, run in runs))

    if length(text) <= width:
        return text
    while text and length(text + ellipsis) > width:
        text = text[:-1]
    return text.rstrip() + ellipsis


def write(
    image: Image.Image,
    position: tuple[float, float],
    text: str,
    size: int,
    colour: Colour,
    anchor: str = "lt",
) -> None:
    """
    Write a line of text onto a picture. As in Pillow, the anchor is ``l``, ``m`` or ``r`` for the
    left end, middle or right end, and ``t`` or ``m`` for the top or middle of the line.
    """
    stamps = _stamps(text, size)
    width = sum(stamp.width for stamp in stamps)
    left = position[0] - width * {"l": 0.0, "m": 0.5, "r": 1.0}[anchor[0]]
    top = position[1] - (stamps[0].height * 0.5 if anchor[1] == "m" and stamps else 0.0)
    x, y = round(left), round(top)
    for stamp in stamps:
        image.paste(colour, (x, y), stamp)
        x += stamp.width


def signed(value: float, decimals: int, grouping: str = "", longest: int = 99) -> str:
    """Write a number with the typographic minus, shorter where it would be too long."""
    text = f"{value:{grouping}.{decimals}f}"
    while decimals > 0 and len(text) > longest:
        decimals -= 1
        text = f"{value:{grouping}.{decimals}f}"
    if len(text) > longest:
        text = f"{value:.1e}".replace("e+0", "e").replace("e+", "e")
    if not text.strip("-0."):
        text = text.lstrip("-")
    return text.replace("-", MINUS)
