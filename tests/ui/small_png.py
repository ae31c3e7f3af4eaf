"""Screenshots small enough for a repository: of 256 colours, every pixel the nearest of them.

The colours are the most frequent ones, and then those that are most unlike what is there: icons are small and bright.

The browser reads the picture, since nothing else that is installed does.
"""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

_REDUCED = """
async (data) => {
    const image = new Image();
    image.src = `data:image/png;base64,${data}`;
    await image.decode();
    const context = new OffscreenCanvas(image.width, image.height).getContext('2d');
    context.drawImage(image, 0, 0);
    const pixels = context.getImageData(0, 0, image.width, image.height).data;
    const counts = new Map();
    for (let at = 0; at < pixels.length; at += 4) {
        const colour = (pixels[at] << 16) | (pixels[at + 1] << 8) | pixels[at + 2];
        counts.set(colour, (counts.get(colour) || 0) + 1);
    }
    const channels = (colour) => [colour >> 16, (colour >> 8) & 255, colour & 255];
    const apart = (left, right) => {
        const other = channels(right);
        return channels(left).reduce((sum, value, at) => sum + (value - other[at]) ** 2, 0);
    };
    const colours = [...counts.keys()].sort((left, right) => counts.get(right) - counts.get(left));
    const palette = [];
    const nearest = new Map(colours.map((colour) => [colour, 0]));
    const missing = new Map(colours.map((colour) => [colour, Infinity]));
    const take = (chosen) => {
        palette.push(chosen);
        for (const colour of colours) {
            const distance = apart(colour, chosen);
            if (distance < missing.get(colour)) {
                missing.set(colour, distance);
                nearest.set(colour, palette.length - 1);
            }
        }
    };
    colours.slice(0, 160).forEach(take);
    while (palette.length < Math.min(256, colours.length)) {
        take(colours.reduce((left, right) => (missing.get(right) > missing.get(left) ? right : left)));
    }
    let text = '';
    for (let at = 0; at < pixels.length; at += 4) {
        text += String.fromCharCode(nearest.get((pixels[at] << 16) | (pixels[at + 1] << 8) | pixels[at + 2]));
    }
    return [image.width, image.height, palette.flatMap(channels), btoa(text)];
}
"""


def small_png(blank: Any, picture: bytes) -> bytes:
    """The picture as a PNG of 256 colours at most. `blank` is an empty page of the browser."""
    width, height, palette, encoded = blank.evaluate(_REDUCED, base64.b64encode(picture).decode())
    indices = base64.b64decode(encoded)
    rows = b"".join(b"\0" + indices[at : at + width] for at in range(0, len(indices), width))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", bytes(palette)),
            _chunk(b"IDAT", zlib.compress(rows, 9)),
            _chunk(b"IEND", b""),
        ]
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
