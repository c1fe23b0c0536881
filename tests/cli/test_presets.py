"""Every preset in configs/ trains, as it is."""

import pytest

from convae_program import ONE_CORE, save_pictures, source_dir

PRESETS = sorted((source_dir() / "configs").glob("*.toml"))


def test_there_are_presets():
    assert {path.stem for path in PRESETS} >= {"classic", "compress", "denoise", "inspect",
                                               "quickstart"}


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_trains(preset, done, tmp_path):
    # Large enough for the crops, for SSIM and for both sides of the split.
    data = save_pictures(tmp_path / "in", [(131, 140)] * 8)
    result = done("train", "--config", preset, "--data", data, "--max-steps", 2, "--batch-size", 2,
                  "--name", "run", *ONE_CORE)
    assert "2 steps" in result.stdout
    assert (tmp_path / "runs/run/weights/last.safetensors").is_file()


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_is_explained_in_its_first_lines(preset):
    lines = preset.read_text().splitlines()
    comment = [line for line in lines[:lines.index(next(l for l in lines if l.startswith("[")))]]
    assert comment[0].startswith("# ")
    assert any("convae train --config configs/" + preset.name in line for line in comment)
