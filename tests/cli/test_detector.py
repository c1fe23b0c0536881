"""A detector trained beside the autoencoder, as a user asks for it."""

import json
import shutil
import struct

import pytest
from PIL import Image
from safetensors.numpy import load_file

from convae_program import ONE_CORE, assert_same_tensors, read_csv

LAST = "weights/last.safetensors"
SMALL = ("--levels", "4,8", "--detector", "4,6", "--corrupt", "defects", "--batch-size", 4, *ONE_CORE)


@pytest.fixture(scope="module")
def detecting(program, photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("detecting")
    program.run("train", "--data", photos, "--max-steps", 6, "--ema", 0.9, "--schedule", "constant", *SMALL,
                "--name", "run", cwd=folder)
    return folder / "runs" / "run"


def test_a_run_keeps_the_detector_and_says_so(done, detecting, photos):
    info = json.loads(done("info", detecting, "--json").stdout)
    assert (info["detector"], info["format"]) == ("4,6", 2)
    weights = load_file(detecting / LAST)
    assert {"detector.down0.conv.weight", "detector.last.conv.bias", "ema.detector.up0.conv.weight"} <= set(weights)
    names = [name for name in weights if not name.startswith(("ema.", "optimizer."))]
    counted = sum(weights[name].size for name in names
                  if not name.endswith(("running_mean", "running_var", "num_batches_tracked")))
    assert info["parameters"] == counted
    assert "detector  4x" in (detecting / "train.log").read_text()
    assert all(row["val_loss"] for row in read_csv(detecting / "metrics.csv"))


def test_a_resumed_run_is_the_uninterrupted_one(done, detecting, photos, tmp_path):
    done("train", "--data", photos, "--max-steps", 2, "--ema", 0.9, "--schedule", "constant", *SMALL, "--name", "run")
    done("train", "--resume", "runs/run", "--max-steps", 6)
    assert_same_tensors(detecting / LAST, tmp_path / "runs" / "run" / LAST)


def test_a_config_file_holds_it(done, detecting, photos, tmp_path):
    done("train", "--config", detecting / "config.toml", "--max-steps", 6, "--name", "again")
    assert_same_tensors(detecting / LAST, tmp_path / "runs" / "again" / LAST)
    (tmp_path / "list.toml").write_text('[model]\ndetector = [4, 6]\n[train]\ncorrupt = "defects:0.5"\n')
    shown = done("shapes", "--config", "list.toml", "--input", "3x13x12").stdout
    assert "detector  4x7x6 → 6x4x3 → 1x13x12" in shown


def test_shapes_shows_its_levels(done):
    plan = json.loads(done("shapes", "--input", "1x25x24", "--detector", "8,16,32", "--json").stdout)
    assert plan["detector"] == [[8, 13, 12], [16, 7, 6], [32, 4, 3]]
    assert "detector" not in json.loads(done("shapes", "--input", "1x25x24", "--json").stdout)


def test_exports_leave_it_out(done, detecting, tmp_path):
    done("export", "--checkpoint", detecting, "--format", "safetensors", "-o", "model.safetensors")
    assert not [name for name in load_file(tmp_path / "model.safetensors") if "detector" in name]


def test_commands_of_the_autoencoder_work_as_before(done, detecting, photos, tmp_path):
    done("reconstruct", "--checkpoint", detecting, "--data", photos, "--corrupt", "defects:1", "-o", "out")
    rows = read_csv(tmp_path / "out" / "reconstruct.csv")
    assert rows and all(float(row["input_mse"]) >= 0 for row in rows)
    assert any(float(row["input_mse"]) > 0 for row in rows)


def test_what_cannot_work_is_refused(convae, detecting, trained, photos, tmp_path):
    convae("train", "--data", photos, "--detector", "4,6").assert_refused(
        2, "--detector '4,6'", "--corrupt defects")
    convae("train", "--data", photos, "--detector", "4,6", "--corrupt", "noise").assert_refused(
        2, "--detector '4,6'", "--corrupt defects")
    convae("train", "--data", photos, "--detector", "4;6").assert_refused(2, "--detector '4;6'", "16,32,64")
    convae("train", "--data", photos, "--detector", "4,0", "--corrupt", "defects").assert_refused(2, "detector", "4,0")
    convae("bench", "--detector", "4,6").assert_refused(2, "--detector")
    run = shutil.copytree(detecting, tmp_path / "run")
    convae("train", "--resume", run, "--max-steps", 8, "--corrupt", "none").assert_refused(
        2, "--detector '4,6'", "--corrupt defects")
    convae("train", "--resume", run, "--detector", "8").assert_refused(2, "--detector '8'", "has detector 4,6;")
    convae("train", "--init", trained.run, "--data", photos, "--detector", "4", "--corrupt", "defects").assert_refused(
        2, "--detector '4'", "has detector none;", "without --init")


def test_a_training_ends_with_what_score_needs(done, photos, tmp_path):
    arguments = ("train", "--data", photos, "--max-steps", 2, *SMALL, "--val-split", 0.5, "--name")
    said = done(*arguments, "calibrated").stderr
    assert "calibrated on" in said
    assert (tmp_path / "runs" / "calibrated" / "inspector.safetensors").exists()
    scored = done("score", "--checkpoint", "runs/calibrated", "--data", photos, "-o", "scores")
    assert "calibrated before" in scored.stderr


def test_too_few_held_out_images_leave_a_training_as_it_is(done, photos, tmp_path):
    ended = done("train", "--data", photos, "--max-steps", 2, *SMALL, "--val-split", 0, "--name", "alone")
    assert "not calibrated for score" in ended.stderr and "--val-split" in ended.stderr
    assert not (tmp_path / "runs" / "alone" / "inspector.safetensors").exists()


def test_the_calibration_takes_images_as_large_as_the_training(done, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "in")
    Image.new("RGB", (64, 64)).save(tmp_path / "in/large.jpg")
    content = bytearray((tmp_path / "in/large.jpg").read_bytes())
    at = content.index(b"\xff\xc0") + 5  # where its size is; pixels of a whole one would take a while
    content[at:at + 4] = struct.pack(">HH", 10_001, 10_001)
    (tmp_path / "in/large.jpg").write_bytes(content)
    said = done("train", "--data", "in", "--max-pixels", 200_000_000, "--size", 24, "--max-steps", 2, *SMALL,
                "--val-split", 0.5, "--name", "large").stderr
    assert "calibrated on" in said
    assert "skipped 'large.jpg'" in said and "no longer in" not in said


def test_a_dense_network_is_calibrated_at_its_own_size(done, photos, tmp_path):
    said = done("train", "--data", photos, "--max-steps", 2, *SMALL, "--latent", 4, "--size", 24, "--crop", 16,
                "--val-split", 0.5, "--name", "dense").stderr
    assert "calibrated on" in said
    done("score", "--checkpoint", "runs/dense", "--data", photos, "-o", "scores")


def test_a_finished_training_that_was_not_calibrated_is_when_it_is_resumed(done, photos, tmp_path):
    done("train", "--data", photos, "--max-steps", 2, *SMALL, "--val-split", 0.5, "--name", "late")
    inspector = tmp_path / "runs" / "late" / "inspector.safetensors"
    before = inspector.read_bytes()
    assert "calibrated on" not in done("train", "--resume", "runs/late").stderr
    inspector.unlink()
    assert "calibrated on" in done("train", "--resume", "runs/late").stderr
    assert inspector.read_bytes() == before


def test_a_resumed_training_with_the_same_best_weights_keeps_their_calibration(done, photos, squares, tmp_path):
    done("train", "--data", photos, "--max-steps", 2, "--schedule", "constant", *SMALL, "--val-split", 0.5, "--name",
         "kept")
    done("calibrate", "--checkpoint", "runs/kept", "--good", squares)
    run = tmp_path / "runs" / "kept"
    inspector = run / "inspector.safetensors"
    before, best = inspector.read_bytes(), run / "weights" / "best.safetensors"
    shutil.copy(best, tmp_path / "best.safetensors")
    resumed = done("train", "--resume", "runs/kept", "--max-steps", 4, "--lr", 1)
    assert_same_tensors(best, tmp_path / "best.safetensors")
    assert "calibrated on" not in resumed.stderr
    assert inspector.read_bytes() == before
    inspector.write_bytes(before[:100])
    assert "calibrated on" in done("train", "--resume", "runs/kept").stderr, "of no use"
