"""convae export: what it refuses, what it leaves alone, and which weights it takes."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from convae_program import ONE_CORE, snapshot

FORMATS = ["onnx", "torchscript", "safetensors"]


@pytest.mark.parametrize("words, parts", [
    (["--format", "onnx", "-o", "m"], ["--checkpoint is needed"]),
    (["--checkpoint", "x", "--format", "onnx"], ["--output is needed"]),
    (["--checkpoint", "x", "-o", "m"], ["--format is needed", "onnx, torchscript or safetensors"]),
    (["--checkpoint", "x", "-o", "m", "--format", "onnx", "--part", "all"],
     ["--part 'all'", "autoencoder, encoder, decoder or inspector"]),
    (["--checkpoint", "x", "-o", "m", "--format", "onnx", "--input", "3x9x9"],
     ["--input '3x9x9'", "HxW"]),
    (["--checkpoint", "x", "-o", "m", "--format", "onnx", "--input", "0x9"], ["--input '0x9'"]),
    (["--checkpoint", "x", "-o", "m/", "--format", "onnx"], ["--output 'm/'", "name of a file"]),
    (["--checkpoint", "x", "-o", ".", "--format", "onnx"], ["--output '.'", "name of a file"]),
    (["--checkpoint", "x", "-o", "m", "--format", "onnx", "--threads", "1"],
     ["unknown option '--threads'"]),
])
def test_bad_call_is_refused(convae, tmp_path, words, parts):
    convae("export", *words).assert_refused(2, *parts)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["torchscript", "safetensors"])
def test_one_size_is_for_onnx_alone(convae, trained, tmp_path, format):
    convae("export", "--checkpoint", trained.run, "--format", format, "-o", "m", "--input", "9x9",
           "--quiet").assert_refused(2, "9x9", format, "every size")
    assert list(tmp_path.iterdir()) == []


def test_a_dense_latent_has_one_size(convae, done, dense, tmp_path):
    convae("export", "--checkpoint", dense, "--format", "onnx", "-o", "m", "--input", "16x21",
           "--quiet").assert_refused(2, "16x21", "dense latent", "16x20")
    assert list(tmp_path.iterdir()) == []
    result = done("export", "--checkpoint", dense, "--format", "onnx", "-o", "m", "--input", "16x20")
    assert result.stdout == "autoencoder for images of 16x20 in m\n"


def test_a_size_that_cannot_pass_the_levels_is_refused(program, convae, photos, tmp_path):
    program.run("train", "--data", photos, "--levels", "4:k5p0", "--max-steps", 1, "--val-split", 0,
                "--quiet", *ONE_CORE, cwd=tmp_path)
    common = ("export", "--checkpoint", "runs/photos", "--format", "onnx", "-o", "m.onnx")
    convae(*common, "--input", "4x9", "--quiet").assert_refused(2, "4x9", "at least 5x5")
    assert not (tmp_path / "m.onnx").exists()
    result = convae(*common)
    assert result.stdout == "autoencoder for images of 5x5 and larger in m.onnx\n"


@pytest.mark.parametrize("checkpoint", ["run", "run/weights/best.safetensors"])
def test_what_a_run_goes_on_from_is_not_replaced_by_an_export(convae, trained, tmp_path, checkpoint):
    shutil.copytree(trained.run, tmp_path / "run")
    (tmp_path / "run/inspector.safetensors").write_text("calibrated")
    before = snapshot(tmp_path / "run")
    for name in ("weights/best.safetensors", "weights/last.safetensors", "inspector.safetensors"):
        convae("export", "--checkpoint", checkpoint, "--format", "safetensors", "-o", f"run/{name}",
               "--overwrite").assert_refused(1, name, "would replace")
    assert snapshot(tmp_path / "run") == before


@pytest.mark.parametrize("format", FORMATS)
def test_existing_files_are_replaced_only_on_demand(convae, done, trained, tmp_path, format):
    common = ("export", "--checkpoint", trained.run, "--format", format, "-o", "new folder/m.file")
    assert done(*common).stdout == "autoencoder for images of every size in new folder/m.file\n"
    file = tmp_path / "new folder" / "m.file"
    first = file.read_bytes()
    file.write_text("mine")
    convae(*common, "--quiet").assert_refused(1, "m.file", "exists", "--overwrite")
    assert file.read_text() == "mine"
    done(*common, "--overwrite")
    assert [path.name for path in file.parent.iterdir()] == ["m.file"]
    if format != "torchscript":  # whose archives number their records
        assert file.read_bytes() == first


@pytest.mark.parametrize("format", FORMATS)
def test_a_broken_checkpoint_leaves_no_file(convae, trained, tmp_path, format):
    damaged = bytearray((trained.run / "weights" / "last.safetensors").read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "damaged.safetensors").write_bytes(damaged)
    convae("export", "--checkpoint", "damaged.safetensors", "--format", format,
           "-o", "m").assert_refused(1, "damaged.safetensors")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("format", FORMATS)
def test_without_room_no_file_is_left(program, trained, tmp_path, format):
    # In blocks of 1 KiB: less than any of the files.
    program_with_limit = type(program)()
    program_with_limit.prefix = ["bash", "-c", 'ulimit -f 1; exec "$@"', "limited"]
    result = program_with_limit.call("export", "--checkpoint", trained.run, "--format", format,
                                     "-o", "new/folder/m.file", "--quiet", cwd=tmp_path)
    result.assert_refused(1, "m.file", "File too large")
    assert list(tmp_path.iterdir()) == []


def test_parts_of_safetensors_have_names_of_their_own(done, trained, tmp_path):
    weights = {}
    for part in ("autoencoder", "encoder", "decoder"):
        done("export", "--checkpoint", trained.run, "--format", "safetensors", "--part", part,
             "-o", part)
        weights[part] = load_file(tmp_path / part)
    for part in ("encoder", "decoder"):
        expected = {name.removeprefix(part + "."): tensor
                    for name, tensor in weights["autoencoder"].items() if name.startswith(part)}
        assert weights[part].keys() == expected.keys()
        assert all(torch.equal(weights[part][name], expected[name]) for name in expected)


def test_safetensors_say_what_they_are(done, trained, tmp_path):
    done("export", "--checkpoint", trained.run, "--format", "safetensors", "-o", "m")
    with safe_open(tmp_path / "m", "pt") as file:
        metadata = file.metadata()
    model = json.loads(done("info", trained.run, "--json").stdout)
    assert metadata["format"] == "pt"  # without it, other loaders refuse the file
    with safe_open(trained.run / "weights" / "last.safetensors", "pt") as file:
        assert file.metadata()["format"] == "pt"
    assert metadata["value-range"] == "full"
    assert metadata["channels"] == "3" and json.loads(metadata["range"]) == [0, 1]
    assert json.loads(metadata["model"])["levels"] == model["levels"]
    assert metadata["version"] == model["convae"]
    assert (metadata["part"], metadata["input"], metadata["smallest-input"]) == ("autoencoder", "any",
                                                                                 "1x1")
    assert int(metadata["epoch"]) == model["epoch"] and int(metadata["step"]) == model["step"]


def test_exported_weights_can_start_a_run(done, trained, photos, tmp_path):
    done("export", "--checkpoint", trained.run, "--format", "safetensors", "-o", "m.safetensors")
    done("train", "--data", photos, "--init", "m.safetensors", "--levels", "4,8", "--lr", 0,
         "--max-steps", 1, "--val-split", 0, "--quiet", *ONE_CORE)
    before, after = load_file(tmp_path / "m.safetensors"), load_file(
        tmp_path / "runs" / "photos" / "weights" / "last.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before if "running" not in name
               and "tracked" not in name)


def test_averaged_weights_are_taken_as_reconstruct_takes_them(done, photos, tmp_path):
    done("train", "--data", photos, "--levels", "4", "--norm", "none", "--epochs", 1, "--ema", 0.9,
         "--lr", 0.05, "--val-split", 0, "--quiet", *ONE_CORE)
    done("export", "--checkpoint", "runs/photos", "--format", "safetensors", "-o", "m")
    exported = load_file(tmp_path / "m")
    saved = load_file(tmp_path / "runs" / "photos" / "weights" / "best.safetensors")
    name = "encoder.0.conv.weight"
    assert torch.equal(exported[name], saved["ema." + name])
    assert not torch.equal(exported[name], saved[name])
    assert exported.keys() == {name for name in saved if not name.startswith(("ema.", "optimizer."))}


def test_odd_names_are_shown_escaped(done, trained, tmp_path):
    result = done("export", "--checkpoint", trained.run, "--format", "onnx", "-o", "a\nb.onnx")
    assert result.stdout.endswith("in a\\nb.onnx\n")
    assert (tmp_path / "a\nb.onnx").exists()
