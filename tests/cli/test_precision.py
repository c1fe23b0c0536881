"""What a network computes in: chosen for training, asked for elsewhere."""
import csv
import json
import tomllib

import numpy as np
import pytest

from convae_program import ONE_CORE, assert_same_tensors, read_csv

WIDE = ("--levels", "8,32", "--batch-size", 8, "--epochs", 2, *ONE_CORE)


def precision_of(run):
    return tomllib.loads((run / "config.toml").read_text())["train"]["precision"]


@pytest.fixture(scope="module")
def auto(program, photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("auto")
    result = program.run("train", "--data", photos, *WIDE, cwd=folder)
    return folder / "runs" / "photos", result


def test_training_says_and_keeps_what_auto_chose(auto, done, photos, tmp_path):
    run, result = auto
    chosen = precision_of(run)
    assert chosen in ("fp32", "bf16")
    assert f"decoding threads · {chosen}" in result.stderr
    done("train", "--data", photos, *WIDE, "--name", "again")
    assert_same_tensors(run / "weights/last.safetensors", tmp_path / "runs/again/weights/last.safetensors")
    done("train", "--data", photos, *WIDE, "--name", "asked", "--precision", chosen)
    assert_same_tensors(run / "weights/last.safetensors", tmp_path / "runs/asked/weights/last.safetensors")


def test_a_resumed_run_keeps_its_precision(done, photos, tmp_path):
    done("train", "--data", photos, *WIDE, "--name", "a", "--precision", "fp32")
    done("train", "--resume", "runs/a", "--precision", "auto", "--epochs", 3)
    assert precision_of(tmp_path / "runs/a") == "fp32"


def test_narrow_networks_stay_in_float(trained):
    assert precision_of(trained.run) == "fp32"


def test_reconstructions_and_latents_in_bfloat16_are_nearly_those_in_float(auto, done, photos, tmp_path):
    run, _ = auto
    for precision in ("fp32", "bf16"):
        done("reconstruct", "--checkpoint", run, "--data", photos, "--precision", precision, "-o", precision)
        done("encode", "--checkpoint", run, "--data", photos, "--precision", precision, "--size", 16,
             "-o", f"{precision}.npy")
        done("decode", "--checkpoint", run, "--latents", "fp32.npy", "--precision", precision,
             "-o", f"decoded_{precision}")
        done("evaluate", "--checkpoint", run, "--data", photos, "--precision", precision, "-o",
             f"evaluated_{precision}")
        assert json.loads((tmp_path / f"evaluated_{precision}/evaluate.json").read_text())["precision"] == precision
    exact, rounded = (read_csv(tmp_path / name / "reconstruct.csv") for name in ("fp32", "bf16"))
    assert "precision" not in exact[0] and {row["precision"] for row in rounded} == {"bf16"}
    psnr = lambda rows: np.array([float(row["psnr"]) for row in rows])  # noqa: E731
    assert np.abs(psnr(exact) - psnr(rounded)).max() < 0.1
    assert (psnr(exact) != psnr(rounded)).any()
    a, b = (np.load(tmp_path / f"{name}.npy") for name in ("fp32", "bf16"))
    assert a.dtype == b.dtype == np.float32
    assert 0 < np.linalg.norm(a - b) < 0.02 * np.linalg.norm(a)


def test_float_is_what_others_compute_unless_asked(auto, done, photos, tmp_path):
    run, _ = auto
    done("reconstruct", "--checkpoint", run, "--data", photos, "-o", "plain")
    done("reconstruct", "--checkpoint", run, "--data", photos, "--precision", "fp32", "-o", "asked")
    assert (tmp_path / "plain/reconstruct.csv").read_text() == (tmp_path / "asked/reconstruct.csv").read_text()


def test_score_computes_as_its_inspector_was_calibrated(auto, done, photos, tmp_path):
    run, _ = auto
    thresholds = {}
    for precision in ("fp32", "bf16"):
        said = json.loads(done("calibrate", "--checkpoint", run, "--good", photos, "--precision", precision,
                               "--json").stdout)
        result = done("score", "--checkpoint", run, "--data", photos, "-o", precision, "--json")
        summary = json.loads(result.stdout)
        assert summary["calibration"]["precision"] == precision and f"in {precision}" in result.stderr
        assert summary["threshold"] == said["threshold"] or said["fpr"] != summary["fpr"]
        with open(tmp_path / precision / "scores.csv") as file:
            thresholds[precision] = [float(row["score"]) for row in csv.DictReader(file)]
    a, b = (np.array(thresholds[name]) for name in ("fp32", "bf16"))
    assert (a != b).any()


@pytest.mark.parametrize("words", [("train", "--data", "{photos}"),
                                   ("reconstruct", "--checkpoint", "{run}", "--data", "{photos}", "-o", "x"),
                                   ("bench", "--rounds", 1)], ids=lambda words: words[0])
def test_what_a_processor_lacks_is_refused(auto, convae, photos, words):
    words = [str(word).format(photos=photos, run=auto[0]) for word in words]
    convae(*words, "--precision", "tf32", "--device", "cpu").assert_refused(2, "--precision 'tf32'", "fp32")
