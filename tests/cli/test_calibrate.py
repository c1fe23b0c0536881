"""calibrate: what a run learns of good images is kept, and score needs no good image then."""

import json
import shutil
import subprocess

import pytest
from safetensors.numpy import load_file

from convae_program import ONE_CORE, read_csv
from drawn_parts import GROUPS, make_parts, part, save


@pytest.fixture(scope="module")
def trained(program, tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrate")
    data = make_parts(folder / "parts", good=7)
    program.run("train", "--data", data, "--levels", "8,16", "--epochs", 4, "--val-split", 0.4,
                "--batch-size", 8, "--name", "run", "--group-regex", GROUPS, "--quiet", *ONE_CORE, cwd=folder)
    return folder


@pytest.fixture
def place(trained, tmp_path):
    """The trained run with its images, to change at will. Its configuration names the first place."""
    shutil.copytree(trained / "runs", tmp_path / "runs", symlinks=True)
    shutil.copytree(trained / "parts", tmp_path / "test parts")
    return tmp_path


@pytest.fixture(scope="module")
def calibration(program, trained, tmp_path_factory):
    """What calibrate says of the run, and the file it makes."""
    folder = tmp_path_factory.mktemp("calibration")
    shutil.copytree(trained / "runs", folder / "runs", symlinks=True)
    said = program.run("calibrate", "--checkpoint", "runs/run", "--json", *ONE_CORE, cwd=folder).stdout
    return json.loads(said), folder / "runs/run/inspector.safetensors"


@pytest.fixture
def calibrated(place, calibration):
    shutil.copy(calibration[1], place / "runs/run")
    return place


def rows_of(text):
    lines = text.splitlines()
    return [dict(zip(lines[0].split(","), line.split(","))) for line in lines[1:]]


def score(program, place, out, *args, run="runs/run", **kwargs):
    result = program.run("score", "--checkpoint", run, "--data", "test parts", "-o", out, "--heat-maps", "false",
                         "--report", "false", *args, *ONE_CORE, cwd=place, **kwargs)
    return (place / out / "scores.csv").read_text(), json.loads((place / out / "summary.json").read_text()), result


def test_the_first_score_keeps_what_it_learnt(program, place):
    first, summary, _ = score(program, place, "a")
    file = place / "runs/run/inspector.safetensors"
    content = file.read_bytes()
    saved = load_file(file)
    assert len(saved["scores.network"]) == summary["calibration"]["images"]
    assert list(saved["scores.network"]) == sorted(saved["scores.network"])
    again, other, result = score(program, place, "b", "--fpr", 0.5)
    assert file.read_bytes() == content
    assert any("calibrated before" in line for line in result.logs)
    assert other["threshold"] < summary["threshold"]
    program.call("info", file, cwd=place).assert_refused(1, "inspector.safetensors", "not a checkpoint", "folder")
    assert [line.rsplit(",", 1)[0] for line in again.splitlines()] == [
        line.rsplit(",", 1)[0] for line in first.splitlines()]


def test_what_is_to_be_called_can_be_pasted(convae, place):
    (place / "runs").rename(place / "my runs")
    convae("export", "--checkpoint", "my runs/run", "--part", "inspector", "--format", "onnx",
           "-o", "x.onnx").assert_refused(
        1, "run convae calibrate --checkpoint 'my runs/run'")


def test_score_needs_no_training_image_then(program, trained, calibration, calibrated):
    about = calibration[0]
    with_images, summary, _ = score(program, calibrated, "a")
    assert about["images"] == summary["calibration"]["images"]
    assert about["threshold"] == pytest.approx(summary["threshold"])
    (trained / "parts").rename(trained / "gone")
    try:
        assert score(program, calibrated, "b")[0] == with_images
    finally:
        (trained / "gone").rename(trained / "parts")


def test_one_picture_scores_as_among_others(program, calibrated):
    place = calibrated
    together = {row["path"]: row["score"] for row in rows_of(score(program, place, "a")[0])}
    name = next(name for name in together if "hole" in name)
    for path in sorted((place / "test parts").rglob("*.png")):
        if str(path.relative_to(place / "test parts")) != name:
            path.unlink()
    alone = rows_of(score(program, place, "b")[0])
    assert [(row["path"], row["score"]) for row in alone] == [(name, together[name])]


def test_images_of_the_training_taken_for_good_ones_are_said(program, trained, place):
    good = trained / "parts/train/good"
    result = program.run("calibrate", "--checkpoint", "runs/run", "--good", good, *ONE_CORE, cwd=place)
    trained_on = sum(row["set"] == "training" for row in read_csv(place / "runs/run/images.csv"))
    all_of_them = len(list(good.iterdir()))
    assert 0 < trained_on < all_of_them
    assert sum(f"trained on {trained_on} of the {all_of_them} images" in line for line in result.logs) == 1


def test_other_good_images_move_the_threshold(program, calibrated):
    place, file = calibrated, calibrated / "runs/run/inspector.safetensors"
    before = file.read_bytes()
    make_parts(place / "later", good=5, photos=1)
    score(program, place, "b", "--good", "later")
    assert file.read_bytes() == before, "--good calibrates for one call"
    program.run("calibrate", "--checkpoint", "runs/run", "--good", "later", *ONE_CORE, cwd=place)
    assert file.read_bytes() != before
    assert score(program, place, "c")[1]["calibration"]["images"] == 5


def test_a_grouping_that_does_not_match_is_said(program, place):
    def said(*words):
        logs = program.run("calibrate", "--checkpoint", "runs/run", *words, *ONE_CORE, cwd=place).logs
        return [line.split("warning: ")[1] for line in logs if "--group-regex" in line]

    assert said() == [], "of the images and the grouping of the training"
    (line,) = said("--group-regex", r"prat(\d+)")
    assert line.startswith("--group-regex does not match") and line.endswith("a group of its own")
    make_parts(place / "later", good=5, photos=1)
    (place / "later/train/good/part000_0.png").rename(place / "later/train/good/first.png")
    (line,) = said("--good", "later")
    assert line.startswith("--group-regex does not match 1 of 5 images")


def test_images_of_the_training_that_were_moved_are_said(program, trained, place):
    (trained / "parts").rename(trained / "moved")
    try:
        result = program.run("calibrate", "--checkpoint", "runs/run", "--good", trained / "moved", *ONE_CORE, cwd=place)
    finally:
        (trained / "moved").rename(trained / "parts")
    assert sum("a folder that is gone" in line and "threshold may be too low" in line for line in result.logs) == 1


def test_pictures_with_defects_are_no_good_ones(program, convae, place):
    """In the test folder alone, and where that of good ones is gone."""
    cam = place / "cam"
    shutil.copytree(place / "test parts/test", cam / "test")
    about = json.loads(program.run("calibrate", "--checkpoint", "runs/run", "--good", "cam", "--json", *ONE_CORE,
                                   cwd=place).stdout)
    assert about["images"] == len(list((cam / "test/good").iterdir()))
    program.run("train", "--data", "cam", "--levels", 4, "--max-steps", 1, "--name", "cam", *ONE_CORE, cwd=place)
    assert all(row["path"].startswith("test/good/") or "/" not in row["path"]
               for row in read_csv(place / "runs/cam/images.csv"))
    shutil.copytree(cam / "test/hole", place / "sorted/NG")
    convae("calibrate", "--checkpoint", "runs/run", "--good", "sorted").assert_refused(1, "'sorted'", "'NG'", "good")


def test_good_images_that_cannot_be_read_are_counted(program, convae, place):
    shutil.copytree(place / "test parts/test/good", place / "good")
    for path in sorted((place / "good").iterdir())[2:]:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xff  # within the pixels
        path.write_bytes(data)
    result = program.call("calibrate", "--checkpoint", "runs/run", "--good", "good", *ONE_CORE, cwd=place)
    assert result.code == 1
    assert "too few of the good images can be read" in result.complaints[-1] and "--good DIR" in result.complaints[-1]


def test_images_that_were_damaged_after_the_training_are_named(program, trained, place):
    damaged = trained / "parts/train/good/part003_1.png"
    whole = damaged.read_bytes()
    try:
        damaged.write_bytes(whole[:100])
        said = program.run("calibrate", "--checkpoint", "runs/run", *ONE_CORE, cwd=place).logs
        assert any("warning" in line and damaged.name in line for line in said)
        program.call("calibrate", "--checkpoint", "runs/run", "--skip-bad", "false", *ONE_CORE,
                     cwd=place).assert_refused(1, damaged.name, "--skip-bad is false")
    finally:
        damaged.write_bytes(whole)


def test_images_that_are_too_small_at_another_size_are_named(program, place):
    data = make_parts(place / "mixed", good=6)
    save(data / "train/good/tiny.png", part(1, (9, 9)))
    program.run("train", "--data", data, "--levels", "4:k5p0,8:k5p0", "--size", 32, "--max-steps", 1, "--val-split",
                0.4, "--name", "mixed", "--quiet", *ONE_CORE, cwd=place)
    result = program.run("calibrate", "--checkpoint", "runs/mixed", "--size", "native", *ONE_CORE, cwd=place)
    assert any("skipped" in line and "tiny.png': input 9x9" in line for line in result.logs)


def test_images_that_are_gone_are_missed(program, trained, place):
    gone = sorted((trained / "parts/train/good").glob("*.png"))[0]
    content = gone.read_bytes()
    gone.unlink()
    try:
        result = program.run("calibrate", "--checkpoint", "runs/run", *ONE_CORE, cwd=place)
    finally:
        gone.write_bytes(content)
    assert any("warning: 1 of the" in line and "images of the training are no longer in" in line
               for line in result.logs)


def test_images_that_came_after_the_training_are_left_out(program, trained, calibration, place):
    later = trained / "parts/train/good/later"
    make_parts(later, good=1)
    try:
        result = program.run("calibrate", "--checkpoint", "runs/run", "--json", *ONE_CORE, cwd=place)
    finally:
        shutil.rmtree(later)
    assert any("left out" in line and "the training did not use" in line for line in result.logs)
    assert json.loads(result.stdout) == calibration[0]


def test_a_checkpoint_file_keeps_nothing_and_says_so(program, convae, place):
    weights = "runs/run/weights/best.safetensors"
    result = score(program, place, "a", run=weights)[2]
    assert any("warning" in line and "run folder" in line for line in result.logs)
    assert not (place / "runs/run/inspector.safetensors").exists()
    convae("calibrate", "--checkpoint", weights).assert_refused(2, "run folder")


def test_another_size_is_refused_and_another_network_calibrated_again(program, convae, calibrated):
    place, file = calibrated, calibrated / "runs/run/inspector.safetensors"
    before = file.read_bytes()
    convae("score", "--checkpoint", "runs/run", "--data", "test parts", "-o", "b", "--size", 32
                     ).assert_refused(2, "--size 32", "native", "calibrate")
    program.run("train", "--resume", "runs/run", "--epochs", 6, "--quiet", *ONE_CORE, cwd=place)
    result = score(program, place, "c")[2]
    if file.read_bytes() != before:
        assert any("other weights" in line for line in result.logs)
    file.write_bytes(before[:100])
    convae("score", "--checkpoint", "runs/run", "--data", "test parts", "-o", "d").assert_refused(
        1, "inspector.safetensors")


def test_good_images_that_were_named_stay_those_of_a_run_that_is_trained_on(program, place):
    make_parts(place / "later", good=6)
    program.run("calibrate", "--checkpoint", "runs/run", "--good", "later", *ONE_CORE, cwd=place)
    file = place / "runs/run/inspector.safetensors"
    before = file.read_bytes()
    program.run("train", "--resume", "runs/run", "--epochs", 9, "--lr", 0.02, "--quiet", *ONE_CORE, cwd=place)
    for name in ("a", "b"):
        _, summary, result = score(program, place, name)
        assert summary["calibration"]["training_images"] == 0, "those of later alone"
    assert file.read_bytes() != before and any("calibrated before" in line for line in result.logs)
    shutil.rmtree(place / "later")
    program.run("train", "--resume", "runs/run", "--epochs", 12, "--lr", 0.05, "--quiet", *ONE_CORE, cwd=place)
    _, summary, result = score(program, place, "c")
    assert summary["calibration"]["training_images"] > 0
    assert any("warning" in line and "are gone" in line for line in result.logs)


def test_a_run_that_is_trained_on_is_scored_as_it_was_calibrated(program, place):
    words = ("--size", 32, "--precision", "bf16", "--group-regex", "(x)")
    about = json.loads(program.run("calibrate", "--checkpoint", "runs/run", *words, "--json", *ONE_CORE,
                                   cwd=place).stdout)
    program.run("train", "--resume", "runs/run", "--epochs", 9, "--lr", 0.02, "--quiet", *ONE_CORE, cwd=place)
    for name, said in ("a", "calibrating again"), ("b", "at size 32x32 in bf16"):
        _, summary, result = score(program, place, name)
        assert any(said in line for line in result.logs), result.stderr
        assert summary["calibration"]["groups"] == about["groups"]
        assert summary["calibration"]["precision"] == "bf16"


def test_filters_of_score_are_for_the_images_to_score(program, place):
    make_parts(place / "later", good=6)
    _, summary, _ = score(program, place, "a", "--good", "later")
    _, filtered, _ = score(program, place, "b", "--good", "later", "--include", "test/hole/**", "--include", "test/good/**")
    assert filtered["calibration"] == summary["calibration"] and filtered["images"] < summary["images"]


def test_filters_are_for_a_folder_of_good_images(convae, place):
    kept = (place / "runs/run").joinpath("inspector.safetensors")
    for flag in ("--include", "--exclude"):
        convae("calibrate", "--checkpoint", "runs/run", flag, "part000*").assert_refused(2, flag, "--good")
    assert not kept.exists()


def test_options_that_fit_no_image_are_refused(program, convae, place):
    program.run("train", "--data", "test parts", "--levels", "4:k9p0", "--max-steps", 1, "--name", "wide", "--quiet",
                *ONE_CORE, cwd=place)
    convae("calibrate", "--checkpoint", "runs/wide", "--size", 8).assert_refused(2, "8x8")
    convae("calibrate", "--checkpoint", "runs/wide", "--batch-size", -7).assert_refused(2, "batch-size", "-7")


def test_what_one_call_asked_for_is_not_kept(program, place):
    for word, value in (("--size", 32), ("--group-regex", "(x)"), ("--max-pixels", 48 * 40)):
        score(program, place, f"with {word}", word, value)
        assert not (place / "runs/run/inspector.safetensors").exists()
    assert score(program, place, "plain")[1]["calibration"]["groups"] > 1


class TestAnotherGrouping:
    """A score with a --group-regex of its own calibrates for that one call, like the run was."""

    @staticmethod
    def kept(place):
        return (place / "runs/run/inspector.safetensors").read_bytes()

    def test_leaves_what_calibrate_kept_and_uses_its_good_images(self, program, place):
        make_parts(place / "later", good=6)
        program.run("calibrate", "--checkpoint", "runs/run", "--good", "later", "--include", "part00[0-3]*",
                    "--group-regex", "(x)", *ONE_CORE, cwd=place)
        before = self.kept(place)
        _, summary, result = score(program, place, "a", "--group-regex", GROUPS)
        assert self.kept(place) == before
        assert any("another --group-regex" in line for line in result.logs)
        assert (summary["calibration"]["images"], summary["calibration"]["groups"]) == (8, 4)
        shutil.rmtree(place / "later")
        _, summary, result = score(program, place, "b", "--group-regex", GROUPS)
        assert sum("warning" in line and "later" in line and "are gone" in line for line in result.logs) == 1
        assert summary["calibration"]["training_images"] > 0, "those of the run"
        assert self.kept(place) == before

    def test_leaves_a_calibration_on_the_images_of_the_run(self, program, place):
        program.run("calibrate", "--checkpoint", "runs/run", "--group-regex", "(x)", *ONE_CORE, cwd=place)
        before = self.kept(place)
        score(program, place, "a", "--group-regex", GROUPS)
        assert self.kept(place) == before

    def test_has_the_size_and_the_precision_that_were_kept(self, program, place):
        words = ("calibrate", "--checkpoint", "runs/run", "--size", 32, "--precision", "bf16", *ONE_CORE)
        program.run(*words, "--group-regex", GROUPS, cwd=place)
        wanted = score(program, place, "a")
        program.run(*words, "--group-regex", "(x)", cwd=place)
        found = score(program, place, "b", "--group-regex", GROUPS)
        assert found[1]["calibration"]["precision"] == "bf16"
        assert found[0] == wanted[0]
        assert found[1]["threshold"] == wanted[1]["threshold"]


def test_a_folder_scores_in_the_precision_it_was_calibrated_in(program, place):
    words = ("calibrate", "--checkpoint", "runs/run", "--precision", "bf16", *ONE_CORE)
    program.run(*words, cwd=place)
    name, value = next((row["path"], row["score"]) for row in rows_of(score(program, place, "a")[0]))
    process = program.start("score", "--checkpoint", "runs/run", "--stdin", *ONE_CORE, cwd=place,
                            stdin=subprocess.PIPE)
    printed = process.communicate(f"test parts/{name}\n", timeout=60)[0]
    assert json.loads(printed)["score"] == pytest.approx(float(value), rel=1e-12)


def test_a_good_folder_whose_name_is_not_utf8_is_kept_like_others(program, place):
    make_parts(place / "later", good=5, photos=1)
    (place / "later").rename(place / "bytes\udcff")
    program.run("calibrate", "--checkpoint", "runs/run", "--good", "bytes\udcff", *ONE_CORE, cwd=place)
    assert score(program, place, "a")[1]["calibration"]["images"] == 5


def test_images_that_were_calibrated_on_and_are_tested_are_said(program, place):
    good = place / "test parts/test/good"
    said = "10 of 10 good images are among those this run was trained or calibrated on"
    assert said in score(program, place, "a", "--good", good)[2].stderr
    assert "among those" not in score(program, place, "b")[2].stderr
    program.run("calibrate", "--checkpoint", "runs/run", "--good", good, *ONE_CORE, cwd=place)
    assert said in score(program, place, "c")[2].stderr
    program.run("calibrate", "--checkpoint", "runs/run", "--good", "test parts", *ONE_CORE, cwd=place)
    assert "among those" not in score(program, place, "d")[2].stderr, "train/good alone was used"
