"""What a network is shown with --corrupt is what Pillow and NumPy make of the images."""

import io

import numpy as np
import pytest
from PIL import Image

from convae_program import ONE_CORE, picture, pixels_of

SIZE = (117, 130)  # not enlarged in grids


@pytest.fixture(scope="module", params=[1, 3], ids=["grey", "colour"])
def shown(request, program, tmp_path_factory):
    """The images, and a call that gives what the network is shown of them, (N, H, W[, 3]) of 8 bits."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "in").mkdir()
    for index in range(6):
        # Smooth, so that few values are at the ends of the range.
        pixels = picture(*SIZE, request.param, seed=index)
        Image.fromarray(pixels // 2 + 64).save(folder / "in" / f"{index}.png")
    program.run("train", "--data", "in", "--levels", "4", "--max-steps", 1, "--channels", request.param,
                "--quiet", *ONE_CORE, cwd=folder)

    def call(effects):
        program.run("reconstruct", "--checkpoint", "runs/in", "--data", "in", "-o", "out", "--grid", "--overwrite",
                    "--corrupt", effects, *ONE_CORE, cwd=folder)
        grids = [pixels_of(path)[:, :SIZE[1]] for path in sorted((folder / "out/grid").iterdir())]
        return np.stack(grids if request.param == 3 else [grid[:, :, 0] for grid in grids])

    return np.stack([pixels_of(path) for path in sorted((folder / "in").iterdir())]), call


def through_pillow(pixels, quality):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return np.array(Image.open(buffer))


@pytest.mark.parametrize("quality", [5, 40, 90])
def test_jpeg_is_pillows(shown, quality):
    clean, call = shown
    expected = np.stack([through_pillow(image, quality) for image in clean]).astype(int)
    found = call(f"jpeg:{quality}")
    # Versions of libjpeg may round differently.
    assert np.abs(found - expected).max() <= 2
    assert np.mean(found != expected) < 0.01
    assert np.abs(found - clean.astype(int)).mean() > 0.2


def test_each_image_has_noise_of_its_own_strength(shown):
    clean, call = shown
    noise = (call("noise:0.02-0.08") - clean.astype(float)) / 255
    deviations = noise.reshape(len(clean), -1).std(1)
    assert ((deviations > 0.0195) & (deviations < 0.082)).all()
    assert np.ptp(deviations) > 0.015


def test_shot_noise_grows_with_the_light(shown):
    clean, call = shown
    light = clean / 255
    noise = call("shot:1000+10") / 255 - light
    for low, high in ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6)):
        there = (light >= low) & (light < high)
        expected = light[there].mean() / 1000 + (10 / 1000) ** 2
        assert noise[there].var() == pytest.approx(expected, rel=0.1)
