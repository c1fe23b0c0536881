"""A dense latent that starts as principal components: `linear = "pca"`."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from convae_program import ONE_CORE, assert_same_tensors, pixels_of, read_csv, save_pictures

SIZE = (12, 17)
MODEL = ("--latent", 6, "--linear", "pca", "--levels", "4,6", "--norm", "none", *ONE_CORE)
LAST = "weights/last.safetensors"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Smooth pictures of one size: a few components tell much of them."""
    return save_pictures(tmp_path_factory.mktemp("linear") / "pictures", [SIZE] * 40)


@pytest.fixture(scope="module")
def data(pictures):
    return ("--data", pictures, "--size", f"{SIZE[0]}x{SIZE[1]}", "--val-split", 0)


@pytest.fixture(scope="module")
def run(program, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    program.run("train", *data, *MODEL, "--max-steps", 3, "--lr", 1e-4, "--name", "run", cwd=folder)
    return folder / "runs" / "run"


def rows(pictures):
    paths = sorted(pictures.rglob("*.png"))
    return np.stack([pixels_of(path).transpose(2, 0, 1).ravel() / 255 for path in paths])


def test_the_path_is_numpys_principal_components(run, pictures):
    images = rows(pictures)
    mean = images.mean(0)
    _, _, axes = np.linalg.svd(images - mean, full_matrices=False)
    weights = load_file(run / LAST)
    components = weights["encoder.linear.components"].reshape(6, -1) / 10
    assert np.abs(weights["encoder.linear.mean"].ravel() - mean).max() < 1e-6
    # Up to their signs.
    assert np.abs(np.abs((components * axes[:6]).sum(1)) - 1).max() < 1e-3
    assert np.array_equal(weights["encoder.linear.mean"], weights["decoder.linear.mean"])
    assert np.allclose(weights["encoder.linear.components"], 100 * weights["decoder.linear.components"])


def test_the_network_is_hardly_worse_than_them_from_the_first_steps(done, run, pictures, tmp_path):
    images = rows(pictures)
    mean = images.mean(0)
    _, _, axes = np.linalg.svd(images - mean, full_matrices=False)
    error = ((images - mean - (images - mean) @ axes[:6].T @ axes[:6]) ** 2).mean()
    done("reconstruct", "--checkpoint", run, "--data", pictures, "-o", "out")
    own = np.mean([float(row["mse"]) for row in read_csv(tmp_path / "out" / "reconstruct.csv")])
    assert own < 1.02 * error + 1e-5


def test_latents_are_decoded_to_the_reconstruction(done, run, pictures, tmp_path):
    done("encode", "--checkpoint", run, "--data", pictures, "-o", "latents.npy")
    assert np.load(tmp_path / "latents.npy").shape == (40, 6)
    done("decode", "--checkpoint", run, "--latents", "latents.npy", "-o", "decoded")
    done("reconstruct", "--checkpoint", run, "--data", pictures, "-o", "out")
    for path in sorted((tmp_path / "out").rglob("*.png")):
        again = tmp_path / "decoded" / path.relative_to(tmp_path / "out")
        assert np.abs(pixels_of(path).astype(int) - pixels_of(again).astype(int)).max() <= 1


def test_a_resumed_run_is_the_uninterrupted_one(done, run, data, tmp_path):
    done("train", *data, *MODEL, "--max-steps", 1, "--lr", 1e-4, "--schedule", "constant", "--name", "run")
    done("train", "--resume", "runs/run", "--max-steps", 3)
    done("train", *data, *MODEL, "--max-steps", 3, "--lr", 1e-4, "--schedule", "constant", "--name", "whole")
    assert_same_tensors(tmp_path / "runs" / "run" / LAST, tmp_path / "runs" / "whole" / LAST)


def test_weights_to_start_from_bring_their_own_path(done, run, pictures, tmp_path):
    (tmp_path / "few").mkdir()
    for path in sorted(pictures.rglob("*.png"))[:9]:
        (tmp_path / "few" / path.name).write_bytes(path.read_bytes())
    done("train", "--data", "few", "--size", "12x17", "--val-split", 0, *MODEL, "--init", run / LAST,
         "--max-steps", 1, "--name", "again")
    before, after = load_file(run / LAST), load_file(tmp_path / "runs" / "again" / LAST)
    assert np.array_equal(before["decoder.linear.components"], after["decoder.linear.components"])
    assert not np.array_equal(before["decoder.0.conv.weight"], after["decoder.0.conv.weight"])


def test_fewer_pictures_than_numbers_leave_the_rest_to_the_network(done, pictures, tmp_path):
    (tmp_path / "few").mkdir()
    for path in sorted(pictures.rglob("*.png"))[:4]:
        (tmp_path / "few" / path.name).write_bytes(path.read_bytes())
    result = done("train", "--data", "few", "--size", "12x17", "--val-split", 0, *MODEL, "--max-steps", 1,
                  "--name", "run")
    assert "linear path: 3 principal components of 4 images" in result.stderr
    components = load_file(tmp_path / "runs" / "run" / LAST)["encoder.linear.components"]
    assert components.shape == (6, 3, *SIZE)
    assert np.any(components[:3], axis=(1, 2, 3)).all() and not components[3:].any()


def test_as_many_numbers_as_an_image_has_are_refused(program, tmp_path):
    save_pictures(tmp_path / "tiny", [(2, 2)] * 20)
    result = program.call("train", "--data", "tiny", "--size", "2", "--val-split", 0, "--latent", 12,
                          "--linear", "pca", "--levels", "4", *ONE_CORE, cwd=tmp_path)
    result.assert_refused(1, "would give every image of 12 numbers back as it is; use --linear none")
    assert not (tmp_path / "runs").exists()


MAP = ("--latent-channels", 3, "--linear", "pca", "--levels", "4,6", "--norm", "none", "--val-split", 0, *ONE_CORE)


def blocks_of(pixels):
    """4x4 blocks, of an image whose edge is repeated."""
    h, w = pixels.shape[:2]
    whole = np.pad(pixels / 255, ((0, -h % 4), (0, -w % 4), (0, 0)), "edge")
    h, w = whole.shape[:2]
    return whole.reshape(h // 4, 4, w // 4, 4, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 48)


def test_a_map_starts_with_the_components_of_blocks_of_pictures_of_all_sizes(done, tmp_path):
    photos = save_pictures(tmp_path / "photos", [(16, 20), (13, 17), (24, 9), (3, 5)] * 6)
    result = done("train", "--data", photos, *MAP, "--max-steps", 2, "--lr", 1e-5, "--name", "run")
    paths = sorted(photos.rglob("*.png"))
    blocks = np.concatenate([blocks_of(pixels_of(path)) for path in paths])
    assert f"linear path: 3 principal components of {len(blocks)} blocks of 4x4" in result.stderr
    _, _, axes = np.linalg.svd(blocks - blocks.mean(0), full_matrices=False)
    weights = load_file(tmp_path / "runs/run" / LAST)
    components = weights["encoder.linear.components"].reshape(3, 48) / 10
    assert np.abs(np.abs((components * axes[:3]).sum(1)) - 1).max() < 1e-3
    colour = blocks.mean(0).reshape(3, 16).mean(1)
    assert np.abs(weights["decoder.linear.mean"].ravel() - colour).max() < 1e-5

    common = ("--checkpoint", tmp_path / "runs/run", "--data", photos)
    done("reconstruct", *common, "-o", "out")
    for row in read_csv(tmp_path / "out/reconstruct.csv"):
        rest = blocks_of(pixels_of(photos / row["path"])) - colour.repeat(16)
        own = (rest - rest @ axes[:3].T @ axes[:3]) ** 2
        # The network begins with little to add; blocks that reach beyond the edge count there too.
        assert float(row["mse"]) < 1.5 * own.mean() + 1e-3
    done("encode", *common, "-o", "latents/")
    done("decode", "--checkpoint", tmp_path / "runs/run", "--latents", "latents/", "-o", "decoded")
    for path in paths:
        name = path.relative_to(photos)
        assert np.abs(pixels_of(tmp_path / "out" / name).astype(int) - pixels_of(tmp_path / "decoded" / name)).max() <= 1


def test_crops_give_more_blocks_and_a_resumed_map_is_the_uninterrupted_one(done, tmp_path):
    photos = save_pictures(tmp_path / "photos", [(30, 41)] * 8)
    words = ("--data", photos, *MAP, "--crop", 16, "--batch-size", 4, "--schedule", "constant")
    result = done("train", *words, "--max-steps", 4, "--name", "a")
    assert "of 4096 blocks of 4x4" in result.stderr, "eight crops of 16 blocks, 32 times"
    done("train", *words, "--max-steps", 2, "--name", "b")
    done("train", "--resume", "runs/b", "--max-steps", 4)
    assert_same_tensors(tmp_path / "runs/a" / LAST, tmp_path / "runs/b" / LAST)


def test_kernels_whose_middle_is_between_pixels_are_refused_for_a_map(convae, tmp_path):
    save_pictures(tmp_path / "photos", [(16, 16)] * 4)
    convae("train", "--data", "photos", *MAP, "--levels", "4,6:k4").assert_refused(
        2, "level 2 (k4 s2 p1)", "k3p1")
