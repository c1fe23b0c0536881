"""Makes a folder of many small PNGs to measure listing and indexing with: many_files.py FOLDER [COUNT].

COUNT (default 1000000) files in folders of a thousand, as hard links to 256 pictures of three sizes, so
that a million of them take no more room than their names."""

import pathlib
import struct
import sys
import zlib

PICTURES = 256
IN_A_FOLDER = 1000
SIZES = [(32, 32), (32, 40), (24, 32)]


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(height, width, seed):
    """A grey ramp of its own for every seed."""
    rows = b"".join(b"\0" + bytes((seed + x + y) % 256 for x in range(width)) for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows))
            + chunk(b"IEND", b""))


def main():
    folder = pathlib.Path(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    folder.mkdir()
    # File systems limit the links of a file, so every so many begin with new copies.
    most_links = PICTURES * 30_000
    for number in range(count):
        path = folder / f"{number // IN_A_FOLDER:05}" / f"image_{number:08}.png"
        if number % IN_A_FOLDER == 0:
            path.parent.mkdir()
        first = number // most_links * most_links + number % PICTURES
        if number == first:
            path.write_bytes(png(*SIZES[number % len(SIZES)], number))
        else:
            path.hardlink_to(folder / f"{first // IN_A_FOLDER:05}" / f"image_{first:08}.png")


main()
