"""From the same weights, the program's steps are PyTorch's."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import pytorch_msssim
import torch
from safetensors.torch import load_file, save_file

import convae
from convae_program import ONE_CORE, pixels_of, read_csv, save_pictures

STEPS = 20


def as_tensor(path):
    return torch.from_numpy(pixels_of(path)).permute(2, 0, 1).float() / 255


SIZE = (20, 23)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return save_pictures(tmp_path_factory.mktemp("data") / "photos", [SIZE] * 6)


@pytest.fixture(scope="module")
def large_photos(tmp_path_factory):
    """Five halvings leave room for the window of SSIM; all of them meet odd sides."""
    return save_pictures(tmp_path_factory.mktemp("data") / "photos", [(177, 193)] * 4)


def images_of(folder):
    """(N, 3, H, W) in [0, 1]."""
    return torch.stack([as_tensor(path) for path in sorted(folder.iterdir())])


@dataclass
class Case:
    spec: dict
    flags: list
    optimizer: Callable
    loss: Callable = torch.nn.functional.mse_loss
    clip: float = 0
    large: bool = False


def ssim_loss(x, y):
    return 1 - pytorch_msssim.ssim(x, y, data_range=1)


def ms_ssim_loss(x, y):
    return 1 - pytorch_msssim.ms_ssim(x, y, data_range=1)


def mixed_loss(x, y):
    return torch.nn.functional.mse_loss(x, y) + 0.2 * ssim_loss((x + 1) / 2, (y + 1) / 2)


def charbonnier_loss(x, y):
    return ((x - y) ** 2 + 1e-6).sqrt().mean()


def spec_of(**changes):
    return {"channels": 3, "levels": ["4:k3x3s2x2p1x1d1x1", "8:k3x3s2x2p1x1d1x1"],
            "order": "conv-bn-act", "activation": "silu", "norm": "batch", "latent-channels": 0,
            "latent": 0, "size": "0x0", "output": "sigmoid", "variational": False, **changes}


# What the program is told, and the same for PyTorch.
CASES = {
    "adam, conv-bn-act": Case(spec_of(), [], partial(torch.optim.Adam, lr=3e-3)),
    "adam, conv-act-bn": Case(spec_of(order="conv-act-bn"), ["--order", "conv-act-bn"],
                              partial(torch.optim.Adam, lr=3e-3)),
    "adam with L2, bottleneck": Case(
        spec_of(norm="group", **{"latent-channels": 3}),
        ["--norm", "group", "--latent-channels", "3", "--weight-decay", "0.1"],
        partial(torch.optim.Adam, lr=3e-3, weight_decay=0.1)),
    "adamw, tanh": Case(
        spec_of(output="tanh", activation="gelu"),
        ["--output-activation", "tanh", "--activation", "gelu", "--optimizer", "adamw",
         "--weight-decay", "0.05"],
        partial(torch.optim.AdamW, lr=3e-3, weight_decay=0.05)),
    "sgd, l1, clipped": Case(
        spec_of(activation="relu"),
        ["--activation", "relu", "--optimizer", "sgd", "--lr", "0.1", "--loss", "l1",
         "--clip-grad", "0.02"],
        partial(torch.optim.SGD, lr=0.1, momentum=0.9), torch.nn.functional.l1_loss, clip=0.02),
    "charbonnier": Case(spec_of(), ["--loss", "charbonnier"], partial(torch.optim.Adam, lr=3e-3),
                        charbonnier_loss),
    "ssim": Case(spec_of(), ["--loss", "ssim"], partial(torch.optim.Adam, lr=3e-3), ssim_loss),
    "a sum, tanh": Case(spec_of(output="tanh"),
                        ["--output-activation", "tanh", "--loss", "mse + 0.2*ssim"],
                        partial(torch.optim.Adam, lr=3e-3), mixed_loss),
    "shortcuts, residual blocks": Case(
        spec_of(shortcut="shuffle", levels=["4:k3x3s2x2p1x1d1x1r1", "8:k3x3s2x2p1x1d1x1r1"]),
        ["--shortcut", "shuffle", "--residual-blocks", "1"], partial(torch.optim.Adam, lr=3e-3)),
    "everything, residual": Case(
        spec_of(shortcut="shuffle", levels=["4:k3x3s2x2p1x1d1x1r1", "8:k3x3s2x2p1x1d1x1r1"],
                skip="add", residual=True, output="linear"),
        ["--shortcut", "shuffle", "--residual-blocks", "1", "--skip", "add", "--residual"],
        partial(torch.optim.Adam, lr=3e-3)),
    "skips, l1": Case(spec_of(skip="add"), ["--skip", "add", "--loss", "l1"],
                      partial(torch.optim.Adam, lr=3e-3), torch.nn.functional.l1_loss),
    "residual, ssim": Case(spec_of(residual=True, output="linear"), ["--residual", "--loss", "ssim"],
                           partial(torch.optim.Adam, lr=3e-3), ssim_loss),
    "ms-ssim": Case(spec_of(), ["--loss", "ms-ssim"], partial(torch.optim.Adam, lr=3e-3),
                    ms_ssim_loss, large=True),
}


def move_statistics_like_the_program(net, step):
    """As models/blocks.h says."""
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = max(0.02, 6 / (step + 5))


def train(program, photos, net, cwd, *flags):
    """Trains the program from the network's weights, all images a step; gives the losses and the run."""
    save_file(net.state_dict(), cwd / "start.safetensors")
    if "--lr" not in flags:
        flags = ("--lr", "3e-3", *flags)
    program.run("train", "--data", photos, "--init", "start.safetensors", "--levels", "4,8",
                "--epochs", STEPS, "--batch-size", 8, "--schedule", "constant", "--val-split", 0,
                "--save-every", 0, "--quiet", *flags, *ONE_CORE, cwd=cwd)
    run = cwd / "runs" / photos.name
    losses = [float(row["train_loss"]) for row in read_csv(run / "metrics.csv")]
    assert len(losses) == STEPS
    return losses, run


@pytest.mark.parametrize("name", CASES)
def test_losses_and_weights_are_those_of_pytorch(program, photos, large_photos, tmp_path, name):
    case = CASES[name]
    folder = large_photos if case.large else photos
    torch.manual_seed(5)
    net = convae.Autoencoder(case.spec)
    found, run = train(program, folder, net, tmp_path, *case.flags)
    optimizer = case.optimizer(net.parameters())
    target = images_of(folder)
    if case.spec["output"] == "tanh":
        target = target * 2 - 1
    expected = []
    for step in range(1, STEPS + 1):
        move_statistics_like_the_program(net, step)
        optimizer.zero_grad()
        loss = case.loss(net(target), target)
        loss.backward()
        if case.clip:
            norm = torch.nn.utils.clip_grad_norm_(net.parameters(), case.clip)
            assert step > 1 or norm > case.clip, "nothing was clipped"
        optimizer.step()
        expected.append(loss.item())
    assert np.allclose(found, expected, rtol=1e-4, atol=0)
    assert expected[-1] < expected[0]
    trained = load_file(run / "weights" / "last.safetensors")
    for key, tensor in net.state_dict().items():
        # Adam divides by the root of squared gradients: where those are all but zero, rounding
        # decides the direction.
        if not is_cancelled_by_norm(key, case.spec):
            assert torch.allclose(trained[key].double(), tensor.double(), rtol=1e-3, atol=1e-4), key


def test_images_of_several_sizes_count_the_same(program, tmp_path):
    photos = save_pictures(tmp_path / "mixed", [(20, 23), (12, 13), (20, 23), (31, 16)])
    torch.manual_seed(5)
    net = convae.Autoencoder(spec_of(norm="none"))
    found, _ = train(program, photos, net, tmp_path, "--norm", "none")
    images = [as_tensor(path)[None] for path in sorted(photos.iterdir())]
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    expected = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = sum(torch.nn.functional.mse_loss(net(image), image) for image in images) / len(images)
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    assert np.allclose(found, expected, rtol=1e-4, atol=0)


def test_a_variational_runs_validation_is_pytorchs(program, photos, tmp_path):
    """Loss of the means' reconstruction plus beta times the divergence a latent number."""
    program.run("train", "--data", photos, "--val", photos, "--levels", "4,8", "--latent-channels",
                "3", "--variational", "--beta", "0.3", "--epochs", 2, "--quiet", cwd=tmp_path)
    run = tmp_path / "runs" / photos.name
    program.run("export", "--checkpoint", run / "weights/last.safetensors", "--format", "safetensors", "-o", "net",
                cwd=tmp_path)
    net = convae.load(tmp_path / "net")
    images = images_of(photos)
    with torch.no_grad():
        mean, log_variance = net.encoder(images).chunk(2, 1)
        normal = torch.distributions.Normal(mean, (log_variance / 2).exp())
        standard = torch.distributions.Normal(torch.zeros(()), torch.ones(()))
        divergence = torch.distributions.kl_divergence(normal, standard).mean()
        mse = torch.nn.functional.mse_loss(net.decode(mean, images.shape[2:]), images)
    row = read_csv(run / "metrics.csv")[-1]
    assert float(row["val_mse"]) == pytest.approx(mse.item(), rel=1e-5)
    assert float(row["val_loss"]) == pytest.approx((mse + 0.3 * divergence).item(), rel=1e-4)


def is_cancelled_by_norm(name, spec):
    """Biases that a norm right behind them takes out again, and the mean it takes out."""
    if spec["norm"] != "batch" or spec["order"] != "conv-bn-act":
        return False
    if name.startswith("decoder.1.conv") or ".second." in name:  # without a norm
        return False
    return name.endswith(("conv.bias", "running_mean"))
