"""Runs of version 0.1 (tests/fixtures/version_0_1) in today's program."""

import json
import os
import pathlib
import shutil

import pytest

from convae_program import ONE_CORE, read_csv

SOURCE = pathlib.Path(os.environ["CONVAE_SOURCE_DIR"])
OLD = SOURCE / "tests" / "fixtures" / "version_0_1"
SAMPLES = SOURCE / "data" / "samples"


@pytest.fixture(params=["plain", "dense"])
def old(request, tmp_path):
    """A run folder with a checkpoint of 0.1, and what 0.1 measured of it."""
    weights = tmp_path / "runs" / "old" / "weights"
    weights.mkdir(parents=True)
    shutil.copy(OLD / f"{request.param}.safetensors", weights / "last.safetensors")
    return read_csv(OLD / f"{request.param}.csv")


@pytest.fixture
def images(old, tmp_path):
    """The images that 0.1 measured."""
    folder = tmp_path / "images"
    folder.mkdir()
    for path in SAMPLES.rglob("*.png"):
        if path.name in {row["path"] for row in old}:
            shutil.copy(path, folder)
    return folder


def test_reconstructs_what_the_old_version_did(old, images, done, tmp_path):
    done("reconstruct", "--checkpoint", "runs/old", "--data", images, "-o", "out", *ONE_CORE)
    rows = read_csv(tmp_path / "out" / "reconstruct.csv")
    assert [row["path"] for row in rows] == [row["path"] for row in old]
    for row, before in zip(rows, old):
        assert float(row["mse"]) == pytest.approx(float(before["mse"]), abs=1e-6)


def test_goes_on_with_a_run_of_the_old_version(old, done, tmp_path):
    assert json.loads(done("info", "runs/old", "--json").stdout)["format"] == 1
    result = done("train", "--resume", "runs/old", "--epochs", 3, "--data", SAMPLES, *ONE_CORE)
    assert "3 epochs" in result.stdout
    rows = read_csv(tmp_path / "runs" / "old" / "metrics.csv")
    assert [row["epoch"] for row in rows] == ["3"]
    assert float(rows[0]["train_loss"]) > 0
    info = json.loads(done("info", "runs/old", "--json").stdout)
    assert info["format"] == 2 and info["epoch"] == 3


def test_finished_run_of_the_old_version_stays_finished(old, done):
    assert "is finished (2 epochs, 2 steps)" in done("train", "--resume", "runs/old").stdout
