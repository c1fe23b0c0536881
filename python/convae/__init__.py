"""The model of a convae checkpoint as a PyTorch module.

    convae export --checkpoint runs/latest --format safetensors -o model.safetensors

    net = convae.load("model.safetensors")
    latent = net.encode(images)              # images (N, C, H, W) in [0, 1], [-1, 1] for tanh
    reconstruction = net.decode(latent, (H, W))     # or net(images): of exactly their size

Needs torch and safetensors. ValueError where the file's description of the model holds anything that
this module does not know.
"""

import json
import re
from collections import OrderedDict

import torch
from safetensors import safe_open
from torch import nn

KEYS = {"channels", "levels", "order", "activation", "norm", "latent-channels", "latent", "size",
        "output", "variational"}
LEVEL = re.compile(r"(\d+):k(\d+)x(\d+)s(\d+)x(\d+)p(\d+)x(\d+)d(\d+)x(\d+)")
ACTIVATIONS = {"silu": nn.SiLU, "relu": nn.ReLU, "leaky-relu": nn.LeakyReLU, "gelu": nn.GELU}
OUTPUTS = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "linear": nn.Identity()}


class GroupNorm(nn.GroupNorm):  # PyTorch's own refuses a group of one number, as a 1x1 map may have
    def forward(self, x):
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class Autoencoder(nn.Module):
    def __init__(self, spec):
        super().__init__()
        if unknown := sorted(spec.keys() - KEYS):
            raise ValueError(f"the model has '{unknown[0]}', which this module does not know")
        self.spec, self.encoder, self.decoder = spec, nn.Sequential(), nn.ModuleDict()
        wide, mirror = spec["channels"], []
        for level in spec["levels"]:  # "32:k3x3s2x2p1x1d1x1"
            if not (match := LEVEL.fullmatch(level)):
                raise ValueError(f"the model has a level '{level}', which this module does not know")
            thin, (wide, *n) = wide, map(int, match.groups())
            shape = dict(zip(("kernel_size", "stride", "padding", "dilation"), zip(n[::2], n[1::2])))
            self.encoder.append(self.block(wide, conv=nn.Conv2d(thin, wide, **shape)))
            mirror.insert(0, self.block(thin, conv=nn.ConvTranspose2d(wide, thin, **shape)))
        narrow = spec["latent"] or spec["latent-channels"]
        encoded = 2 * narrow if spec["variational"] else narrow
        if spec["latent"]:
            h, w = self.sizes(map(int, spec["size"].split("x")))[-1]
            self.encoder.add_module("flatten", nn.Flatten())
            self.encoder.add_module("latent", nn.Linear(wide * h * w, encoded))
            self.decoder["latent"] = self.block(wide, linear=nn.Linear(narrow, wide * h * w),
                                                map=nn.Unflatten(1, (wide, h, w)))
        elif narrow:
            self.encoder.add_module("latent", nn.Conv2d(wide, encoded, 1))
            self.decoder["latent"] = self.block(wide, conv=nn.Conv2d(narrow, wide, 1))
        mirror[-1] = mirror[-1][:1]  # no norm and activation after the last convolution
        self.decoder.update((str(i), block) for i, block in enumerate(mirror))

    def block(self, channels, **layers):
        groups = max(g for g in range(1, 9) if channels % g == 0)
        norm = {"batch": nn.BatchNorm2d(channels), "group": GroupNorm(groups, channels),
                "none": nn.Identity()}[self.spec["norm"]]
        tail = [("norm", norm), ("activation", ACTIVATIONS[self.spec["activation"]]())]
        step = 1 if self.spec["order"] == "conv-bn-act" else -1
        return nn.Sequential(OrderedDict([*layers.items(), *tail[::step]]))

    def sizes(self, size):  # of the images, and of what each level of the encoder gives
        sizes = [list(size)]
        for c in (block.conv for block in self.encoder if hasattr(block, "conv")):
            sizes.append([(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in
                          zip(sizes[-1], c.kernel_size, c.stride, c.padding, c.dilation)])
        return sizes

    def encode(self, images):
        latent = self.encoder(images)
        return latent.chunk(2, 1)[0] if self.spec["variational"] else latent

    def decode(self, latent, size):
        x = self.decoder["latent"](latent) if "latent" in self.decoder else latent
        for i, size in enumerate(self.sizes(size)[-2::-1]):
            block = self.decoder[str(i)]
            x = block[1:](block.conv(x, size))  # PyTorch finds the output_padding for that size
        return OUTPUTS[self.spec["output"]](x)

    def forward(self, images):
        return self.decode(self.encode(images), images.shape[2:])


def load(path):
    with safe_open(path, "pt") as file:
        about = file.metadata()
        net = Autoencoder(json.loads(about["model"]))
        net.load_state_dict({name: file.get_tensor(name) for name in file.keys()}, strict=True)
    return net.eval()
