#!/usr/bin/env python3
"""Turns a pair of IDX files, images and their labels, into a folder of PNG files.

    idx_to_png.py IMAGES.gz LABELS.gz KIND,KIND,… FOLDER

writes FOLDER/KIND/00000.png …, numbered as in the file; the n-th kind is what label n means. The
folder appears once it is complete. The format: http://yann.lecun.com/exdb/mnist/ (unsigned bytes in
one or three dimensions).
"""

import gzip
import math
import os
import pathlib
import shutil
import struct
import sys
import zlib

from PIL import Image


class BadFile(Exception):
    """A file that is not what it should be; the message names it and says why."""


def read_idx(path, dimensions):
    """The shape and the bytes of a gzipped IDX file of unsigned bytes."""
    try:
        with gzip.open(path) as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise BadFile(f"'{path}' cannot be read: {error}") from None
    header = 4 + 4 * dimensions
    if content[:4] != bytes([0, 0, 8, dimensions]) or len(content) < header:
        raise BadFile(f"'{path}' is not an IDX file of bytes in {dimensions} dimensions")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    count = math.prod(shape)
    if len(content) != header + count:
        raise BadFile(f"'{path}' should hold {count} bytes after its header, but holds "
                      f"{len(content) - header}")
    return shape, memoryview(content)[header:]


def write_pictures(images_path, labels_path, kinds, folder):
    """Writes all pictures into `folder`, which must be new; returns their number."""
    (count, height, width), pixels = read_idx(images_path, dimensions=3)
    (labelled,), labels = read_idx(labels_path, dimensions=1)
    if labelled != count:
        raise BadFile(f"'{images_path}' holds {count} images, but '{labels_path}' {labelled} labels")
    for kind in kinds:
        (folder / kind).mkdir()
    size = height * width
    for index, label in enumerate(labels):
        if label >= len(kinds):
            raise BadFile(f"'{labels_path}': label {label} at {index}, but there are {len(kinds)} kinds")
        image = Image.frombytes("L", (width, height), pixels[index * size:(index + 1) * size].tobytes())
        image.save(folder / kinds[label] / f"{index:05}.png")
    return count


def main(images_path, labels_path, kinds, folder):
    folder = pathlib.Path(folder)
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        count = write_pictures(images_path, labels_path, kinds.split(","), partial)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(f"get-data: {folder}: {count} images")


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except (BadFile, OSError) as error:
        sys.exit(f"get-data: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
