#!/usr/bin/env python3
"""Writes the network, in evaluation mode, to FILE.onnx for the inference engines, and beside it
FILE.npz with images and what PyTorch makes of them."""

import argparse
import logging
import pathlib
import warnings

import numpy as np
import torch

import network
import timing


def settle_statistics(net, images):
    """A few batches in training mode, so that BatchNorm has statistics of its own to apply."""
    with torch.no_grad():
        for _ in range(3):
            net(images)
    return net.eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("--input", type=timing.shape, default="16x3x192x192", help="NxCxHxW")
    network.add_arguments(parser)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.manual_seed(0)
    images = network.random_images(arguments.input)
    net = settle_statistics(network.autoencoder(arguments, *arguments.input[1:3]), images)
    torch.onnx.export(net, (images,), arguments.file, input_names=["images"],
                      output_names=["reconstructions"], dynamo=True, verbose=False,
                      external_data=False)
    with torch.no_grad():
        np.savez(arguments.file.with_suffix(".npz"), images=images, reconstructions=net(images))


if __name__ == "__main__":
    main()
