"""The model of a convae checkpoint as a PyTorch module.

    convae export --checkpoint runs/latest --format safetensors -o model.safetensors

    net = convae.load("model.safetensors")
    latent = net.encode(images)              # images (N, C, H, W) in [0, 1], [-1, 1] for tanh
    reconstruction = net.decode(latent, (H, W))     # or net(images): of exactly their size

A model with skip or residual restores images: its decoder needs them, so net(images) alone works.
Needs torch and safetensors. ValueError where the file's description of the model holds anything that
this module does not know.
"""

import json
import re
from collections import OrderedDict

import torch
from safetensors import safe_open
from torch import nn
from torch.nn import functional as F

KEYS = {"channels", "levels", "order", "activation", "norm", "latent-channels", "latent", "size",
        "output", "variational", "shortcut", "linear", "skip", "residual"}
LEVEL = re.compile(r"(\d+):k(\d+)x(\d+)s(\d+)x(\d+)p(\d+)x(\d+)d(\d+)x(\d+)(?:r(\d+))?")
ACTIVATIONS = {"silu": nn.SiLU, "relu": nn.ReLU, "leaky-relu": nn.LeakyReLU, "gelu": nn.GELU}
OUTPUTS = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "linear": nn.Identity()}
VALUES = {"order": ("conv-act-bn", "conv-bn-act"), "activation": ACTIVATIONS, "output": OUTPUTS,
          "norm": ("batch", "group", "none"), "shortcut": ("none", "shuffle"),
          "linear": ("none", "pca"), "skip": ("none", "add"), "variational": (False, True),
          "residual": (False, True)}


class GroupNorm(nn.GroupNorm):  # PyTorch's own refuses a group of one number, as a 1x1 map may have
    def forward(self, x):
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


def channels(x, count):  # means of groups, or repeats; anything between as adaptive pooling has it
    return F.adaptive_avg_pool3d(x.unsqueeze(1), (count, None, None)).squeeze(1)


def fit(x, h, w):  # cut at the end, or the edge repeated
    for axis, size in (2, h), (3, w):
        places = torch.arange(size, device=x.device).clamp(max=x.shape[axis] - 1)
        x = x.index_select(axis, places)
    return x


class Residual(nn.Module):
    def __init__(self, first, second):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x):
        return x + self.second(self.first(x))


class Level(nn.Module):
    def __init__(self, block, shortcut, residuals):
        super().__init__()
        self.tail = [name for name, _ in block.named_children()][1:]  # names: modules may be replaced
        self.shortcut, self.count = shortcut, len(residuals)
        for name, layer in [*block.named_children(), *residuals.items()]:
            self.add_module(name, layer)

    def refine(self, x):
        for i in range(self.count):
            x = self.get_submodule(f"residual{i}")(x)
        return x

    def forward(self, x, size=None):  # size: what a transposed convolution is to come to
        conv, (sh, sw) = self.conv, self.conv.stride
        if size is None:
            y = conv(x)
            h, w = y.shape[2:]
            if self.shortcut:
                x = fit(x, h * sh, w * sw).unflatten(3, (w, sw)).unflatten(2, (h, sh))
                x = x.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)  # pixel_unshuffle, of any stride
                x = channels(x, conv.out_channels)
        else:
            x = self.refine(x)
            y = conv(x, size)  # PyTorch finds the output_padding for that size
            if self.shortcut:
                x = channels(x, conv.out_channels * sh * sw).unflatten(1, (-1, sh, sw))
                x = fit(x.permute(0, 1, 4, 2, 5, 3).flatten(4).flatten(2, 3), *size)
        for name in self.tail:
            y = self.get_submodule(name)(y)
        y = y + x if self.shortcut else y
        return self.refine(y) if size is None else y


class LinearCode(nn.Module):  # principal components of images, or of their blocks
    def __init__(self, numbers, channels, block, mean):
        super().__init__()
        self.block = block
        self.register_buffer("mean", torch.zeros(channels, *mean))
        self.register_buffer("components", torch.zeros(numbers, channels, *block))

    def encode(self, images):
        whole = (-(-n // side) * side for n, side in zip(images.shape[2:], self.block))
        return F.conv2d(fit(images - self.mean, *whole), self.components, stride=self.block)

    def decode(self, latent, h, w):
        latent = latent[..., None, None] if latent.dim() == 2 else latent
        image = F.conv_transpose2d(latent, self.components, stride=self.block)
        return fit(image, h, w) + self.mean


class Encoder(nn.Sequential):
    def forward(self, images):
        x = images
        for name, layer in self.named_children():
            x = x + layer.encode(images).reshape(x.shape) if name == "linear" else layer(x)
        return x


class Autoencoder(nn.Module):
    def __init__(self, spec):
        super().__init__()
        if unknown := sorted(spec.keys() - KEYS):
            raise ValueError(f"the model has '{unknown[0]}', which this module does not know")
        for key, known in VALUES.items():
            if key in spec and spec[key] not in known:
                raise ValueError(f"the model has {key} '{spec[key]}', which this module does not know")
        self.spec, self.encoder, self.decoder = spec, Encoder(), nn.ModuleDict()
        self.restores = spec.get("skip") == "add" or spec.get("residual", False)
        wide, mirror, again, block = spec["channels"], [], nn.Sequential(), [1, 1]
        for level in spec["levels"]:  # "32:k3x3s2x2p1x1d1x1"
            if not (match := LEVEL.fullmatch(level)):
                raise ValueError(f"the model has a level '{level}', which this module does not know")
            thin, (wide, *n, blocks) = wide, map(int, match.groups("0"))
            shape = dict(zip(("kernel_size", "stride", "padding", "dilation"), zip(n[::2], n[1::2])))
            block = [side * stride for side, stride in zip(block, shape["stride"])]
            down = self.block(wide, conv=nn.Conv2d(thin, wide, **shape))
            up = self.block(thin, conv=nn.ConvTranspose2d(wide, thin, **shape))
            if not mirror:
                up = up[:1]  # no norm and activation after the last convolution
            self.encoder.append(self.level(down, wide, blocks))
            if spec.get("linear") == "pca":
                down = self.block(wide, conv=nn.Conv2d(thin, wide, **shape))
                again.append(self.level(down, wide, blocks))
            mirror.insert(0, self.level(up, wide, blocks))
        narrow = spec["latent"] or spec["latent-channels"]
        encoded = 2 * narrow if spec["variational"] else narrow
        if spec["latent"]:
            size = self.size = [*map(int, spec["size"].split("x"))]
            h, w = self.sizes(size)[-1]
            self.encoder.add_module("flatten", nn.Flatten())
            self.encoder.add_module("latent", nn.Linear(wide * h * w, encoded))
            block = mean = size
            start = {"linear": nn.Linear(narrow, wide * h * w), "map": nn.Unflatten(1, (wide, h, w))}
        elif narrow:
            self.encoder.add_module("latent", nn.Conv2d(wide, encoded, 1))
            mean, start = (1, 1), {"conv": nn.Conv2d(narrow, wide, 1)}
        if again:
            for part in self.encoder, self.decoder:
                part.add_module("linear", LinearCode(narrow, spec["channels"], block, mean))
            self.decoder["down"] = again
        elif narrow:
            self.decoder["latent"] = self.block(wide, **start)
        self.decoder.update((str(i), block) for i, block in enumerate(mirror))

    def block(self, channels, **layers):
        groups = max(g for g in range(1, 9) if channels % g == 0)
        norm = {"batch": nn.BatchNorm2d(channels), "group": GroupNorm(groups, channels),
                "none": nn.Identity()}[self.spec["norm"]]
        tail = [("norm", norm), ("activation", ACTIVATIONS[self.spec["activation"]]())]
        step = 1 if self.spec["order"] == "conv-bn-act" else -1
        return nn.Sequential(OrderedDict([*layers.items(), *tail[::step]]))

    def level(self, block, wide, blocks):
        residuals = {}
        for i in range(blocks):
            first, second = (nn.Conv2d(wide, wide, 3, padding=1) for _ in range(2))
            residuals[f"residual{i}"] = Residual(self.block(wide, conv=first),
                                                 nn.Sequential(OrderedDict(conv=second)))
        return Level(block, self.spec.get("shortcut") == "shuffle", residuals)

    def sizes(self, size):  # of the images, and of what each level of the encoder gives
        sizes = [list(size)]
        for c in (block.conv for block in self.encoder if hasattr(block, "conv")):
            sizes.append([(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in
                          zip(sizes[-1], c.kernel_size, c.stride, c.padding, c.dilation)])
        return sizes

    def encode(self, images):
        if self.restores:
            raise ValueError("the decoder of this model needs the images, too; call net(images)")
        self.check(images.shape[2:])
        latent = self.encoder(images)
        return latent.chunk(2, 1)[0] if self.spec["variational"] else latent

    def check(self, size):  # other sizes can have maps of the same shape: nothing else would notice
        if self.spec["latent"] and [*size] != self.size:
            raise ValueError(f"this model has a dense latent and works at size {tuple(self.size)} only, "
                             f"but got {tuple(size)}")

    def decode(self, latent, size, skipped=()):
        self.check(size)
        x = self.decoder["latent"](latent) if "latent" in self.decoder else latent
        skipped, image = list(skipped), 0
        if "linear" in self.decoder:  # the levels restore the image of the linear path
            at = self.sizes(size)[-1]
            if latent.dim() == 4 and list(latent.shape[2:]) != at:  # nothing else would notice
                raise ValueError(f"an image of size {tuple(size)} has a latent of size {tuple(at)}, "
                                 f"but got {tuple(latent.shape[2:])}")
            image = self.decoder["linear"].decode(latent, *size)
            skipped = self.maps(self.decoder["down"], image)
            x = skipped.pop()
        for i, size in enumerate(self.sizes(size)[-2::-1]):
            x = self.decoder[str(i)](x, size)
            x = x + skipped.pop() if skipped else x
        return OUTPUTS[self.spec["output"]](image + x)

    def maps(self, levels, x):  # what each of them gives
        maps = [x]
        for level in levels:
            maps.append(level(maps[-1]))
        return maps[1:]

    def forward(self, images):
        if not self.restores:
            return self.decode(self.encode(images), images.shape[2:])
        maps = self.maps(self.encoder, images)
        skipped = maps[:-1] if self.spec.get("skip") == "add" else []
        output = self.decode(maps[-1], images.shape[2:], skipped)
        if not self.spec.get("residual"):
            return output
        rest = images - output
        return rest if self.training else rest.clamp(0, 1)


def load(path):
    with safe_open(path, "pt") as file:
        about = file.metadata() or {}
        if "model" not in about:
            raise ValueError(f"{path}: it does not describe its model; make it with: convae export "
                             "--checkpoint RUN --format safetensors -o FILE")
        if (part := about.get("part", "autoencoder")) != "autoencoder":
            raise ValueError(f"{path}: it holds the {part} alone, which net.{part}.load_state_dict() "
                             "takes; leave --part out to load the whole model")
        net = Autoencoder(json.loads(about["model"]))
        net.load_state_dict({name: file.get_tensor(name) for name in file.keys()}, strict=True)
    return net.eval()
