"""The model of a checkpoint, written anew in PyTorch from what the checkpoint says of itself."""

import json
import math
import re

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

ACTIVATIONS = {"silu": F.silu, "relu": F.relu, "gelu": F.gelu,
               "leaky-relu": lambda x: F.leaky_relu(x, 0.01)}
OUTPUTS = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "linear": lambda x: x}


def read_metadata(path):
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["convae"])


def read_level(text):
    """"8:k3x5s2x1p1x2d1x1r2" → channels, four pairs, height first, and residual blocks."""
    pattern = r"(\d+):k(\d+)x(\d+)s(\d+)x(\d+)p(\d+)x(\d+)d(\d+)x(\d+)(?:r(\d+))?"
    channels, *rest, blocks = map(int, re.fullmatch(pattern, text).groups("0"))
    kernel, stride, padding, dilation = zip(rest[::2], rest[1::2])
    return channels, dict(kernel_size=kernel, stride=stride, padding=padding, dilation=dilation), blocks


def conv_size(size, level):
    return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in
                 zip(size, *(level[key] for key in ("kernel_size", "stride", "padding", "dilation"))))


def pooled_channels(x, count):
    """As adaptive pooling has it, which is means of groups or repeats where numbers divide."""
    return F.adaptive_avg_pool1d(x.permute(0, 2, 3, 1).flatten(0, 2)[:, None], count)[:, 0].view(
        x.shape[0], *x.shape[2:], count).permute(0, 3, 1, 2)


def repeat_edge(x, size):
    """The first rows and columns, and the last of them as often as some are missing."""
    for axis, length in enumerate(size, 2):
        x = x.index_select(axis, torch.arange(length).clamp_max(x.shape[axis] - 1))
    return x


def shortcut(x, layer, size):
    (stride, other), transposed = layer.stride, isinstance(layer, nn.ConvTranspose2d)
    assert stride == other, "square strides are enough here"
    if transposed:
        wide = pooled_channels(x, layer.out_channels * stride ** 2)
        return repeat_edge(F.pixel_shuffle(wide, stride), size)
    return pooled_channels(F.pixel_unshuffle(repeat_edge(x, [stride * n for n in size]), stride),
                           layer.out_channels)


class Residual(nn.Module):
    def __init__(self, channels, spec):
        super().__init__()
        self.first = Block(nn.Conv2d(channels, channels, 3, padding=1), channels, spec)
        self.second = Block(nn.Conv2d(channels, channels, 3, padding=1), channels, spec, activated=False)

    def forward(self, x):
        return x + self.second(self.first(x, None), None)


class Block(nn.Module):
    def __init__(self, layer, channels, spec, activated=True, residuals=0, at=0, is_level=False):
        super().__init__()
        self.has_shortcut = is_level and spec.get("shortcut") == "shuffle"
        for i in range(residuals):
            self.add_module(f"residual{i}", Residual(at, spec))
        self.residuals = [module for name, module in self.named_children()]
        setattr(self, "linear" if isinstance(layer, nn.Linear) else "conv", layer)
        self.layer = [layer]  # in a list: not registered a second time
        self.norm = nn.Identity()
        if activated and spec["norm"] == "batch":
            self.norm = nn.BatchNorm2d(channels)
        elif activated and spec["norm"] == "group":
            groups = max(g for g in range(1, 9) if channels % g == 0)
            self.norm = nn.GroupNorm(groups, channels)
        self.activation = ACTIVATIONS[spec["activation"]]
        self.norm_first = spec["order"] == "conv-bn-act"
        self.activated = activated

    def forward(self, x, size):
        layer = self.layer[0]
        transposed = isinstance(layer, nn.ConvTranspose2d)
        for residual in self.residuals if transposed else []:
            x = residual(x)
        y = self.convolved(x, size)
        if self.has_shortcut:
            y = y + shortcut(x, layer, y.shape[2:])
        for residual in [] if transposed else self.residuals:
            y = residual(y)
        return y

    def convolved(self, x, size):
        layer = self.layer[0]
        if isinstance(layer, nn.ConvTranspose2d):
            # output_padding by difference to the plain length, not by the program's formula.
            plain = tuple((m - 1) * s - 2 * p + d * (k - 1) + 1 for m, s, p, d, k in zip(
                x.shape[2:], layer.stride, layer.padding, layer.dilation, layer.kernel_size))
            layer.output_padding = tuple(n - m for n, m in zip(size, plain))
            x = F.conv_transpose2d(x, layer.weight, layer.bias, layer.stride, layer.padding,
                                   layer.output_padding, 1, layer.dilation)
        else:
            x = layer(x)
        if isinstance(layer, nn.Linear):
            x = x.view(x.shape[0], -1, *size)
        if not self.activated:
            return x
        return self.activation(self.norm(x)) if self.norm_first else self.norm(self.activation(x))


class Twin(nn.Module):
    def __init__(self, spec):
        super().__init__()
        self.spec = spec
        levels = [read_level(text) for text in spec["levels"]]
        self.levels = [level for _, level, _ in levels]
        widths = [spec["channels"]] + [channels for channels, _, _ in levels]
        self.encoder, self.decoder = nn.Module(), nn.Module()
        for i, level in enumerate(self.levels):
            self.encoder.add_module(str(i), Block(
                nn.Conv2d(widths[i], widths[i + 1], **level), widths[i + 1], spec,
                residuals=levels[i][2], at=widths[i + 1], is_level=True))
        numbers = 2 if spec.get("variational") else 1  # mean, or mean and log-variance
        narrow = spec["latent-channels"] or spec["latent"]
        if spec["latent-channels"]:
            self.encoder.latent = nn.Conv2d(widths[-1], numbers * narrow, 1)
            self.block, mean = (math.prod(level["stride"][0] for level in self.levels),
                                math.prod(level["stride"][1] for level in self.levels)), (1, 1)
            self.decoder.latent = Block(nn.Conv2d(narrow, widths[-1], 1), widths[-1], spec)
        elif spec["latent"]:
            self.block = mean = size = tuple(map(int, spec["size"].split("x")))
            for level in self.levels:
                size = conv_size(size, level)
            area = size[0] * size[1]
            self.encoder.latent = nn.Linear(widths[-1] * area, numbers * narrow)
            self.decoder.latent = Block(nn.Linear(narrow, widths[-1] * area), widths[-1], spec)
        if spec.get("linear") == "pca":
            del self.decoder.latent
            for part in (self.encoder, self.decoder):
                part.linear = nn.Module()
                part.linear.register_buffer("mean", torch.zeros(spec["channels"], *mean))
                part.linear.register_buffer("components",
                                            torch.zeros(narrow, spec["channels"], *self.block))
            self.decoder.down = nn.Module()
            for i, level in enumerate(self.levels):
                self.decoder.down.add_module(str(i), Block(
                    nn.Conv2d(widths[i], widths[i + 1], **level), widths[i + 1], spec,
                    residuals=levels[i][2], at=widths[i + 1], is_level=True))
        for i, level in enumerate(reversed(self.levels)):
            out = widths[len(levels) - 1 - i]
            layer = nn.ConvTranspose2d(widths[len(levels) - i], out, **level)
            channels, _, residuals = levels[len(levels) - 1 - i]
            self.decoder.add_module(str(i), Block(layer, out, spec, activated=i + 1 < len(levels),
                                                  residuals=residuals, at=channels, is_level=True))

    def down(self, part, x):
        self.maps = []
        for i in range(len(self.levels)):
            x = part.get_submodule(str(i))(x, None)
            self.maps.append(x)
        return x

    def encode(self, images):
        x = self.down(self.encoder, images)
        if self.spec["latent"]:
            x = x.flatten(1)
        x = self.encoder.latent(x) if hasattr(self.encoder, "latent") else x
        if hasattr(self.encoder, "linear"):
            code = self.encoder.linear
            whole = F.pad(images - code.mean, (0, -images.shape[3] % self.block[1],
                                               0, -images.shape[2] % self.block[0]), "replicate")
            blocks = F.unfold(whole, self.block, stride=self.block)
            x = x + torch.einsum("nbl,db->ndl", blocks, code.components.flatten(1)).view(x.shape)
        return x.chunk(2, 1)[0] if self.spec.get("variational") else x

    def decode(self, latent, size):
        sizes = [tuple(size)]
        for level in self.levels:
            sizes.append(conv_size(sizes[-1], level))
        x, image = latent, 0
        if hasattr(self.decoder, "linear"):
            code = self.decoder.linear
            blocks = torch.einsum("ndl,db->nbl", latent.flatten(2) if latent.dim() > 2 else
                                  latent[..., None], code.components.flatten(1))
            whole = [-(-n // side) * side for n, side in zip(size, self.block)]
            image = F.fold(blocks, whole, self.block, stride=self.block)[..., :size[0], :size[1]]
            image = code.mean + image
            x = self.down(self.decoder.down, image)
        elif hasattr(self.decoder, "latent"):
            x = self.decoder.latent(latent, sizes[-1])
        skips = hasattr(self.decoder, "linear") or self.spec.get("skip") == "add"
        for i in range(len(self.levels)):
            x = self.decoder.get_submodule(str(i))(x, sizes[len(self.levels) - 1 - i])
            if skips and i + 1 < len(self.levels):
                x = x + self.maps[len(self.levels) - 2 - i]
        return OUTPUTS[self.spec["output"]](image + x)

    def forward(self, x):
        """In the model's range, as in training."""
        output = self.decode(self.encode(x), x.shape[2:])
        return x - output if self.spec.get("residual") else output

    def to_range(self, images):
        return images * 2 - 1 if self.spec["output"] == "tanh" else images

    @torch.no_grad()
    def reconstruct(self, images):
        """Images in [0, 1] → reconstructions in [0, 1]."""
        output = self(self.to_range(images))
        return ((output + 1) / 2 if self.spec["output"] == "tanh" else output).clamp(0, 1)


def load_twin(path):
    """The checkpoint's model with its weights; names and shapes have to fit exactly."""
    twin = Twin(read_metadata(path)["model"])
    twin.load_state_dict({name: tensor for name, tensor in load_file(path).items()
                          if not name.startswith(("optimizer.", "ema."))}, strict=True)
    return twin.eval()
