#!/usr/bin/env python3
"""Round and square parts under a camera, and frames that must never pass as good.

    python tests/inspection_parts.py OUT             writes OUT/{round,square}, the MVTec layout, and
                                                     OUT/frames/{round,square}/KIND
    python tests/inspection_parts.py OUT --good DIR  writes OUT/KIND: frames made from the good pictures of DIR

Good parts vary a little in place, size, angle (2 degrees), light and grain. Everything follows from the seed.
"""

import argparse
import pathlib

import cv2
import numpy as np
from PIL import Image

from drawn_defects import smooth
from drawn_parts import save
from inspection_textures import make_set, seeded, texture

SHAPES = ("round", "square")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
SIDES = (136, 185)  # of a picture, in pixels; the upper one is not reached


def disc(x, y, cx, cy, radius):
    """Opacity of a disc; lengths are parts of the picture's short side."""
    return np.clip((radius - np.hypot(x - cx, y - cy)) * 150 + 0.5, 0, 1)


def box(x, y, cx, cy, half_width, half_height, corner=0.03):
    dx, dy = abs(x - cx) - half_width + corner, abs(y - cy) - half_height + corner
    outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)) + np.minimum(np.maximum(dx, dy), 0)
    return np.clip((corner - outside) * 150 + 0.5, 0, 1)


def flange(x, y, random):
    """A turned ring with a bore, a keyway, three bolt holes and a flat that was milled."""
    body = disc(x, y, 0, 0, 0.36) * (1 - box(x, y, 0.36, 0, 0.03, 0.2, 0))
    metal = 0.62 + 0.035 * np.sin(np.hypot(x, y) * 260 + random.uniform(0, 6)) + 0.06 * x
    metal = metal + 0.1 * box(x, y, 0, 0.25, 0.14, 0.04)
    holes = np.maximum(disc(x, y, 0, 0, 0.12), box(x, y, 0, -0.13, 0.03, 0.05, 0))
    for angle in (-0.9, 0.5, 2.6):
        holes = np.maximum(holes, disc(x, y, 0.25 * np.sin(angle), -0.25 * np.cos(angle), 0.04))
    return body, metal, holes


def plate(x, y, random):
    """A brushed plate with a slot, two holes and a raised rib."""
    body = box(x, y, 0, 0, 0.29, 0.29)
    grain = np.interp(y, np.linspace(-1.2, 1.2, 400), smooth(random.normal(0, 1, (1, 400)), 1)[0])
    metal = 0.58 + 0.025 * grain + 0.08 * y + 0.14 * box(x, y, 0.1, -0.05, 0.02, 0.2)
    holes = box(x, y, -0.13, 0.04, 0.03, 0.14)
    for cx, cy in ((0.21, 0.21), (-0.2, -0.2)):
        holes = np.maximum(holes, disc(x, y, cx, cy, 0.045))
    return body, metal, holes


def draw(shape, random, angle=0.0, sides=SIDES):
    """A good part on the belt, turned by so many degrees beyond what is usual: (H, W) in [0, 1]."""
    height, width = random.integers(*sides, 2)
    y, x = np.mgrid[:height, :width].astype(float)
    scale = min(height, width) * random.uniform(0.98, 1.02)
    y = (y - height / 2) / scale + random.uniform(-0.012, 0.012)
    x = (x - width / 2) / scale + random.uniform(-0.012, 0.012)
    turn = np.deg2rad(angle + random.uniform(-2, 2))
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    body, metal, holes = {"round": flange, "square": plate}[shape](along, across, random)
    belt = 0.24 + 0.03 * x + smooth(random.normal(0, 0.05, (height, width)), 1.5)
    shadow = np.roll(smooth(body, 3), (3, 3), (0, 1))
    inside = 0.13 + 0.2 * (holes - smooth(holes, 2))
    pixels = belt * (1 - 0.5 * shadow)
    pixels = pixels + (metal - pixels) * body
    pixels = pixels + (inside - pixels) * holes * body
    pixels = pixels * random.uniform(0.94, 1.06) + random.normal(0, 0.012, pixels.shape)
    return np.clip(pixels, 0, 1)


def make_parts(root, shape, seed=0, counts=(60, 40, 12), sides=SIDES):
    """Parts of one shape with good and spoilt ones for the test."""
    return make_set(root, lambda part, random: draw(shape, random, sides=sides), texture("grass"),
                    f"{shape} {seed}", counts)


def turned(pixels, degrees):
    """The picture turned; its mirror fills the corners."""
    height, width = pixels.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    return cv2.warpAffine(pixels, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)


def half_covered(pixels, random):
    """A hand, a cable, the next part: something flat and dark before half of the picture."""
    covered = pixels.copy()
    side = random.integers(4)
    half = pixels.shape[side % 2] // 2
    np.rot90(covered, side)[:half] = random.uniform(0.1, 0.25)
    return np.clip(covered + random.normal(0, 0.01, covered.shape), 0, 1)


def uniform(level):
    """A frame without a picture; the sensor's grain stays, where it does not clip."""
    return lambda pixels, random: np.clip(level + random.normal(0, 0.004, pixels.shape), 0, 1)


FRAMES = {
    "grey": lambda pixels, random: np.full(pixels.shape, 0.5),
    "grey-grain": uniform(0.5),
    "mean": lambda pixels, random: np.full(pixels.shape, pixels.mean()),
    "white": uniform(1.0),
    "black": uniform(0.0),
    "defocus-2": lambda pixels, random: smooth(pixels, 2),
    "defocus-4": lambda pixels, random: smooth(pixels, 4),
    "defocus-8": lambda pixels, random: smooth(pixels, 8),
    "over-exposed": lambda pixels, random: np.minimum(pixels * random.uniform(2.2, 3), 1),
    "half-covered": half_covered,
    "noise": lambda pixels, random: np.clip(random.normal(pixels.mean(), 0.2, pixels.shape), 0, 1),
    "turned": lambda pixels, random: turned(pixels, random.choice([-1, 1]) * random.uniform(20, 70)),
}


def make_frames(out, good, count=8, seed=0, kinds=tuple(FRAMES)):
    """OUT/KIND of frames that must never pass, made from the first good pictures of a folder."""
    paths = sorted(path for path in pathlib.Path(good).rglob("*") if path.suffix.lower() in PICTURES)[:count]
    if not paths:
        raise SystemExit(f"{good}: no pictures to make frames from ({', '.join(PICTURES)})")
    for kind in kinds:
        for index, path in enumerate(paths):
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("L")) / 255
            save(out / kind / f"{index:03}.png", FRAMES[kind](pixels, seeded(seed, kind, index)))
    return out


def make_part_frames(out, shape, good, count=8, seed=0, sides=SIDES):
    """The same for parts of that shape, with turned ones drawn anew, so that their corners are true."""
    make_frames(out, good, count, seed, [kind for kind in FRAMES if kind != "turned"])
    for index in range(count):
        random = seeded(seed, shape, "turned", index)
        angle = random.choice([-1, 1]) * random.uniform(20, 70)
        save(out / f"turned/{index:03}.png", draw(shape, random, angle, sides))
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path, help="folder to write into")
    parser.add_argument("--good", type=pathlib.Path, help="make only frames, from these good pictures")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.good:
        print(make_frames(arguments.out, arguments.good, seed=arguments.seed))
        return
    for shape in SHAPES:
        root = make_parts(arguments.out / shape, shape, arguments.seed)
        print(root)
        frames = arguments.out / "frames" / shape
        print(make_part_frames(frames, shape, root / "test/good", seed=arguments.seed))


if __name__ == "__main__":
    main()
