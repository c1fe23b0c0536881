"""A checkpoint opened in Python gives the program's reconstructions and latents, for every option."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from skimage.metrics import structural_similarity

import convae
from convae_program import ONE_CORE, pixels_of, read_csv, read_metadata, save_pictures

SIZES = [(16, 17), (25, 24), (31, 12), (16, 17), (13, 40)]

MODELS = {
    "defaults": [],
    "conv-act-bn": ["--order", "conv-act-bn", "--activation", "relu"],
    "group norm": ["--norm", "group", "--activation", "leaky-relu", "--levels", "6,12"],
    "group norm after gelu": ["--norm", "group", "--activation", "gelu", "--order", "conv-act-bn"],
    "no norm, tanh": ["--norm", "none", "--output-activation", "tanh"],
    "linear": ["--output-activation", "linear", "--activation", "gelu"],
    "latent channels": ["--latent-channels", "3"],
    "latent channels, conv-act-bn": ["--latent-channels", "2", "--order", "conv-act-bn"],
    "dense": ["--latent", "7", "--size", "16x17"],
    "dense with a linear path": ["--latent", "2", "--size", "16x17", "--linear", "pca", "--shortcut", "shuffle",
                                 "--levels", "4:r1,6"],
    "map with a linear path": ["--latent-channels", "3", "--linear", "pca", "--levels", "4:r1,6"],
    "dense, conv-act-bn, tanh": ["--latent", "5", "--size", "25x24", "--order", "conv-act-bn",
                                 "--output-activation", "tanh"],
    "axes apart": ["--levels", "4:k3x5s2x1p1x2d1x1,6:k4x2s3x2p2x0d1x2,8:k2x3s1x2p0x1d2x1"],
    "dilation": ["--levels", "4:k3s2p2d2,8:k3s3p3d3"],
    "shortcuts": ["--shortcut", "shuffle"],
    "shortcuts of every kind": ["--shortcut", "shuffle", "--levels", "4:k4,6:s3,5:k5s1p2",
                                "--norm", "group", "--latent-channels", "2"],
    "shortcuts, residual blocks": ["--shortcut", "shuffle", "--levels", "4,8:r2", "--residual-blocks", "1",
                                   "--order", "conv-act-bn", "--output-activation", "tanh"],
    "even kernels without padding": ["--levels", "4,8", "--kernel", "4", "--padding", "0"],
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return save_pictures(tmp_path_factory.mktemp("data") / "photos", SIZES)


@pytest.fixture(scope="module", params=MODELS)
def model(request, program, photos, tmp_path_factory):
    """A short run of the model, its reconstructions and latents, and the checkpoint in the Python module."""
    folder = tmp_path_factory.mktemp("model")
    options = MODELS[request.param]
    levels = [] if "--levels" in options else ["--levels", "4,8"]
    dense = "--latent" in options
    # Some dozens of steps at a high rate, so that norms and biases are not what they started as.
    program.run("train", "--data", photos, "--epochs", 5, "--batch-size", 2, "--lr", 0.02,
                "--val-split", 0, "--name", "run", "--quiet", *levels, *options, *ONE_CORE, cwd=folder)
    checkpoint = folder / "runs" / "run" / "weights" / "last.safetensors"
    common = ("--checkpoint", checkpoint, "--data", photos, "--quiet", *ONE_CORE)
    program.run("reconstruct", *common, "-o", "out", cwd=folder)
    program.run("encode", *common, "-o", "latents/", cwd=folder)
    net = convae.Autoencoder(read_metadata(checkpoint)["model"]).eval()
    net.load_state_dict({name: tensor for name, tensor in load_file(checkpoint).items()
                         if not name.startswith("optimizer.")}, strict=True)
    images = {path.name: torch.from_numpy(pixels_of(path)).permute(2, 0, 1)[None].float() / 255
              for path in sorted(photos.iterdir())}
    if dense:  # Where the program resizes, only images of the model's own size can be compared.
        size = tuple(map(int, net.spec["size"].split("x")))
        images = {name: image for name, image in images.items() if image.shape[2:] == size}
        assert images
    return SimpleNamespace(checkpoint=checkpoint, net=net, images=images, out=folder / "out",
                           latents=folder / "latents")


def in_range(model, image):
    return image * 2 - 1 if model.net.spec["output"] == "tanh" else image


@torch.no_grad()
def reconstructed(model, image):
    """(H, W, C) in [0, 1] of (1, C, H, W) in [0, 1]."""
    output = model.net(in_range(model, image))
    unit = (output + 1) / 2 if model.net.spec["output"] == "tanh" else output
    return unit.clamp(0, 1)[0].permute(1, 2, 0).double().numpy()


def test_checkpoint_opens_with_the_safetensors_package(model):
    tensors = load_file(model.checkpoint)
    names = {name for name in tensors if not name.startswith("optimizer.")}
    assert names == set(model.net.state_dict())
    for name in names:
        assert tensors[name].shape == model.net.state_dict()[name].shape
    for name, parameter in model.net.named_parameters():
        for moment in ("exp_avg", "exp_avg_sq"):
            assert tensors[f"optimizer.{name}.{moment}"].shape == parameter.shape
    metadata = read_metadata(model.checkpoint)
    assert metadata["epoch"] == 5
    assert metadata["data"]["channels"] == 3
    assert metadata["data"]["range"] == ([-1, 1] if metadata["model"]["output"] == "tanh" else [0, 1])
    assert metadata["model"]["order"] in ("conv-bn-act", "conv-act-bn")


def test_reconstructions_are_the_modules_to_8_bits(model):
    for name, image in model.images.items():
        expected = reconstructed(model, image) * 255
        written = pixels_of(model.out / name)
        assert written.shape == expected.shape
        # Half a step of rounding, and no more than a value on the edge of it.
        assert np.abs(written - expected).max() <= 0.5 + 2e-3, name


def test_latents_are_the_modules(model):
    for name, image in model.images.items():
        with torch.no_grad():
            expected = model.net.encode(in_range(model, image)).numpy()
        latent = np.load(model.latents / name.replace(".png", ".npy"), allow_pickle=False)
        assert latent.dtype == np.float32 and latent.shape == expected.shape
        assert np.abs(latent - expected).max() <= 1e-5 * max(1, np.abs(expected).max()), name


def test_mse_psnr_and_ssim_are_those_of_scikit_image(model):
    rows = {row["path"]: row for row in read_csv(model.out / "reconstruct.csv")}
    for name, image in model.images.items():
        original = image[0].permute(1, 2, 0).double().numpy()
        reconstruction = reconstructed(model, image)
        mse = np.mean((original - reconstruction) ** 2)
        ssim = structural_similarity(original, reconstruction, gaussian_weights=True, sigma=1.5,
                                     use_sample_covariance=False, data_range=1, channel_axis=-1)
        assert float(rows[name]["mse"]) == pytest.approx(mse, rel=1e-4)
        assert float(rows[name]["psnr"]) == pytest.approx(-10 * np.log10(mse), abs=1e-3)
        assert float(rows[name]["ssim"]) == pytest.approx(ssim, abs=1e-4)
