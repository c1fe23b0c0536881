#!/usr/bin/env python3
"""Brick, grass and gravel in the MVTec layout: pictures that inspection was not tuned on.

    python tests/inspection_textures.py OUT      writes OUT/{brick,grass,gravel}

The images are those scikit-image carries in its package, grey and 512x512, all in the public domain
(CC0): brick and gravel from CC0Textures (Bricks25, Gravel04), grass by linolafett (DeviantArt). Nothing is
downloaded. Training pictures are cut from the left of a texture, test pictures from the right, so no pixel
is in both. Everything follows from the seed.
"""

import argparse
import pathlib
import zlib

import numpy as np
from skimage import data

from drawn_defects import KINDS, spoil
from drawn_parts import save

TEXTURES = ("brick", "grass", "gravel")
SPLIT = 280  # columns for training; the other 232 are for the test
SIDES = (120, 221)  # of a cut, in pixels; the upper one is not reached


def texture(name):
    return getattr(data, name)() / 255


def seeded(*words):
    """Random numbers of these words and numbers, the same on every machine."""
    return np.random.default_rng([zlib.crc32(str(word).encode()) for word in words])


def cut(region, random, sides):
    """A part: a piece of the region, perhaps mirrored, under a light and a camera that vary a little."""
    height, width = (random.integers(sides[0], min(sides[1], limit + 1)) for limit in region.shape)
    y = random.integers(0, region.shape[0] - height + 1)
    x = random.integers(0, region.shape[1] - width + 1)
    pixels = region[y : y + height, x : x + width]
    pixels = pixels[:, :: random.choice([-1, 1])]
    mean = pixels.mean()
    pixels = mean + (pixels - mean) * random.uniform(0.92, 1.08)
    pixels = pixels * random.uniform(0.93, 1.07) + random.normal(0, 0.008, pixels.shape)
    return np.clip(pixels, 0, 1)


def make_set(root, good, scrap, seed, counts=(60, 40, 12)):
    """The MVTec layout of pictures that good(part of the set, random) draws: how many to train on, how
    many good ones to test, and how many of each kind of defect."""
    for part, count in zip(("train", "test"), counts):
        for index in range(count):
            save(root / f"{part}/good/{index:03}.png", good(part, seeded(seed, part, index)))
    for kind in KINDS:
        for index in range(counts[2]):
            random = seeded(seed, kind, index)
            pixels, mask = spoil(good("test", random), kind, random, scrap)
            save(root / f"test/{kind}/{index:03}.png", pixels)
            save(root / f"ground_truth/{kind}/{index:03}_mask.png", mask.astype(float))
    return root


def make_texture(root, name, seed=0, counts=(60, 40, 12), sides=SIDES):
    """One texture; the scraps on it are of another one."""
    whole = texture(name)
    regions = {"train": whole[:, :SPLIT], "test": whole[:, SPLIT:]}
    scrap = texture("grass" if name == "brick" else "brick")
    return make_set(root, lambda part, random: cut(regions[part], random, sides), scrap,
                    f"{name} {seed}", counts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path, help="folder to write into")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for name in TEXTURES:
        print(make_texture(arguments.out / name, name, arguments.seed))


if __name__ == "__main__":
    main()
