"""Shortcuts, residual blocks, skip connections and residual networks, as a user asks for them."""

import json
import tomllib

import pytest
from safetensors.numpy import load_file

from convae_program import ONE_CORE, assert_same_tensors, pixels_of, read_csv

LAST = "weights/last.safetensors"
SMALL = ("--levels", "4,6:r2", "--batch-size", 4, "--schedule", "constant", *ONE_CORE)
PARTS = ("--shortcut", "shuffle", "--residual-blocks", 1, "--skip", "add", "--residual")


@pytest.fixture(scope="module")
def restoring(program, photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("restoring")
    program.run("train", "--data", photos, "--max-steps", 6, "--ema", 0.9, "--corrupt", "noise:0.1", *SMALL,
                *PARTS, "--name", "run", cwd=folder)
    return folder / "runs" / "run"


def test_a_run_keeps_what_it_is_made_of(done, restoring):
    info = json.loads(done("info", restoring, "--json").stdout)
    assert (info["shortcut"], info["skip"], info["residual"]) == ("shuffle", "add", True)
    assert (info["format"], info["output"]) == (2, "linear")
    assert info["levels"] == ["4:k3x3s2x2p1x1d1x1r1", "6:k3x3s2x2p1x1d1x1r2"]
    weights = load_file(restoring / LAST)
    names = [name for name in weights if not name.startswith(("ema.", "optimizer."))]
    assert {"encoder.1.residual1.first.conv.weight", "decoder.0.residual0.second.conv.bias"} <= set(names)
    counted = sum(weights[name].size for name in names
                  if not name.endswith(("running_mean", "running_var", "num_batches_tracked")))
    assert info["parameters"] == counted
    config = tomllib.loads((restoring / "config.toml").read_text())["model"]
    expected = {"shortcut": "shuffle", "residual-blocks": 1, "skip": "add", "residual": True,
                "output-activation": "linear"}
    assert expected.items() <= config.items()
    assert all(row["val_loss"] for row in read_csv(restoring / "metrics.csv"))


def test_a_plain_run_says_that_it_has_none(done, trained):
    info = json.loads(done("info", trained.run, "--json").stdout)
    assert (info["shortcut"], info["skip"], info["residual"]) == ("none", "none", False)


def test_a_resumed_run_is_the_uninterrupted_one(done, restoring, photos, tmp_path):
    done("train", "--data", photos, "--max-steps", 2, "--ema", 0.9, "--corrupt", "noise:0.1", *SMALL, *PARTS,
         "--name", "run")
    done("train", "--resume", "runs/run", "--max-steps", 6)
    assert_same_tensors(restoring / LAST, tmp_path / "runs" / "run" / LAST)


def test_a_config_file_holds_them(done, restoring, tmp_path):
    done("train", "--config", restoring / "config.toml", "--max-steps", 6, "--name", "again")
    assert_same_tensors(restoring / LAST, tmp_path / "runs" / "again" / LAST)


@pytest.mark.parametrize("words, parts", [
    (("--skip", "none"), ("--skip 'none'", "skip add")),
    (("--shortcut", "none"), ("--shortcut 'none'", "shortcut shuffle")),
    (("--residual-blocks", "2"), ("--residual-blocks '2'", "levels")),
    (("--output-activation", "sigmoid"), ("--output-activation 'sigmoid'",))])
def test_another_architecture_is_refused_at_resume(convae, restoring, words, parts):
    convae("train", "--resume", restoring, *words).assert_refused(2, *parts)


def test_weights_start_another_run(done, restoring, photos):
    done("train", "--data", photos, "--init", restoring / LAST, "--max-steps", 1, "--name", "next", *ONE_CORE)
    assert json.loads(done("info", "runs/next", "--json").stdout)["skip"] == "add"


def test_reconstructions_have_the_images_sizes(done, restoring, photos, tmp_path):
    done("reconstruct", "--checkpoint", restoring, "--data", photos, "-o", "out", *ONE_CORE)
    names = sorted(path.name for path in photos.iterdir())
    assert len(names) > 10
    for name in names:
        assert pixels_of(tmp_path / "out" / name).shape == pixels_of(photos / name).shape


@pytest.mark.parametrize("model", ["skip", "residual"])
@pytest.mark.parametrize("words, what", [
    (("encode", "--data", "DATA", "-o", "latents.npy"), "encode"),
    (("decode", "--latents", "nothing.npy", "-o", "out"), "decode"),
    (("sample", "--size", "16", "-o", "out"), "sample"),
    (("interpolate", "IMAGE", "IMAGE", "-o", "out"), "interpolate"),
    (("export", "--format", "onnx", "--part", "encoder", "-o", "e.onnx"), "part encoder"),
    (("export", "--format", "safetensors", "--part", "decoder", "-o", "d.safetensors"), "part decoder")])
def test_what_needs_a_latent_is_refused(convae, program, photos, tmp_path, tmp_path_factory, model, words, what):
    run = {"skip": ("--skip", "add"), "residual": ("--residual",)}[model]
    folder = tmp_path_factory.getbasetemp() / f"refusing-{model}"
    if not folder.exists():
        folder.mkdir()
        program.run("train", "--data", photos, "--levels", "4,6", "--max-steps", 1, "--val-split", 0, *run,
                    "--name", "run", *ONE_CORE, cwd=folder)
    image = next(photos.iterdir())
    words = [{"DATA": photos, "IMAGE": image}.get(word, word) for word in words]
    name = "skip add" if model == "skip" else "residual"
    convae(*words, "--checkpoint", folder / "runs" / "run", "--quiet").assert_refused(
        2, f"{what} is not for a model with {name}", "its decoder needs the image")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words, parts", [
    (("--skip", "add", "--latent", "2", "--size", "16"), ("latent", "skip add")),
    (("--residual", "--latent-channels", "2", "--variational"), ("latent-channels", "residual")),
    (("--skip", "add", "--variational"), ("variational needs a bottleneck",)),
    (("--residual", "--output-activation", "tanh"), ("residual", "must be linear", "tanh")),
    (("--shortcut", "shufle",), ("--shortcut 'shufle'", "none or shuffle")),
    (("--residual-blocks", "-1"), ("residual blocks", "between 0 and 64", "-1"))])
def test_what_cannot_be_built_is_refused(convae, photos, tmp_path, words, parts):
    convae("train", "--data", photos, *words).assert_refused(2, *parts)
    assert not list(tmp_path.iterdir())


def test_evaluate_leaves_compression_out(done, restoring, squares):
    words = "evaluate", "--checkpoint", restoring, "--data", squares, *ONE_CORE
    result = json.loads(done(*words, "--json").stdout)
    assert "compression" not in result and "numbers_latent" not in result
    assert list(result["results"]) == ["network"]
    assert result["results"]["network"]["psnr"]["mean"] > 0
    assert "no latent" in result["left_out"]["pca"]
    text = done(*words).stdout
    assert "to 1\n" not in text and "numbers in\n" in text and " 0 numbers" not in text


def test_shapes_shows_them(done):
    words = "shapes", "--input", "3x25x24", "--levels", "4,8:r2", "--skip", "add", "--shortcut", "shuffle"
    plan = json.loads(done(*words, "--json").stdout)
    assert plan["latent"] is None and plan["output"] == [3, 25, 24]
    assert [level.get("residual_blocks") for level in plan["levels"]] == [None, 2]
    text = done(*words).stdout
    assert "k3 s2 p1 r2" in text and "latent  none" in text
    assert "shortcut  around every level" in text and "skip  " in text
    assert json.loads(done("shapes", "--input", "3x8x8", "--residual", "--json").stdout)["latent"] is None


def test_bench_takes_them(done):
    done("bench", "--input", "3x32x32", "--levels", "4,8", "--batch-size", 2, "--rounds", 1, *PARTS, "--threads", 1)
