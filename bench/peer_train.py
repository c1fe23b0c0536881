#!/usr/bin/env python3
"""Trains on a folder of images as `convae train` does, the way it is usually written in Python:
Pillow in the workers of a DataLoader, Adam, the mean squared error, a checkpoint an epoch.

Prints {"images_per_s", "loss", "peak_mb"}: the median over the epochs after the first, training
and loading without the saving; the last epoch's training loss; the largest resident set of the
main process."""

import argparse
import json
import pathlib
import resource
import statistics
import time

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import network
from trainer import Trainer

IMAGE_ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}


class Images(Dataset):
    """Every image under a folder as a (3, size, size) float tensor."""

    def __init__(self, folder, size):
        self.paths = sorted(path for path in pathlib.Path(folder).rglob("*")
                            if path.suffix.lower() in IMAGE_ENDINGS)
        self.size = size

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        with Image.open(self.paths[index]) as image:
            image = image.convert("RGB")
            if image.size != (self.size, self.size):
                image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def train_epoch(trainer, loader):
    """The mean loss, every image counting the same, and images per second."""
    start, total, seen = time.perf_counter(), 0.0, 0
    for images in loader:
        total += trainer.step(images) * len(images)
        seen += len(images)
    return total / seen, seen / (time.perf_counter() - start)


def save(trainer, path):
    torch.save({"net": trainer.net.state_dict(), "optimizer": trainer.optimizer.state_dict()}, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--save", required=True, help="the checkpoint's file")
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--compiled", action="store_true",
                        help="instead of eager: torch.compile and what goes well with it")
    network.add_arguments(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    trainer = Trainer(network.autoencoder(arguments, 3, arguments.size), arguments.compiled,
                      precision=arguments.precision)
    loader = DataLoader(Images(arguments.data, arguments.size), arguments.batch_size, shuffle=True,
                        num_workers=arguments.workers, persistent_workers=arguments.workers > 0)
    rates = []
    for _ in range(arguments.epochs):
        loss, rate = train_epoch(trainer, loader)
        save(trainer, arguments.save)
        rates.append(rate)
    print(json.dumps({"images_per_s": statistics.median(rates[1:] or rates), "loss": loss,
                      "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


if __name__ == "__main__":
    main()
