"""What the program chooses on its own: batch size and learning rate."""

import json
import tomllib

import pytest

from convae_program import ONE_CORE, assert_same_tensors, csv_columns, read_csv
from report_page import report_data

SMALL = ("--levels", "4,8", "--val-split", 0.3, *ONE_CORE)
LAST = "weights/last.safetensors"


@pytest.fixture(scope="module")
def chosen(program, photos, tmp_path_factory):
    """A run that chose both, what it chose, and what was printed."""
    folder = tmp_path_factory.mktemp("auto")
    result = program.run("train", "--data", photos, "--epochs", 2, "--batch-size", "auto", "--lr", "auto", *SMALL,
                         cwd=folder)
    run = folder / "runs" / "photos"
    return run, tomllib.loads((run / "config.toml").read_text())["train"], result


def test_choices_are_numbers_wherever_a_run_is_described(chosen, done):
    run, train, result = chosen
    assert train["batch-size"] == 4  # the fewest, of so few images
    assert 1e-5 < train["lr"] < 1
    assert any(f"batch size {train['batch-size']}, chosen" in line for line in result.logs)
    assert any(f"learning rate {train['lr']}, chosen" in line for line in result.logs)
    info = json.loads(done("info", run, "--json").stdout)
    assert (info["batch-size"], info["lr"]) == (train["batch-size"], train["lr"])


def test_curve_is_kept_and_in_the_report(chosen):
    run, train, _ = chosen
    assert csv_columns(run / "lr_test.csv") == ["lr", "loss"]
    rates = [float(row["lr"]) for row in read_csv(run / "lr_test.csv")]
    assert len(rates) > 20 and rates == sorted(rates)
    shown = report_data(run)["rate_test"]
    assert shown["chosen"] == train["lr"] and shown["rates"] == pytest.approx(rates)


def test_curve_is_drawn(chosen, look):
    page = look(chosen[0] / "report.html")
    path = page.locator("#rate-test .plot path").get_attribute("d")
    assert path.startswith("M") and "NaN" not in path
    assert page.locator("#rate-test .plot line.best").count() == 1
    assert page.locator("#rate-test tbody tr").count() == len(read_csv(chosen[0] / "lr_test.csv"))


def test_the_same_numbers_given_by_hand_train_the_same_weights(chosen, done, photos, tmp_path):
    run, train, _ = chosen
    done("train", "--data", photos, "--epochs", 2, "--batch-size", train["batch-size"], "--lr", train["lr"], *SMALL)
    assert_same_tensors(run / LAST, tmp_path / "runs" / "photos" / LAST)
    assert not (tmp_path / "runs" / "photos" / "lr_test.csv").exists()


def test_a_resume_keeps_what_was_chosen(chosen, done):
    run, train, _ = chosen
    curve = (run / "lr_test.csv").read_bytes()
    result = done("train", "--resume", run, "--epochs", 3, "--lr", "auto", "--batch-size", "auto")
    assert not any("chosen" in line for line in result.logs)
    assert sum("auto: the run keeps" in line for line in result.logs) == 2
    after = tomllib.loads((run / "config.toml").read_text())["train"]
    assert (after["batch-size"], after["lr"]) == (train["batch-size"], train["lr"])
    assert (run / "lr_test.csv").read_bytes() == curve
    assert report_data(run)["rate_test"]["chosen"] == train["lr"]


def test_a_chosen_rate_is_not_below_min_lr(convae, photos, tmp_path):
    result = convae("train", "--data", photos, "--lr", "auto", "--min-lr", 0.9, *SMALL)
    result.assert_refused(2, "min-lr must be at most lr", "0.9")
    assert not (tmp_path / "runs").exists()


def test_a_file_may_say_auto(done, squares, tmp_path):
    (tmp_path / "recipe.toml").write_text("[train]\nlr = 'auto'\nbatch-size = 'auto'\nepochs = 1\n")
    done("train", "--data", squares, "--config", "recipe.toml", *SMALL)
    train = tomllib.loads((tmp_path / "runs" / "squares" / "config.toml").read_text())["train"]
    assert train["lr"] > 0 and train["batch-size"] > 0


def test_commands_without_batches_take_such_a_file(done, tmp_path):
    (tmp_path / "recipe.toml").write_text("[train]\nbatch-size = 'auto'\n[model]\nlevels = [4, 8]\n")
    assert "output  3x25x24" in done("shapes", "--input", "3x25x24", "--config", "recipe.toml").stdout


def test_only_training_chooses(convae, chosen, squares):
    convae("encode", "--checkpoint", chosen[0], "--data", squares, "-o", "x.npy", "--batch-size",
           "auto").assert_refused(2, "--batch-size 'auto'", "only training")
