"""Plates with drawn defects, in the MVTec layout: what inspection is tested on."""

import numpy as np
from PIL import Image

SIZES = [(40, 48), (48, 40), (45, 51)]
GROUPS = r"part(\d+)"


def part(seed, size, channels=1, photo=0):
    """A grey plate with stripes and a bright rim; the same plate in every photo of it."""
    height, width = size
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(float)
    plate = 0.45 + 0.08 * np.sin(x * random.uniform(0.5, 0.7) + random.uniform(0, 6))
    rim = np.minimum.reduce([x, y, width - 1 - x, height - 1 - y]) < 3
    plate = np.where(rim, 0.8, plate) + 0.1 * y / height
    noise = np.random.default_rng([seed, photo, 7]).normal(0, 0.02, (height, width))
    pixels = np.clip((plate + noise) * (1 - 0.04 * photo), 0, 1)
    return pixels if channels == 1 else np.stack([pixels, pixels * 0.9, pixels * 0.8], -1)


def spoil(pixels, kind, seed):
    """Draws a defect; gives the mask of it."""
    height, width = pixels.shape[:2]
    random = np.random.default_rng([seed, 3])
    y, x = np.mgrid[0:height, 0:width]
    cy, cx = random.integers(10, height - 10), random.integers(10, width - 10)
    if kind == "hole":
        mask = (y - cy) ** 2 + (x - cx) ** 2 <= 9
    else:
        mask = (abs(x - cx) <= 1) & (abs(y - cy) <= 8)
    pixels[mask] -= 0.35
    return mask


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8)).save(path)


def make_parts(root, channels=1, good=24, photos=2):
    """The MVTec layout: train/good, test/{good,hole,crack}, ground_truth."""
    for number in range(good):
        for photo in range(photos):
            save(root / f"train/good/part{number:03}_{photo}.png",
                 part(number, SIZES[number % 3], channels, photo))
    for number in range(10):
        save(root / f"test/good/part{500 + number}_0.png",
             part(500 + number, SIZES[number % 3], channels))
    for offset, kind in ((600, "hole"), (700, "crack")):
        for number in range(offset, offset + 6):
            pixels = part(number, SIZES[number % 3], channels)
            mask = spoil(pixels, kind, number)
            save(root / f"test/{kind}/part{number}_0.png", pixels)
            save(root / f"ground_truth/{kind}/part{number}_0_mask.png", mask.astype(float))
    return root
