"""Training for a given time. How much that is differs from machine to machine, so these tests ask only
what has to hold on all."""

import json
import re
import tomllib

import pytest

from convae_program import ONE_CORE, read_csv, save_pictures, snapshot

SMALL = ("--levels", "4,8", "--batch-size", 4, *ONE_CORE)


@pytest.fixture(scope="module")
def timed(program, photos, tmp_path_factory):
    """A run of a second on a folder that is seen many times in it."""
    folder = tmp_path_factory.mktemp("timed")
    result = program.run("train", "--data", photos, "--val-split", 0.3, "--time", "1s", "--schedule", "one-cycle",
                         "--report", "false", *SMALL, cwd=folder)
    return folder / "runs" / "photos", result


def test_a_small_folder_is_seen_often_and_measured_now_and_then(timed):
    run, result = timed
    rows = read_csv(run / "metrics.csv")
    epochs = [int(row["epoch"]) for row in rows]
    assert epochs[0] == 1 and epochs == sorted(set(epochs))
    assert epochs[-1] > len(epochs), "not every epoch is validated and saved"
    assert all(row["val_loss"] for row in rows)
    assert f"epoch_{epochs[-1]:04}.png" in {path.name for path in (run / "samples").iterdir()}
    crossed = [epoch for before, epoch in zip([0] + epochs, epochs) if epoch // 5 > before // 5]
    if int(rows[-1]["step"]) < epochs[-1] * int(rows[0]["step"]):
        crossed = [epoch for epoch in crossed if epoch < epochs[-1]]  # the time ended in its middle
    kept = sorted(int(path.stem[-4:]) for path in (run / "weights").glob("epoch_*"))
    assert kept == crossed
    rates = [float(row["lr"]) for row in rows]
    assert 0 < rates[-1] < 0.3 * 1e-3, "the schedule ends with the time"
    assert any("does not repeat itself" in line for line in result.logs)
    assert any("of 1s · step" in line for line in result.logs)


def test_its_configuration_has_the_time(timed):
    config = tomllib.loads((timed[0] / "config.toml").read_text())
    assert config["train"]["time"] == "1s"


def larger_time(finished):
    """The seconds that a finished run names as its way out: more than it took, which a busy machine decides."""
    return float(re.search(r"is finished .*--time (\S+)s,", finished.stdout)[1])


def test_more_time_goes_on_and_the_same_time_does_not(timed, done):
    run, _ = timed
    before, step = snapshot(run), int(read_csv(run / "metrics.csv")[-1]["step"])
    larger = larger_time(done("train", "--resume", run))
    assert larger > 1
    assert snapshot(run) == before
    done("train", "--resume", run, "--time", f"{larger}s")
    rows = read_csv(run / "metrics.csv")
    assert int(rows[-1]["step"]) > step
    assert float(rows[-1]["lr"]) < 0.3 * 1e-3
    assert larger_time(done("train", "--resume", run, "--time", "0.2s")) > larger
    total = int(rows[-1]["epoch"]) + 2
    done("train", "--resume", run, "--epochs", total)
    assert read_csv(run / "metrics.csv")[-1]["epoch"] == str(total)


def test_epochs_in_a_file_take_the_place_of_a_runs_time(done, squares, tmp_path):
    done("train", "--data", squares, "--val-split", 0, "--time", "0.1s", *SMALL)
    run = tmp_path / "runs" / "squares"
    total = int(read_csv(run / "metrics.csv")[-1]["epoch"]) + 2
    (tmp_path / "recipe.toml").write_text(f"[train]\nepochs = {total}\n")
    done("train", "--resume", run, "--config", "recipe.toml")
    assert read_csv(run / "metrics.csv")[-1]["epoch"] == str(total)


def test_an_epoch_longer_than_the_time_is_cut_and_still_validated(done, tmp_path):
    pictures = save_pictures(tmp_path / "many", [(96, 96)] * 60)
    done("train", "--data", pictures, "--val-split", 0.2, "--time", "0.1s", "--batch-size", 1, *ONE_CORE)
    run = tmp_path / "runs" / "many"
    rows = read_csv(run / "metrics.csv")
    assert [row["epoch"] for row in rows] == ["1"]
    assert rows[0]["val_psnr"]
    assert {"best.safetensors", "last.safetensors"} <= {path.name for path in (run / "weights").iterdir()}
    info = json.loads(done("info", run / "weights/last.safetensors", "--json").stdout)
    assert info["epoch"] == 0 and info["step"] == int(rows[0]["step"])


def test_patience_counts_every_epoch(done, photos, tmp_path):
    done("train", "--data", photos, "--val-split", 0.3, "--time", "10m", "--patience", 2, "--lr", 0, *SMALL)
    epochs = [int(row["epoch"]) for row in read_csv(tmp_path / "runs" / "photos" / "metrics.csv")]
    assert epochs == list(range(1, len(epochs) + 1))


def test_flags_that_contradict_are_refused(convae, photos):
    convae("train", "--data", photos, "--time", "1m", "--epochs", 2).assert_refused(2, "--time and --epochs")
    convae("train", "--data", photos, "--time", "soon").assert_refused(2, "--time 'soon'", "1h30m")
