"""Text on pictures, also in a plain installation, which has no matplotlib, and in a bare one."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from dqn_plugins.wrappers.drawing import lettering
from dqn_plugins.wrappers.drawing.lettering import fitted, signed, text_width, write


@pytest.fixture(
    params=[(), ("matplotlib",), ("matplotlib", "pygame")], ids=["matplotlib", "plain", "bare"]
)
def has_greek(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """With matplotlib's font, with Pillow's and pygame's, and with Pillow's alone."""
    caches = (lettering.fonts, lettering._drawing, lettering._legible, lettering._stamp)
    for missing in request.param:
        monkeypatch.setitem(sys.modules, missing, None)
    for cache in caches:
        cache.cache_clear()
    yield len(request.param) < 2
    for cache in caches:
        cache.cache_clear()


def drawn(text: str) -> npt.NDArray[np.uint8]:
    image = Image.new("RGB", (400, 30))
    write(image, (0, 0), text, 16, (255, 255, 255))
    return np.asarray(image)


@pytest.mark.parametrize(
    ("text", "plainly"),
    [
        (signed(-12.5, 1), "-12.5"),
        ("ε-greedy, Δ 2", "epsilon-greedy, DELTA 2"),
        ("Łódź, Ørsted, ß", "LODZ"),
        ("10 × 10 → 1", "10 x 10 -> 1"),
        ("a\N{NO-BREAK SPACE}b \N{EN DASH} c", "a b - c"),
        ("é, ü, ñ", "e, u, n"),
        ("你", "?"),
    ],
)
def test_no_glyph_is_an_empty_box(has_greek: bool, text: str, plainly: str) -> None:
    for character in lettering.legible(text, 16):
        face = lettering._drawing(character, 16)
        box, glyph = face.getmask(lettering.NO_CHARACTER), face.getmask(character)
        assert (glyph.size, bytes(glyph)) != (box.size, bytes(box)), character
    if not has_greek and plainly != "LODZ":
        assert np.array_equal(drawn(text), drawn(plainly))
        assert text_width(text, 16) == text_width(plainly, 16)


def test_what_a_font_has_is_drawn(has_greek: bool) -> None:
    assert lettering.legible("±1°", 16) == "±1°"
    assert (lettering.legible("−ε é Ł", 16) == "−ε é Ł") == has_greek


def test_all_fonts_stand_on_one_line(has_greek: bool) -> None:
    """The foot of a Greek letter beside that of an ordinary one, where it is not spelt."""
    texts = ("x", "xε", "ω", "m") if has_greek else ("x", "m")
    feet = [np.flatnonzero(drawn(text).any(axis=(1, 2))).max() for text in texts]
    assert max(feet) - min(feet) <= 1


def test_a_shortened_line_fits(has_greek: bool) -> None:
    short = fitted("the left engine − and the right one", 16, 120)
    assert text_width(short, 16) <= 121
    assert short[-1] in "…."
    assert fitted("left", 16, 120) == "left"
