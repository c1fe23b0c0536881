"""scripts/get-data on made-up files of the format that Fashion-MNIST comes in."""

import gzip
import json
import os
import shutil
import struct
import subprocess

import numpy as np
import pytest

from convae_program import ONE_CORE, pixels_of, snapshot, source_dir

KINDS = ["tshirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]


def write_idx(path, array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


def write_set(folder, counts=(("train", 7), ("t10k", 3))):
    """Images of 3x4 and labels from the tenth kind down; returns them by the files' prefix."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(3)
    made = {}
    for prefix, count in counts:
        images = random.integers(0, 256, (count, 3, 4), np.uint8)
        labels = (9 - np.arange(count) % 10).astype(np.uint8)
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", labels)
        made[prefix] = images, labels
    return made


def get_data(*words, cwd, **variables):
    return subprocess.run([source_dir() / "scripts" / "get-data", *words], cwd=cwd, text=True,
                          capture_output=True, env={**os.environ, **variables}, timeout=60)


@pytest.fixture
def idx(tmp_path):
    return tmp_path / "idx"


def test_every_image_is_a_png_in_its_kinds_folder(idx, tmp_path):
    made = write_set(idx)
    result = get_data("fashion-mnist", "out", cwd=tmp_path, IDX="idx")
    assert result.returncode == 0, result.stderr
    assert f"{tmp_path}/out/train: 7 images" in result.stdout
    assert f"{tmp_path}/out/test: 3 images" in result.stdout
    for folder, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = made[prefix]
        for index, (image, label) in enumerate(zip(images, labels)):
            found = pixels_of(tmp_path / "out" / folder / KINDS[label] / f"{index:05}.png")
            assert found.dtype == np.uint8 and (found == image).all()
        assert len(list((tmp_path / "out" / folder).rglob("*.png"))) == len(images)
    assert sorted(path.name for path in (tmp_path / "out" / "train").iterdir()) == sorted(KINDS)


def test_what_is_there_is_left_alone(idx, tmp_path):
    write_set(idx)
    get_data("fashion-mnist", "out", cwd=tmp_path, IDX="idx")
    before = snapshot(tmp_path / "out")
    result = get_data("fashion-mnist", "out", cwd=tmp_path, IDX="idx")
    assert result.returncode == 0 and result.stdout.count("there already") == 2
    assert snapshot(tmp_path / "out") == before


def truncate(path):
    path.write_bytes(path.read_bytes()[:-9])


def shorten(path):
    write_idx(path, np.zeros(2, np.uint8))


def relabel(path):
    write_idx(path, np.full(7, 10, np.uint8))


def replace(path):
    path.write_bytes(gzip.compress(b"something else"))


@pytest.mark.parametrize("name, damage, said", [
    ("train-images-idx3-ubyte.gz", truncate, "cannot be read"),
    ("train-images-idx3-ubyte.gz", replace, "is not an IDX file of bytes in 3 dimensions"),
    ("train-labels-idx1-ubyte.gz", shorten, "holds 7 images"),
    ("train-labels-idx1-ubyte.gz", relabel, "label 10 at 0, but there are 10 kinds"),
    ("train-labels-idx1-ubyte.gz", os.remove, "there is no train-labels-idx1-ubyte.gz"),
])
def test_damaged_files_leave_nothing_and_are_named(idx, tmp_path, name, damage, said):
    write_set(idx)
    damage(idx / name)
    result = get_data("fashion-mnist", "out", cwd=tmp_path, IDX="idx")
    assert result.returncode == 1
    assert result.stderr.startswith("get-data: ") and result.stderr.count("\n") == 1
    assert name in result.stderr and said in result.stderr
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_an_environment_without_pillow_is_not_taken(idx, tmp_path):
    write_set(idx)
    shutil.copytree(source_dir() / "scripts", tmp_path / "scripts")
    stubs = {".venv/bin/python": "exit 1", "bin/dpkg-query": "exit 1", "bin/apt-get": "exit 1",
             "bin/sudo": 'exec "$@"'}
    for name, does in stubs.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{does}\n")
        path.chmod(0o755)
    result = subprocess.run([tmp_path / "scripts/get-data", "fashion-mnist", "out"], cwd=tmp_path, text=True,
                            capture_output=True, timeout=60,
                            env={**os.environ, "IDX": "idx", "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"})
    if result.returncode == 0:
        pytest.skip("the system's Python has Pillow")
    assert "cannot install python3 python3-pil" in result.stderr


def test_other_data_sets_are_unknown(tmp_path):
    result = get_data("mnist", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == ("get-data: unknown data set 'mnist': expected fashion-mnist "
                             "(scripts/get-data --help)\n")


def test_the_recipe_for_it_trains_and_is_evaluated(done, idx, tmp_path):
    write_set(idx)
    get_data("fashion-mnist", "out", cwd=tmp_path, IDX="idx")
    done("train", "--config", source_dir() / "configs" / "fashion.toml", "--data", "out/train",
         "--latent", 4, "--max-steps", 2, "--batch-size", 4, "--quiet", *ONE_CORE)
    result = json.loads(done("evaluate", "--checkpoint", "runs/latest", "--data", "out/test", "--json",
                             *ONE_CORE).stdout)
    assert result["size"] == "28x28" and result["images"] == 3
    assert result["training_images"] == 7 and result["numbers_latent"] == 4
    assert "pca" in result["against"]
