"""Defects as a person would name them, drawn on good grey pictures, each with its mask.

Every function takes float pixels (H, W) in [0, 1], random numbers and a scrap of another material, and
gives the spoilt picture and the mask of what a person would mark. Sizes follow the picture's short side.
"""

import cv2
import numpy as np


def unit(pixels):
    """One pixel of a part 160 pixels across."""
    return max(min(pixels.shape) / 160, 0.4)


def somewhere(pixels, random):
    """A place in the middle half, so that no defect lies outside."""
    return [random.uniform(0.25, 0.75) * size for size in pixels.shape]


def offsets(pixels, place):
    y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]].astype(float)
    return y - place[0], x - place[1]


def smooth(pixels, sigma):
    return cv2.GaussianBlur(pixels, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)


def blob(pixels, place, radius, random, edge=1.0, wobble=0.18):
    """Opacity (H, W) of a round shape with an uneven outline."""
    y, x = offsets(pixels, place)
    angle = np.arctan2(y, x)
    outline = sum(random.normal(0, wobble / n) * np.cos(n * angle + random.uniform(0, 6)) for n in (2, 3, 4, 5))
    stretch = random.uniform(0.8, 1.25)
    distance = radius * (1 + outline) - np.hypot(y * stretch, x / stretch)
    return np.clip(distance / edge + 0.5, 0, 1)


def mix(pixels, other, opacity):
    return pixels + (other - pixels) * opacity


def scratch(pixels, random, scrap):
    """A thin bright or dark line that bends a little, with its shadow beside it."""
    one = unit(pixels)
    steps = 24
    turns = random.uniform(0, 2 * np.pi) + np.cumsum(random.normal(0, 0.07, steps))
    stride = random.uniform(0.4, 0.7) * min(pixels.shape) / steps
    line = np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1) * stride, 0)
    line += np.array(somewhere(pixels, random))[::-1] - line.mean(0)
    strokes = np.zeros(pixels.shape, np.uint8)
    for start, end in zip(line, line[1:]):
        cv2.line(strokes, np.round(start * 16).astype(int), np.round(end * 16).astype(int),
                 int(random.uniform(190, 255)), round(2 * one) or 1, cv2.LINE_AA, shift=4)
    opacity = smooth(strokes / 255, random.uniform(0.5, 0.8))
    shadow = np.roll(opacity, (1, 1), (0, 1))
    dark, light = np.quantile(pixels, (0.02, 0.98))
    level, side = random.choice([(dark - 0.1, 0.1), (light + 0.2, -0.2)])
    return mix(pixels + side * shadow, level, opacity), opacity > 0.2


def hole(pixels, random, scrap):
    """A dark pit whose far side catches light."""
    place, radius = somewhere(pixels, random), random.uniform(7, 11) * unit(pixels)
    opacity = blob(pixels, place, radius, random, edge=2)
    rim = smooth(opacity, 1.2 * unit(pixels)) * (1 - opacity)
    y, x = offsets(pixels, place)
    lit = np.clip((y + x) / radius, 0, 1) * rim
    ground = random.uniform(0.06, 0.14) + 0.04 * pixels
    return mix(pixels, ground, opacity) + 0.35 * lit, opacity > 0.3


def stain(pixels, random, scrap):
    """A dried drop: darker or lighter, most so at its edge."""
    radius = random.uniform(11, 20) * unit(pixels)
    opacity = blob(pixels, somewhere(pixels, random), radius, random, edge=3)
    ring = opacity - smooth(opacity, radius / 3) * opacity
    tint = random.choice([random.uniform(0.35, 0.5), random.uniform(1.4, 1.6)])
    return pixels * (1 + (tint - 1) * np.clip(0.7 * opacity + 1.2 * ring, 0, 1.1)), opacity > 0.3


def patch(pixels, random, scrap):
    """A scrap of another material that lies on top and throws a shadow."""
    one = unit(pixels)
    opacity = blob(pixels, somewhere(pixels, random), random.uniform(13, 22) * one, random, wobble=0.3)
    shadow = np.roll(smooth(opacity, 1.5 * one), (2, 2), (0, 1))
    y, x = (random.integers(0, scrap.shape[axis] - pixels.shape[axis] + 1) for axis in (0, 1))
    foreign = scrap[y:, x:][: pixels.shape[0], : pixels.shape[1]]
    foreign = foreign + (random.uniform(-0.12, 0.12) + pixels.mean() - foreign.mean())
    return mix(pixels * (1 - 0.35 * shadow), foreign, opacity), opacity > 0.3


def blur(pixels, random, scrap):
    """A region as seen through grease."""
    one = unit(pixels)
    opacity = blob(pixels, somewhere(pixels, random), random.uniform(24, 36) * one, random, edge=5)
    return mix(pixels, smooth(pixels, random.uniform(2.5, 4) * one), opacity), opacity > 0.3


def piece(pixels, random, scrap):
    """A piece that was cut out: put back turned, with a seam, or gone."""
    one = unit(pixels)
    place = somewhere(pixels, random)
    opacity = blob(pixels, place, random.uniform(15, 24) * one, random, edge=1.5)
    if random.random() < 0.5:
        angle = random.choice([-1, 1]) * random.uniform(35, 90)
        turn = cv2.getRotationMatrix2D((place[1], place[0]), angle, 1)
        other = cv2.warpAffine(pixels, turn, pixels.shape[::-1], borderMode=cv2.BORDER_REFLECT_101)
        gap = np.clip(2.5 * smooth(4 * opacity * (1 - opacity), 0.8 * one), 0, 1)
        return mix(pixels, other, opacity) * (1 - 0.8 * gap), opacity > 0.3
    ground = 0.6 * smooth(pixels, 12 * one) + random.normal(0, 0.02, pixels.shape)
    return mix(pixels, ground, opacity), opacity > 0.3


def uneven(pixels, random, scrap):
    """A slow change of brightness over a large part of the picture."""
    y, x = offsets(pixels, somewhere(pixels, random))
    angle = random.uniform(0, np.pi)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    radius = random.uniform(0.22, 0.32) * min(pixels.shape)
    shade = np.exp(-0.5 * ((along / (1.4 * radius)) ** 2 + (across / radius) ** 2))
    gain = random.choice([random.uniform(-0.5, -0.38), random.uniform(0.4, 0.55)])
    return pixels * (1 + gain * shade), shade > 0.5


KINDS = {draw.__name__: draw for draw in (scratch, hole, stain, patch, blur, piece, uneven)}


def spoil(pixels, kind, random, scrap):
    """The picture with one defect of that kind, and its mask; scrap is at least as large.

    Drawn again where nobody would see it: a hole within a bore, a blur of what is plain.
    """
    visible = 0.03 if kind == "blur" else 0.08
    for _ in range(20):
        spoilt, mask = KINDS[kind](pixels, random, scrap)
        spoilt = np.clip(spoilt, 0, 1)
        if mask.any() and abs(spoilt - pixels)[mask].mean() >= visible:
            break
    return spoilt, mask
