"""Variational models: what sample draws, and the walk that interpolate takes."""

import numpy as np
import pytest

from convae_program import ONE_CORE, pixels_of, save_pictures, snapshot

VARIATIONAL = ("--variational", "--levels", "4,8", "--epochs", 1, "--val-split", 0, *ONE_CORE)


@pytest.fixture(scope="module")
def folder(program, tmp_path_factory):
    """Runs of a map and of a dense latent, and one that is not variational."""
    folder = tmp_path_factory.mktemp("generate")
    photos = save_pictures(folder / "photos", [(16, 20)] * 4)
    for name, flags in {"map": ["--latent-channels", 3], "dense": ["--latent", 5, "--size", "13x18"]}.items():
        program.run("train", "--data", photos, *VARIATIONAL, *flags, "--name", name, cwd=folder)
    program.run("train", "--data", photos, "--levels", "4,8", "--epochs", 1, "--name", "plain",
                *ONE_CORE, cwd=folder)
    return folder


def samples_of(folder):
    return {path.name: pixels_of(path) for path in sorted(folder.iterdir())}


def test_samples_depend_on_seed_and_number_alone(program, folder, tmp_path):
    words = ["sample", "--checkpoint", folder / "runs/map", "--size", "15x22"]
    program.run(*words, "--count", 3, "-o", "three", cwd=tmp_path)
    program.run(*words, "--count", 5, "-o", "five", cwd=tmp_path)
    program.run(*words, "--count", 3, "--seed", 1, "-o", "other", cwd=tmp_path)
    three, five, other = (samples_of(tmp_path / name) for name in ("three", "five", "other"))
    assert list(three) == ["sample_00001.png", "sample_00002.png", "sample_00003.png", "samples.png"]
    for name in list(three)[:3]:
        assert three[name].shape == (15, 22, 3)
        np.testing.assert_array_equal(three[name], five[name])
        assert (three[name] != other[name]).any()
    assert (three["sample_00001.png"] != three["sample_00002.png"]).any()


def test_a_dense_model_draws_its_own_size(program, folder, tmp_path):
    result = program.run("sample", "--checkpoint", folder / "runs/dense", "-o", "out", cwd=tmp_path)
    pictures = samples_of(tmp_path / "out")
    assert pictures.pop("samples.png") is not None
    assert {picture.shape for picture in pictures.values()} == {(13, 18, 3)}
    assert f"{len(pictures)} images of 13x18" in result.stdout
    program.call("sample", "--checkpoint", folder / "runs/dense", "--size", 20, "-o", "b",
                 cwd=tmp_path).assert_refused(2, "--size '20x20'", "13x18")


@pytest.mark.parametrize("words, code, parts", [
    (["--checkpoint", "runs/plain", "--size", 16], 1, ["not variational", "--variational"]),
    (["--checkpoint", "runs/map"], 2, ["--size is needed"]),
    (["--checkpoint", "runs/map", "--size", 16, "--count", 0], 2, ["--count '0'"]),
    (["--checkpoint", "runs/none", "--size", 16], 1, ["runs/none"]),
    (["--checkpoint", "runs/map", "--size", 16, "--memory", "64M"], 1, ["16x16", "--memory 64M", "would do"]),
    ([], 2, ["--checkpoint"]),
])
def test_what_cannot_be_drawn_is_said(program, folder, words, code, parts):
    program.call("sample", *words, "-o", "refused", cwd=folder).assert_refused(code, *parts)
    assert not (folder / "refused").exists()


def test_samples_overwrite_nothing(program, folder, tmp_path):
    words = ["sample", "--checkpoint", folder / "runs/dense", "--count", 2, "-o", "out"]
    program.run(*words, cwd=tmp_path)
    before = snapshot(tmp_path)
    program.call(*words, "--seed", 4, cwd=tmp_path).assert_refused(1, "sample_00001.png", "--overwrite")
    assert snapshot(tmp_path) == before
    for path in tmp_path.glob("out/sample_*"):
        path.unlink()
    program.call(*words, cwd=tmp_path).assert_refused(1, "samples.png", "--overwrite")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["samples.png"]
    program.run(*words, "--seed", 4, "--overwrite", cwd=tmp_path)
    assert snapshot(tmp_path) != before


@pytest.mark.parametrize("run", ["map", "dense", "plain"])
def test_a_walk_begins_and_ends_at_the_reconstructions(program, folder, tmp_path, run):
    a, b = folder / "photos/000.png", folder / "photos/002.png"
    program.run("interpolate", a, b, "--checkpoint", folder / "runs" / run, "--steps", 5, "-o", "walk",
                cwd=tmp_path)
    program.run("reconstruct", "--checkpoint", folder / "runs" / run, "--data", folder / "photos",
                "-o", "out", cwd=tmp_path)
    walk = samples_of(tmp_path / "walk")
    assert list(walk) == [f"step_{i:05}.png" for i in range(1, 6)] + ["strip.png"]
    if run != "dense":  # reconstruct gives every image its own size back
        for step, image in (("step_00001.png", "000.png"), ("step_00005.png", "002.png")):
            difference = walk[step].astype(int) - pixels_of(tmp_path / "out" / image)
            assert np.abs(difference).max() <= 1  # rounding
    assert (walk["step_00001.png"] != walk["step_00003.png"]).any()
    # side by side, whatever is between
    assert walk["strip.png"].shape[1] >= 5 * walk["step_00001.png"].shape[1]


@pytest.mark.parametrize("words, code, parts", [
    (["photos/000.png"], 2, ["two images"]),
    (["photos/000.png", "photos/001.png", "photos/002.png"], 2, ["unexpected word 'photos/002.png'"]),
    (["photos/000.png", "photos/none.png"], 1, ["photos/none.png"]),
    (["photos/000.png", "runs/map/config.toml"], 1, ["config.toml"]),
    (["photos/000.png", "photos/001.png", "--steps", 1], 2, ["--steps '1'"]),
    (["photos/000.png", "photos/001.png", "--size", 64, "--max-pixels", 4000], 2, ["--size '64x64'", "--max-pixels 4000"]),
])
def test_walks_that_cannot_be(program, folder, words, code, parts):
    program.call("interpolate", *words, "--checkpoint", "runs/map", "-o", "refused",
                 cwd=folder).assert_refused(code, *parts)
    assert not (folder / "refused").exists()


def test_a_wrong_number_of_workers_is_refused(program, folder, tmp_path):
    program.call("sample", "--checkpoint", folder / "runs/map", "--workers", -5, "-o", "out",
                 cwd=tmp_path).assert_refused(2, "workers", "-5")


def test_pictures_among_others_are_small(program, folder, tmp_path):
    program.run("interpolate", folder / "photos/000.png", folder / "photos/001.png", "--checkpoint",
                folder / "runs/map", "--size", "700x600", "--steps", 2, "-o", "walk", cwd=tmp_path)
    walk = samples_of(tmp_path / "walk")
    assert walk["step_00001.png"].shape[:2] == (700, 600)
    assert walk["strip.png"].shape[0] == 512
