#!/usr/bin/env python3
"""One training step or one inference of the network in Python PyTorch: prints {"ms": median}. Or a
product of matrices of 2048×2048: {"ms", "gflops"}, what the processor gives.

The images are there, as floats, before the clock starts; convae's step begins with bytes."""

import argparse
import json

import torch

import network
import timing
from trainer import Trainer


def training_step(net, images, arguments):
    trainer = Trainer(net, arguments.compiled, arguments.device, arguments.precision)
    images = images.to(arguments.device).contiguous(memory_format=trainer.layout)
    return lambda: trainer.step(images)


def inference(net, images, arguments):
    """Compiled: channels_last, and frozen, so that weights are laid out once."""
    net.eval()
    forward = net
    if arguments.compiled:
        images = images.contiguous(memory_format=torch.channels_last)
        net = net.to(memory_format=torch.channels_last)
        forward = torch.compile(net, options={"freezing": True})

    autocast = torch.autocast("cpu", torch.bfloat16, enabled=arguments.precision == "bf16")

    @torch.no_grad()
    def step():
        with autocast:
            return forward(images)

    return step


def product(arguments):
    a, b = torch.randn(2, 2048, 2048, dtype=torch.bfloat16 if arguments.precision == "bf16" else torch.float)
    ms = timing.median_ms(lambda: a @ b, arguments.rounds)
    return {"ms": ms, "gflops": 2 * 2048**3 / ms / 1e6}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=("training", "inference", "product"))
    parser.add_argument("--input", type=timing.shape, default="16x3x192x192", help="NxCxHxW")
    parser.add_argument("--compiled", action="store_true",
                        help="instead of eager: torch.compile and what goes well with it")
    parser.add_argument("--device", default="cpu", help="for training")
    parser.add_argument("--precision", choices=("fp32", "tf32", "bf16"), default="fp32")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, required=True)
    network.add_arguments(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    if arguments.work == "product":
        return print(json.dumps(product(arguments)))
    images = network.random_images(arguments.input)
    net = network.autoencoder(arguments, *arguments.input[1:3])
    prepare = training_step if arguments.work == "training" else inference
    work = prepare(net, images, arguments)
    print(json.dumps({"ms": timing.median_ms(work, arguments.rounds)}))


if __name__ == "__main__":
    main()
