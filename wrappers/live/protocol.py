"""What a training's process and its page's process agree on."""

from __future__ import annotations

__all__ = ["CAPACITY", "FRAME", "HEADER", "LOOPBACK", "REQUEST", "STATUS", "WANTED"]

LOOPBACK = "127.0.0.1"

#: Place of the byte that the page counts up when it wants something, in the memory both share.
REQUEST = 0
#: Place of the byte that tells what it wants: the sum of some of :data:`STATUS`, :data:`FRAME`.
WANTED = 1
STATUS, FRAME = 1, 2
#: Where a frame begins, height * width * 3 bytes.
HEADER = 64
#: Bytes in all. The file is sparse, so it takes what frames use.
CAPACITY = HEADER + (48 << 20)
