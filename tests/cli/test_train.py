import os
import shutil
import tomllib

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from convae_program import (METRICS_COLUMNS, ONE_CORE, assert_same_tensors, csv_columns, picture,
                            read_csv, save_pictures)

TINY = ("--levels", "4", "--epochs", "1", "--val-split", "0", *ONE_CORE)
WEIGHTS = "weights/last.safetensors"


def config_of(run):
    return tomllib.loads((run / "config.toml").read_text())


def weights_of(file):
    return {name: tensor for name, tensor in load_file(file).items()
            if not name.startswith("optimizer.")}


def test_run_folder_holds_what_the_design_names(trained):
    run = trained.run
    found = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert found >= {"config.toml", "metrics.csv", "train.log", "weights/last.safetensors",
                     "weights/best.safetensors", "weights/epoch_0005.safetensors",
                     "samples/epoch_0001.png", "samples/epoch_0005.png"}
    assert not [name for name in found if os.path.basename(name).startswith(".")]


def test_metrics_have_a_row_an_epoch(trained):
    path = trained.run / "metrics.csv"
    assert csv_columns(path) == METRICS_COLUMNS
    rows = read_csv(path)
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4, 5]
    steps = [int(row["step"]) for row in rows]
    assert [step * 5 for step in steps] == [steps[-1] * epoch for epoch in range(1, 6)]
    rates = [float(row["lr"]) for row in rows]
    assert rates == sorted(rates, reverse=True) and 0 < rates[-1] < rates[0] < 1e-3
    for row in rows:
        assert 0 < float(row["train_loss"]) < 1
        assert float(row["val_loss"]) == pytest.approx(float(row["val_mse"]), rel=1e-5)
        assert 0 < float(row["val_psnr"]) < 100
        assert -1 <= float(row["val_ssim"]) <= 1
        assert float(row["images_per_s"]) > 0
        assert float(row["seconds"]) > 0


def test_log_file_tells_the_run(trained):
    log = (trained.run / "train.log").read_text()
    for part in ("parameters", "output_padding", "epoch 1/5", "epoch 5/5", "device cpu"):
        assert part in log, part
    assert all(line[:2] == "20" for line in log.splitlines()), "every line begins with its date"


def test_stdout_has_the_result_and_stderr_the_log(trained):
    result = trained.result
    assert result.stdout.count("\n") == 1
    assert "runs/photos" in result.stdout and "5 epochs" in result.stdout
    assert result.complaints == []
    assert any("epoch 5/5" in line for line in result.logs)


def test_quiet_leaves_only_the_result(done, photos, tmp_path):
    result = done("train", "--data", photos, "--max-steps", 1, "--quiet", *TINY)
    assert result.stderr == ""
    assert "runs/photos" in result.stdout
    assert (tmp_path / "runs" / "photos" / "train.log").read_text() != ""


def test_config_holds_every_option_resolved(trained, photos):
    config = config_of(trained.run)
    assert set(config) == {"data", "model", "train", "run"}
    assert config["data"]["data"] == str(photos)
    assert config["data"]["channels"] == 3
    assert config["data"]["size"] == "native"
    assert config["data"]["val-split"] == 0.3
    assert config["model"]["levels"] == "4,8"
    assert config["model"]["output-activation"] == "sigmoid"
    assert config["model"]["activation"] == "silu"
    assert config["train"]["batch-size"] == 4
    assert config["train"]["seed"] == 0
    assert config["run"]["threads"] == 1


def test_config_repeats_the_run_whatever_the_workers(trained, done, tmp_path):
    done("train", "--config", trained.run / "config.toml", "--workers", 3)
    repeated = tmp_path / "runs" / "photos"
    assert_same_tensors(trained.run / WEIGHTS, repeated / WEIGHTS)
    deterministic = METRICS_COLUMNS[:-2]
    assert [[row[name] for name in deterministic] for row in read_csv(trained.run / "metrics.csv")] == \
           [[row[name] for name in deterministic] for row in read_csv(repeated / "metrics.csv")]


def test_another_seed_gives_other_weights(done, squares, tmp_path):
    for seed in (0, 1):
        done("train", "--data", squares, "--seed", seed, "--name", f"seed{seed}", *TINY)
    first, second = (weights_of(tmp_path / "runs" / name / WEIGHTS)["encoder.0.conv.weight"]
                     for name in ("seed0", "seed1"))
    assert (first != second).any()


def test_flag_goes_before_config_and_config_before_default(done, squares, tmp_path):
    (tmp_path / "recipe.toml").write_text(
        f"[data]\ndata = '{squares}'\nval-split = 0\n[model]\nlevels = [4]\noutput-activation = 'linear'\n"
        "[train]\nepochs = 3\nbatch-size = 2\n[run]\nthreads = 1\nname = 'given'\n")
    # In front of --config: the place of a flag does not matter.
    done("train", "--epochs", 1, "--config", "recipe.toml", "--workers", 1)
    config = config_of(tmp_path / "runs" / "given")
    assert config["train"]["epochs"] == 1
    assert config["train"]["batch-size"] == 2
    assert config["model"]["output-activation"] == "linear"
    assert config["train"]["lr"] == 1e-3
    assert len(read_csv(tmp_path / "runs" / "given" / "metrics.csv")) == 1


def test_names_count_on_and_latest_follows(done, squares, tmp_path):
    for _ in range(3):
        done("train", "--data", squares, "--name", "shoes", "-o", "results", *TINY)
    results = tmp_path / "results"
    assert sorted(path.name for path in results.iterdir()) == [".index", "latest", "shoes", "shoes-2",
                                                               "shoes-3"]
    assert (results / "latest").resolve() == (results / "shoes-3").resolve()
    assert_same_tensors(results / "shoes" / WEIGHTS, results / "shoes-3" / WEIGHTS)


def test_validation_folder_takes_the_place_of_the_split(done, squares, photos, tmp_path):
    result = done("train", "--data", squares, "--val", photos, "--levels", "4", "--epochs", 1, *ONE_CORE)
    assert any("5 for training, 15 for validation" in line for line in result.logs)
    run = tmp_path / "runs" / "squares"
    assert config_of(run)["data"]["val"] == str(photos)
    assert float(read_csv(run / "metrics.csv")[0]["val_loss"]) > 0


def test_grey_images_give_a_grey_model(done, tmp_path):
    save_pictures(tmp_path / "grey", [(16, 17)] * 3, channels=1)
    result = done("train", "--data", "grey", *TINY)
    assert any("1 channel" in line for line in result.logs)
    assert config_of(tmp_path / "runs" / "grey")["data"]["channels"] == 1


def test_one_colour_image_makes_it_colour(done, tmp_path):
    save_pictures(tmp_path / "mixed", [(16, 17)] * 3, channels=1)
    Image.fromarray(picture(16, 17)).save(tmp_path / "mixed" / "colour.png")
    done("train", "--data", "mixed", *TINY)
    assert config_of(tmp_path / "runs" / "mixed")["data"]["channels"] == 3


def test_bad_files_are_skipped_named_and_counted(done, squares, tmp_path):
    folder = tmp_path / "data"
    (folder / "deep er").mkdir(parents=True)
    for path in squares.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    whole = (folder / "000.png").read_bytes()
    (folder / "deep er" / "cut.png").write_bytes(whole[:len(whole) // 2])
    (folder / "words.jpg").write_text("not an image")
    result = done("train", "--data", folder, *TINY)
    for name in ("deep er/cut.png", "words.jpg"):
        assert any("skipped" in line and f"'{name}'" in line for line in result.logs), name
    assert "2 images skipped" in result.stdout


def test_mvtec_layout_trains_on_the_good_ones_and_says_so(done, tmp_path):
    for index, part in enumerate(("train/good", "test/good", "test/crack", "ground_truth/crack")):
        save_pictures(tmp_path / "tiles" / part, [(16, 17)] * (index + 2), channels=1)
    result = done("train", "--data", "tiles", *TINY)
    assert any("MVTec" in line and "train/good" in line for line in result.logs)
    assert any("2 for training" in line for line in result.logs)
    assert (tmp_path / "runs" / "tiles").is_dir()


def test_size_and_crop_fix_what_the_network_sees(done, photos, tmp_path):
    result = done("train", "--data", photos, "--size", "20x24", "--crop", "16x18", *TINY)
    assert any("15 images of 16x18" in line for line in result.logs)


def test_steps_whose_files_are_all_damaged_do_not_count(done, squares, tmp_path):
    data = shutil.copytree(squares, tmp_path / "data")
    for path in sorted(data.iterdir())[1:]:
        path.write_bytes(path.read_bytes()[:-40])  # whole in the header
    result = done("train", "--data", data, "--batch-size", 1, "--val-split", 0, "--max-steps", 2, "--levels", "4",
                  *ONE_CORE)
    assert ": 2 epochs, 2 steps, best loss" in result.stdout


def test_images_too_small_for_the_levels_are_skipped_with_the_reason(done, photos, tmp_path):
    result = done("train", "--data", photos, "--levels", "4:k17p0", "--epochs", 1, "--val-split", 0,
                  *ONE_CORE)
    reasons = [line for line in result.logs if "skipped '" in line]
    assert len(reasons) == 5 and all("16x16" in line and "17" in line for line in reasons)


def test_all_images_in_the_validation_share_is_explained(convae, tmp_path):
    save_pictures(tmp_path / "one", [(16, 16)])
    result = convae("train", "--data", "one", "--levels", "4", "--val-split", 0.999999)
    result.assert_refused(1, "validation", "--val-split 0")
    assert not (tmp_path / "runs").exists()


def test_diverging_run_stops_with_step_images_and_a_way_out(convae, squares, tmp_path):
    result = convae("train", "--data", squares, "--norm", "none", "--output-activation", "linear",
                    "--lr", "1e30", "--levels", "4,8", "--epochs", 9, "--val-split", 0, *ONE_CORE)
    result.assert_refused(1, "not finite at step", ".png", "lower lr")
    for tensor in load_file(tmp_path / "runs" / "squares" / WEIGHTS).values():
        assert np.isfinite(tensor).all()


def test_run_without_progress_stops_early_and_stays_finished(done, tmp_path):
    # One image: the order of several shows in the last digits of the loss.
    save_pictures(tmp_path / "one", [(16, 16)])
    result = done("train", "--data", "one", "--levels", "4", "--norm", "none", "--lr", 0, "--patience", 2,
                  "--epochs", 9, "--val-split", 0, *ONE_CORE)
    assert any("stopped early" in line for line in result.logs)
    run = tmp_path / "runs" / "one"
    assert len(read_csv(run / "metrics.csv")) == 3
    assert "stopped early" in done("train", "--resume", run).stdout


class TestInit:
    """--init from files."""

    @pytest.fixture
    def plain(self, trained, tmp_path):
        """The weights alone, as another program would write them."""
        save_file(weights_of(trained.run / WEIGHTS), tmp_path / "plain.safetensors")
        return tmp_path / "plain.safetensors"

    def test_starts_from_plain_weights(self, plain, done, photos, tmp_path):
        done("train", "--data", photos, "--init", plain, "--levels", "4,8", "--lr", 0, "--epochs", 1,
             "--val-split", 0, *ONE_CORE)
        before = load_file(plain)
        after = weights_of(tmp_path / "runs" / "photos" / WEIGHTS)
        assert before.keys() == after.keys()
        for name, tensor in before.items():
            if "running" not in name and "num_batches" not in name:
                assert (tensor == after[name]).all(), name

    def test_takes_the_architecture_from_a_checkpoint(self, trained, done, photos, tmp_path):
        done("train", "--data", photos, "--init", trained.run, "--epochs", 1, "--lr", 0,
             "--val-split", 0, *ONE_CORE)
        assert config_of(tmp_path / "runs" / "photos")["model"]["levels"].count(",") == 1

    def test_refuses_what_contradicts_the_checkpoint(self, trained, convae, photos, tmp_path):
        result = convae("train", "--data", photos, "--init", trained.run, "--levels", "4,16")
        result.assert_refused(2, "--levels '4,16'", "contradicts")
        assert not (tmp_path / "runs").exists()

    @pytest.mark.parametrize("change, parts", [
        (lambda w: w.clear(), ["missing"]),
        (lambda w: w.update({"encoder.0.conv.bias": np.zeros(5, np.float32)}),
         ["'encoder.0.conv.bias'", "[5]", "[4]"]),
        (lambda w: w["encoder.0.conv.bias"].fill(np.nan), ["'encoder.0.conv.bias'", "not finite"])])
    def test_refuses_other_names_and_shapes(self, plain, convae, photos, tmp_path, change, parts):
        weights = load_file(plain)
        change(weights)
        save_file(weights, plain)
        result = convae("train", "--data", photos, "--init", plain, "--levels", "4,8")
        result.assert_refused(1, "plain.safetensors", *parts)
        assert not (tmp_path / "runs").exists()

    def test_refuses_what_is_no_safetensors_file(self, convae, photos, tmp_path):
        (tmp_path / "weights.pt").write_bytes(b"PK\x03\x04" + bytes(100))
        convae("train", "--data", photos, "--init", "weights.pt").assert_refused(1, "weights.pt")
        assert not (tmp_path / "runs").exists()


def test_checkpoint_describes_itself(trained):
    with safe_open(trained.run / WEIGHTS, framework="np") as file:
        metadata = file.metadata()
        names = set(file.keys())
    assert set(metadata) == {"convae", "format"}
    assert {"encoder.0.conv.weight", "encoder.1.norm.running_mean", "decoder.1.conv.bias",
            "optimizer.encoder.0.conv.weight.exp_avg"} <= names
