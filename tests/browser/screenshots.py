"""Makes the pictures of the status page that the documents show.

python tests/browser/screenshots.py HOST_HARNESS FOLDER
"""

import re
import struct
import sys
import zlib
from collections import Counter
from pathlib import Path

from browser import Browser
from scene import Scene

MOST_BYTES = 150_000
COLOURS = 256


def with_few_colours(picture):
    """The same PNG with the most frequent colours, and the nearest one in the place of each other: a fourth of the bytes."""
    chunks, at = {}, 8
    while at < len(picture):
        length, kind = struct.unpack(">I4s", picture[at : at + 8])
        chunks[kind] = chunks.get(kind, b"") + picture[at + 8 : at + 8 + length]
        at += 12 + length
    width, height, depth, colour_type = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    size = {2: 3, 6: 4}[colour_type]
    assert depth == 8, depth
    lines, above = zlib.decompress(chunks[b"IDAT"]), bytes(width * size)
    rows = []
    for number in range(height):
        start = number * (width * size + 1)
        above = unfiltered(lines[start], bytearray(lines[start + 1 : start + 1 + width * size]), above, size)
        rows.append([bytes(above[place : place + 3]) for place in range(0, width * size, size)])
    palette = [colour for colour, _ in Counter(colour for row in rows for colour in row).most_common(COLOURS)]
    numbers = {colour: number for number, colour in enumerate(palette)}

    def number_of(colour):
        if colour not in numbers:
            distance = lambda other: sum((one - two) ** 2 for one, two in zip(colour, palette[other]))
            numbers[colour] = min(range(len(palette)), key=distance)
        return numbers[colour]

    pixels = b"".join(b"\0" + bytes(map(number_of, row)) for row in rows)
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = [(b"IHDR", head), (b"PLTE", b"".join(palette)), (b"IDAT", zlib.compress(pixels, 9)), (b"IEND", b"")]
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return picture[:8] + b"".join(chunk(kind, data) for kind, data in parts)


def unfiltered(kind, line, above, size):
    """A line of a PNG before its filter, as the standard of PNG says."""
    for place in range(len(line)):
        left = line[place - size] if place >= size else 0
        corner = above[place - size] if place >= size else 0
        up = above[place]
        if kind == 4:
            guess = left + up - corner
            nearest = min((abs(guess - left), 0, left), (abs(guess - up), 1, up), (abs(guess - corner), 2, corner))[2]
            line[place] = (line[place] + nearest) & 255
        elif kind:
            line[place] = (line[place] + {1: left, 2: up, 3: (left + up) // 2}[kind]) & 255
    return line


def main(harness, folder):
    with Scene(harness) as scene, Browser() as browser:
        tab = browser.tab(scene.url)
        scope = re.search(r'href="(scope\?[^"]+)"', scene.get("tenant?tenant=contoso")[1]).group(1).replace("&amp;", "&")
        for name, path, width, scheme, height in [
            ("status-page", "", 1280, "light", 1750),
            ("status-page-scope", scope, 1280, "dark", 1150),
            ("status-page-phone", "tenant?tenant=contoso", 390, "light", 1300),
        ]:
            tab.shape(width, scheme)
            file = Path(folder, f"{name}.png")
            tab.open(path).picture(file, height)
            file.write_bytes(with_few_colours(file.read_bytes()))
            size = file.stat().st_size
            assert size < MOST_BYTES, f"{file} has {size} bytes, more than {MOST_BYTES}"
            print(f"{file}: {size} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
