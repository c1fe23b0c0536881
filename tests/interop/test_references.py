"""evaluate's references are NumPy's PCA and Pillow's JPEG, and its measures scikit-image's."""

import io

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import structural_similarity

from convae_program import ONE_CORE, picture, pixels_of, read_csv, save_pictures

LATENT = 5


@pytest.fixture(scope="module", params=[1, 3], ids=["grey", "colour"])
def channels(request):
    return request.param


@pytest.fixture(scope="module")
def work(program, channels, tmp_path_factory):
    """A run with a dense latent, its training images, others, and what evaluate wrote of them."""
    folder = tmp_path_factory.mktemp("work")
    save_pictures(folder / "train", [(21, 24)] * 40, channels)
    (folder / "test").mkdir()
    for index in range(8):
        pixels = picture(21, 24, channels, seed=500 + index)
        Image.fromarray(pixels).save(folder / "test" / f"{index}.png")
    program.run("train", "--data", "train", "--levels", "4,8", "--latent", LATENT, "--size", "21x24",
                "--epochs", 3, "--val-split", 0, "--quiet", *ONE_CORE, cwd=folder)
    program.run("evaluate", "--checkpoint", "runs/train", "--data", "test", "-o", "out", *ONE_CORE,
                cwd=folder)
    return folder


@pytest.fixture(scope="module")
def rows(work):
    return read_csv(work / "out" / "evaluate.csv")


def column(rows, name):
    return np.array([float(row[name]) for row in rows])


def as_array(path):
    """(H, W, C) in [0, 1]."""
    pixels = pixels_of(path).astype(np.float64) / 255
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def stack(folder):
    return np.stack([as_array(path) for path in sorted(folder.iterdir())])


def image_mse(found, target):
    return ((found - target) ** 2).reshape(len(target), -1).mean(1)


def ssim(found, target):
    return np.array([structural_similarity(x, y, channel_axis=2, data_range=1, gaussian_weights=True,
                                           sigma=1.5, use_sample_covariance=False)
                     for x, y in zip(found, target)])


def test_pca_is_numpys(work, rows):
    train, test = stack(work / "train").reshape(40, -1), stack(work / "test")
    mean = train.mean(0)
    _, _, vh = np.linalg.svd(train - mean, full_matrices=False)
    flat = test.reshape(len(test), -1) - mean
    found = np.clip(mean + flat @ vh[:LATENT].T @ vh[:LATENT], 0, 1).reshape(test.shape)
    assert np.allclose(column(rows, "pca_mse"), image_mse(found, test), rtol=1e-4)
    assert np.allclose(column(rows, "pca_ssim"), ssim(found, test), rtol=0, atol=1e-4)


def test_mean_image_is_numpys(work, rows):
    train, test = stack(work / "train"), stack(work / "test")
    found = np.broadcast_to(train.mean(0), test.shape)
    assert np.allclose(column(rows, "mean_image_mse"), image_mse(found, test), rtol=1e-5)
    psnr = -10 * np.log10(image_mse(found, test))
    assert np.allclose(column(rows, "mean_image_psnr"), psnr, rtol=1e-5)


def scan_bytes(file):
    """Bytes between the header of the only scan and the end marker."""
    at = 2
    while True:
        marker, length = file[at + 1], int.from_bytes(file[at + 2:at + 4], "big")
        at += 2 + length
        if marker == 0xDA:
            return len(file) - at - 2


def encode(image, quality):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return buffer.getvalue()


def test_jpeg_is_the_nearest_that_pillow_can_make(work, rows):
    for row, path in zip(rows, sorted((work / "test").iterdir())):
        image = Image.open(path)
        files = [encode(image, quality) for quality in range(1, 101)]
        nearest = min(files, key=lambda file: abs(scan_bytes(file) - LATENT))
        assert abs(float(row["jpeg_bytes"]) - scan_bytes(nearest)) <= 1
        found = np.array(Image.open(io.BytesIO(nearest))).astype(np.float64) / 255
        target = as_array(path).reshape(found.shape)
        assert float(row["jpeg_mse"]) == pytest.approx(((found - target) ** 2).mean(), rel=0.02)


def test_eight_bits_are_those_of_the_training_images_ranges(program, work, rows):
    program.run("encode", "--checkpoint", "runs/train", "--data", "train", "-o", "train.npy", *ONE_CORE, cwd=work)
    program.run("encode", "--checkpoint", "runs/train", "--data", "test", "-o", "test.npy", *ONE_CORE, cwd=work)
    seen, latents = np.load(work / "train.npy"), np.load(work / "test.npy")
    low, high = seen.min(0), seen.max(0)
    codes = np.round((np.clip(latents, low, high) - low) / (high - low) * 255)
    assert codes.min() >= 0 and codes.max() <= 255
    np.save(work / "test.npy", (low + codes / 255 * (high - low)).astype(np.float32))
    program.run("decode", "--checkpoint", "runs/train", "--latents", "test.npy", "-o", "decoded",
                "--threads", 1, cwd=work)
    found = stack(work / "decoded")
    # What decode writes is itself rounded to 8 bits.
    assert np.allclose(column(rows, "network_8_bit_mse"), image_mse(found, stack(work / "test")), rtol=2e-3)
    assert not np.allclose(column(rows, "network_8_bit_mse"), column(rows, "mse"), rtol=1e-7)
