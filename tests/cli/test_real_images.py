"""The program on real photographs, where they are: see ../shared/data."""

import shutil

import numpy as np
from PIL import Image, ImageOps

from convae_program import ONE_CORE, read_csv, shared_data


def test_tiles_train_on_train_good(done, tmp_path):
    tiles = shared_data("tiles")
    result = done("train", "--data", tiles, "--size", 24, "--levels", "4,8", "--max-steps", 2,
                  "--batch-size", 8, *ONE_CORE)
    assert any("MVTec" in line and "train/good" in line for line in result.logs)
    assert any("1 channel" in line for line in result.logs)
    assert (tmp_path / "runs" / "tiles" / "weights" / "last.safetensors").is_file()


def test_fashion_trains_grey_at_28(done):
    result = done("train", "--data", shared_data("fashion", "train"), "--levels", "4,8,16",
                  "--max-steps", 4, *ONE_CORE)
    assert any("4x14x14" in line and "8x7x7" in line for line in result.logs)
    assert any("output_padding 0,0" in line for line in result.logs)


def test_photographs_come_back_at_their_sizes(done, identity, tmp_path):
    photos = shared_data("photos", "imagenet")
    done("reconstruct", "--checkpoint", identity, "--data", photos, "-o", "out", *ONE_CORE)
    rows = read_csv(tmp_path / "out" / "reconstruct.csv")
    assert len(rows) == sum(path.is_file() for path in photos.rglob("*"))
    for row in rows:
        with Image.open(photos / row["path"]) as image:
            upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB")).astype(int)
        with Image.open((tmp_path / "out" / row["path"]).with_suffix(".png")) as image:
            written = np.asarray(image).astype(int)
        assert written.shape == upright.shape
        assert np.abs(written - upright).max() <= 2, "decoders may differ in the last bit"


def test_mixed_photographs_train_at_native_sizes(done, tmp_path):
    photos = shared_data("photos")
    chosen = sorted((photos / "imagenet").iterdir()) + sorted((photos / "sklearn").iterdir())
    (tmp_path / "in").mkdir()
    for path in chosen[:4]:
        shutil.copy(path, tmp_path / "in")
    result = done("train", "--data", "in", "--levels", "4,8", "--epochs", 1, "--val-split", 0, *ONE_CORE)
    assert "0 images skipped" in result.stdout
