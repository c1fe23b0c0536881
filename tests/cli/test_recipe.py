"""Losses, corruption, augmentation, schedules and averaged weights, as a user asks for them."""

import signal
import tomllib

import numpy as np
import pytest
from safetensors.numpy import load_file

from convae_program import ONE_CORE, assert_same_tensors, pixels_of, read_csv, save_pictures, wait_until

LAST = "weights/last.safetensors"
TINY = ("--levels", "4,8", "--batch-size", 4, *ONE_CORE)


def rows_of(run):
    return [{name: row[name] for name in ("step", "lr", "train_loss", "val_loss", "val_ssim")}
            for row in read_csv(run / "metrics.csv")]


def rates_of(run):
    return [float(row["lr"]) for row in read_csv(run / "metrics.csv")]


def stop_in_an_epoch(program, words, run, cwd):
    """Asks the run to stop once its first epoch is done."""
    process = program.start(*words, cwd=cwd)
    wait_until((run / "metrics.csv").exists, process)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143, stderr


@pytest.mark.parametrize("flags", [
    ("--corrupt", "noise:0.02-0.2,shot:50-500+2,jpeg:20-60,shrink,cutout,blemish", "--augment", "flip,crop:0.7,brightness,contrast"),
    ("--ema", 0.9, "--loss", "mse + 0.2*ssim"),
    ("--schedule", "one-cycle", "--loss", "charbonnier", "--warmup", 2),
    ("--schedule", "plateau", "--lr-epochs", 1, "--lr", 0.1, "--best", "val_ssim"),
    ("--variational", "--latent-channels", 3, "--beta", 0.01),
    ("--precision", "bf16"),
], ids=lambda flags: " ".join(map(str, flags[:2])))
def test_a_resumed_run_is_the_uninterrupted_one(program, photos, tmp_path, flags):
    words = ["train", "--data", photos, "--epochs", 16, "--levels", "4,8", "--batch-size", 1,
             *ONE_CORE, *flags]
    program.run(*words, "--name", "whole", "--quiet", cwd=tmp_path)
    whole, parts = tmp_path / "runs" / "whole", tmp_path / "runs" / "parts"
    stop_in_an_epoch(program, [*words, "--name", "parts"], parts, tmp_path)
    assert len(rows_of(parts)) < 16
    program.run("train", "--resume", parts, cwd=tmp_path)
    assert_same_tensors(whole / LAST, parts / LAST)
    assert_same_tensors(whole / "weights/best.safetensors", parts / "weights/best.safetensors")
    assert rows_of(whole) == rows_of(parts)


def test_recipes_are_written_down_in_the_runs_config(done, photos, tmp_path):
    done("train", "--data", photos, "--epochs", 1, "--corrupt", "blur , noise:0.05", "--augment",
         "flip", "--loss", "0.5*l1+ms-ssim", "--ema", 0.99, "--schedule", "step", "--lr-epochs", 3,
         "--precision", "bf16", *TINY)
    config = tomllib.loads((tmp_path / "runs" / "photos" / "config.toml").read_text())
    assert config["train"]["corrupt"] == "blur:1,noise:0.05"
    assert config["train"]["loss"] == "0.5*l1 + ms-ssim"
    assert config["train"]["ema"] == 0.99
    assert config["train"]["schedule"] == "step" and config["train"]["lr-epochs"] == 3
    assert config["train"]["precision"] == "bf16"
    assert config["data"]["augment"] == "flip:0.5"
    weights = load_file(tmp_path / "runs" / "photos" / LAST)
    assert all(tensor.dtype in (np.float32, np.int64) for tensor in weights.values())


@pytest.mark.parametrize("flags, parts", [
    (["--ema", 1], ["ema ", "is 1"]),
    (["--lr-factor", 1.5], ["lr-factor ", "is 1.5"]),
    (["--lr", 1e-4, "--min-lr", 1e-3], ["min-lr ", "0.0001", "is 0.001"]),
    (["--lr-epochs", 0], ["lr-epochs ", "is 0"]),
    (["--variational"], ["variational", "latent-channels"]),
    (["--beta", -1], ["beta ", "is -1"]),
], ids=lambda value: " ".join(map(str, value)))
def test_what_cannot_be_is_refused_by_name(convae, photos, tmp_path, flags, parts):
    convae("train", "--data", photos, *TINY, *flags).assert_refused(2, *parts)
    assert not (tmp_path / "runs").exists()


def test_step_and_plateau_let_the_rate_fall(done, photos, tmp_path):
    done("train", "--data", photos, "--epochs", 6, "--name", "step", "--schedule", "step",
         "--lr-epochs", 2, "--lr-factor", 0.5, *TINY)
    assert rates_of(tmp_path / "runs/step") == pytest.approx([1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4, 2.5e-4])
    # A rate at which nothing is learnt: every epoch is without progress but perhaps the first.
    done("train", "--data", photos, "--epochs", 6, "--name", "plateau", "--schedule", "plateau",
         "--lr", 1e-12, "--lr-epochs", 2, "--lr-factor", 0.5, "--norm", "none", *TINY)
    rates = rates_of(tmp_path / "runs/plateau")
    assert rates[0] == 1e-12 and rates == sorted(rates, reverse=True) and rates[-1] < rates[0]
    assert set(rates) <= {1e-12, 5e-13, 2.5e-13}


@pytest.mark.parametrize("measure, best", [("val_loss", min), ("val_mse", min), ("val_psnr", max),
                                           ("val_ssim", max), ("train_loss", min)])
def test_best_is_the_best_in_what_was_asked(done, photos, tmp_path, measure, best):
    done("train", "--data", photos, "--epochs", 6, "--best", measure, "--lr", 0.05, "--schedule",
         "constant", "--loss", "l1", "--save-every", 1, *TINY)
    run = tmp_path / "runs" / "photos"
    values = [float(row[measure]) for row in read_csv(run / "metrics.csv")]
    epoch = values.index(best(values)) + 1
    assert_same_tensors(run / "weights/best.safetensors", run / f"weights/epoch_{epoch:04}.safetensors")


def test_measures_of_validation_need_validation(convae, photos, tmp_path):
    convae("train", "--data", photos, *TINY, "--val-split", 0, "--best",
           "val_ssim").assert_refused(2, "--best 'val_ssim'")


def test_averaged_weights_are_what_is_measured_and_used(done, photos, tmp_path):
    """One step from weights w0 to w1, decay 0.9 held down to 2/11 at the first step."""
    words = ("--data", photos, "--max-steps", 1, "--batch-size", 12, "--val", photos)
    done("train", *words, "--levels", "4,8", "--name", "plain", *ONE_CORE)
    done("train", *words, "--levels", "4,8", "--name", "averaged", "--ema", 0.9, *ONE_CORE)
    runs = tmp_path / "runs"
    plain, averaged = load_file(runs / "plain" / LAST), load_file(runs / "averaged" / LAST)
    for name, tensor in plain.items():
        if not name.startswith("optimizer."):
            np.testing.assert_array_equal(tensor, averaged[name])  # training itself is the same
    averages = {name for name in averaged if name.startswith("ema.")}
    weights = {name for name in plain if name.startswith(("encoder.", "decoder."))}
    assert {name.removeprefix("ema.") for name in averages} >= {
        name for name in weights if name.endswith((".weight", ".bias"))}
    # Without --ema the last weights are validated, with it the averages.
    assert read_csv(runs / "plain/metrics.csv")[0]["val_mse"] != \
        read_csv(runs / "averaged/metrics.csv")[0]["val_mse"]
    done("reconstruct", "--checkpoint", "runs/averaged", "--data", photos, "-o", "out")
    mse = np.mean([float(row["mse"]) for row in read_csv(tmp_path / "out/reconstruct.csv")])
    assert mse == pytest.approx(float(read_csv(runs / "averaged/metrics.csv")[0]["val_mse"]), rel=1e-4)


def test_a_denoiser_is_shown_noise_and_held_against_the_clean_image(done, tmp_path):
    photos = save_pictures(tmp_path / "photos", [(24, 31), (33, 24)] * 6)
    done("train", "--data", photos, "--val", photos, "--corrupt", "noise:0.2", "--levels", "16,16",
         "--kernel", 3, "--stride", 1, "--epochs", 30, "--lr", 0.005, *ONE_CORE)
    result = done("reconstruct", "--checkpoint", "runs/latest", "--data", photos, "-o", "out",
                  "--corrupt", "noise:0.2", "--grid")
    rows = read_csv(tmp_path / "out/reconstruct.csv")
    before = np.mean([float(row["input_psnr"]) for row in rows])
    after = np.mean([float(row["psnr"]) for row in rows])
    assert 13.5 < before < 15.5  # -20 lg 0.2 = 14 dB, a little more where values are cut to [0, 1]
    assert after > before + 4
    assert f"{before:.2f}" in result.stdout
    for row in rows:  # the files on disk: clean image, and what the table says of it
        clean = pixels_of(photos / row["path"]) / 255
        restored = pixels_of(tmp_path / "out" / row["path"]) / 255
        assert restored.shape == clean.shape
        assert np.mean((clean - restored) ** 2) == pytest.approx(float(row["mse"]), rel=0.05)
        height, width = clean.shape[:2]
        grid = pixels_of(tmp_path / "out/grid" / row["path"])
        factor = grid.shape[0] // height  # small pictures are enlarged by whole factors
        shown = grid[:height * factor:factor, :width * factor:factor] / 255
        assert np.mean((shown - clean) ** 2) == pytest.approx(float(row["input_mse"]), rel=0.05)


def test_corruption_is_the_same_however_it_is_batched_and_read(done, photos, tmp_path):
    done("train", "--data", photos, "--epochs", 1, *TINY)
    tables = []
    for size in (1, 7):
        done("reconstruct", "--checkpoint", "runs/latest", "--data", photos, "-o", f"out{size}",
             "--corrupt", "noise:0.05-0.1,shot:50-500+2,jpeg:20-60,shrink,blemish,grid:4",
             "--batch-size", size, "--workers", size)
        tables.append([float(row["input_mse"])
                       for row in read_csv(tmp_path / f"out{size}/reconstruct.csv")])
    assert tables[0] == pytest.approx(tables[1], rel=1e-4)
    assert all(value > 0 for value in tables[0])


def test_images_under_the_window_of_ssim_are_skipped_by_name(done, tmp_path):
    photos = save_pictures(tmp_path / "photos", [(16, 16), (10, 30), (20, 20), (16, 19)])
    result = done("train", "--data", photos, "--loss", "ssim", "--epochs", 1, "--val-split", 0, *TINY)
    assert any("001.png" in line and "11" in line for line in result.logs)
