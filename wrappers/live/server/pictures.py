"""Frames as files that browsers show."""

from __future__ import annotations

import io

from PIL import Image

__all__ = ["encoded"]

WIDEST = 1280
# Up to this many pixels PNG is small enough, and keeps the edges of what is made of a few of them.
FEW_PIXELS = 160 * 210
QUALITY = 85


def encoded(pixels: bytes, height: int, width: int) -> bytes:
    """Encode a frame: small ones as PNG, others as JPEG."""
    image = Image.frombuffer("RGB", (width, height), pixels, "raw", "RGB", 0, 1)
    if width > WIDEST:
        image = image.reduce(-(-width // WIDEST))
    file = io.BytesIO()
    if height * width <= FEW_PIXELS:
        image.save(file, "PNG", compress_level=1)
    else:
        image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
