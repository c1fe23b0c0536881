"""The network of all rows as a PyTorch user would write it: plain torch.nn, nothing of convae's.

It takes convae's own words (--levels, --kernel, --norm), so both sides are told the same."""

import re
from typing import NamedTuple

import torch
from torch import nn


class Level(NamedTuple):
    channels: int
    kernel: int
    stride: int
    padding: int


def add_arguments(parser):
    """The words that describe the network; stride 2 and padding 1 unless a level says otherwise."""
    parser.add_argument("--levels", default="32,64,128,256", help="CHANNELS[:kKsSpP],…")
    parser.add_argument("--kernel", type=int, default=3)
    parser.add_argument("--norm", choices=("batch", "none"), default="batch")


def parse_levels(text, kernel):
    levels = []
    for word in text.split(","):
        channels, _, rest = word.partition(":")
        given = {letter: int(number) for letter, number in re.findall(r"([ksp])(\d+)", rest)}
        levels.append(Level(int(channels), given.get("k", kernel), given.get("s", 2),
                            given.get("p", 1)))
    return levels


def autoencoder(arguments, channels, size):
    """Convolution → ReLU → BatchNorm, level by level, and back; a sigmoid at the end.

    Built for one size (a side of the square images): with output_padding fixed it compiles and
    exports without a word about shapes."""

    def active(convolution, width):
        norm = [nn.BatchNorm2d(width)] if arguments.norm == "batch" else []
        return [convolution, nn.ReLU(), *norm]

    encoder, decoder = [], []
    for level in parse_levels(arguments.levels, arguments.kernel):
        geometry = (level.kernel, level.stride, level.padding)
        span = size + 2 * level.padding - level.kernel
        up = nn.ConvTranspose2d(level.channels, channels, *geometry,
                                output_padding=span % level.stride)
        encoder += active(nn.Conv2d(channels, level.channels, *geometry), level.channels)
        # Before what is there already: the first level of the encoder is undone last.
        decoder = (active(up, channels) if decoder else [up]) + decoder
        channels, size = level.channels, span // level.stride + 1
    return nn.Sequential(*encoder, *decoder, nn.Sigmoid())


def random_images(shape):
    """What a loader would hand over: bytes, scaled to [0, 1]. (N, C, H, W)"""
    return torch.randint(256, shape).float() / 255
