"""Folders as people have them: which files are images of the task, and what is said of the others."""

import json

import numpy as np
import pytest
from PIL import Image

from convae_program import ONE_CORE, picture, read_csv, save_pictures
from drawn_parts import SIZES, part, save, spoil

TINY = ("--levels", "4", "--max-steps", 1, "--report", "false", *ONE_CORE)


def lines(result, *parts):
    return [line for line in result.logs if all(part in line for part in parts)]


def names(table, kind=None):
    return {row["path"] for row in read_csv(table) if kind is None or row["set"] == kind}


@pytest.fixture(scope="module")
def ad2(tmp_path_factory):
    """MVTec AD 2: masks of 0 and 1 in the test set's own folder."""
    root = tmp_path_factory.mktemp("ad2") / "can"
    for number in range(8):
        save(root / f"train/good/{number:03}_regular.png", part(number, SIZES[number % 3]))
    for number in range(4):
        size = SIZES[number % 3]
        save(root / f"validation/good/{number:03}_regular.png", part(100 + number, size))
        save(root / f"test_public/good/{number:03}_regular.png", part(200 + number, size))
        pixels = part(300 + number, size)
        mask = Image.fromarray(spoil(pixels, "hole", number).astype(np.uint8))
        save(root / f"test_public/bad/{number:03}_regular.png", pixels)
        path = root / f"test_public/ground_truth/bad/{number:03}_regular_mask.PNG"
        path.parent.mkdir(parents=True, exist_ok=True)
        mask.save(path, "PNG")
    return root


@pytest.fixture(scope="module")
def trained_on_ad2(program, ad2, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    result = program.run("train", "--data", ad2, *TINY, "--name", "can", cwd=folder)
    return result, folder / "runs" / "can"


def test_mvtec_ad_2_is_trained_and_validated_on_good_images(trained_on_ad2):
    result, run = trained_on_ad2
    assert lines(result, "MVTec AD 2 layout", "train/good", "validation/good")
    assert lines(result, "images: 8 for training, 4 for validation, 0 skipped")
    assert {name.split("/")[0] for name in names(run / "images.csv", "training")} == {"train"}
    assert {name.split("/")[0] for name in names(run / "images.csv", "validation")} == {"validation"}


def test_mvtec_ad_2_is_scored_with_its_masks(program, ad2, trained_on_ad2, tmp_path):
    args = ("score", "--checkpoint", trained_on_ad2[1], "--heat-maps", "false", *ONE_CORE)
    result = program.run(*args, "--data", ad2, "-o", "out", cwd=tmp_path)
    labels = {row["path"]: row["label"] for row in read_csv(tmp_path / "out" / "scores.csv")}
    assert sorted(labels.values()) == ["bad"] * 4 + ["good"] * 4
    assert all(name.split("/")[1] == label for name, label in labels.items())
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["masks"] == {"images": 4, "found": 4, "missing": {}}
    assert summary["calibration"]["images"] == 4
    assert summary["regions"] == 4 and 0 <= summary["pixel_auroc"] <= 1
    assert lines(result, "good images and kinds of defects are told by", "test_public'")
    assert "masks found for 4 of 4 images with defects" in result.stdout
    assert lines(result, "left out as masks: 'test_public/ground_truth'")

    # Sets of one side have the measures that exist.
    good = program.run(*args, "--data", ad2, "--exclude", "*/bad/**", "-o", "good", cwd=tmp_path)
    summary = json.loads((tmp_path / "good" / "summary.json").read_text())
    assert summary["good"] == 4 and 0 <= summary["false_positive_rate"] <= 1
    assert summary["image_auroc"] is None and summary["kinds"] == {}
    assert "nan" not in good.stdout and "4 good images, false alarms" in good.stdout
    bad = program.run(*args, "--data", ad2, "--include", "**/bad/*", "-o", "bad", cwd=tmp_path)
    summary = json.loads((tmp_path / "bad" / "summary.json").read_text())
    assert 0 <= summary["kinds"]["bad"]["recall"] <= 1 and summary["pixel_auroc"] is not None
    assert summary["beats_controls"] is None and "nan" not in bad.stdout


def test_globs_are_saved_with_the_run(done, convae, tmp_path):
    data = save_pictures(tmp_path / "data", [(12, 14)] * 6)
    for index in range(6):
        Image.fromarray(picture(12, 14, 1, seed=index)).save(data / f"{index:03}_GT.png")
    (data / "other").mkdir()
    Image.fromarray(picture(12, 14)).save(data / "other" / "a.png")
    first = done("train", "--data", data, *TINY, "--val-split", 0, "--name", "all")
    assert lines(first, "warning", "6 images seem to be masks", "--exclude '*_GT.*'")
    done("train", "--data", data, *TINY, "--val-split", 0, "--exclude", "*_GT.*", "--exclude",
         "other/**", "--include", "*.png", "--name", "run")
    images = tmp_path / "runs" / "run" / "images.csv"
    assert names(images) == {f"{index:03}.png" for index in range(6)}
    again = done("train", "--resume", "runs/run", "--max-steps", 2)
    assert not lines(again, "images of this run changed") and len(names(images)) == 6
    # A flag replaces all globs of that kind.
    result = done("train", "--resume", "runs/run", "--max-steps", 3, "--exclude", "other/*")
    assert lines(result, "warning", "6 added ('000_GT.png'", "the epoch begins anew")
    done("train", "--config", tmp_path / "runs/run/config.toml", "--name", "repeated")
    assert len(names(tmp_path / "runs" / "repeated" / "images.csv")) == 12
    call = ("--checkpoint", "runs/run", "--data", data, *ONE_CORE)
    done("reconstruct", *call, "--include", "00[1-3].png", "-o", "out")
    assert names(tmp_path / "out" / "reconstruct.csv") == {"001.png", "002.png", "003.png"}
    convae("reconstruct", *call, "--include", "*.jpg", "-o", "none").assert_refused(
        1, "no usable image", "13 by --include and --exclude")


def test_results_inside_the_data_are_left_out(done, tmp_path):
    save_pictures(tmp_path, [(12, 14)] * 4)
    done("train", "--data", ".", *TINY, "--val-split", 0, "--name", "first")
    done("reconstruct", "--checkpoint", "runs/first", "--data", ".", "-o", "out", *ONE_CORE)
    result = done("train", "--data", ".", *TINY, "--val-split", 0, "--name", "second")
    assert lines(result, "left out as results of convae: 'out', 'runs/first', 'runs/latest'")
    assert names(tmp_path / "runs" / "second" / "images.csv") == {f"{i:03}.png" for i in range(4)}
    assert not lines(done("train", "--resume", "runs/second", "--max-steps", 2), "images of this run changed")


def test_results_beside_the_images_are_left_out(program, done, convae, tmp_path):
    data = save_pictures(tmp_path / "data", [(12, 14)] * 12)
    done("train", "--data", data, *TINY, "--val-split", 0.5, "--name", "first")
    score = ("score", "--checkpoint", "runs/first", "--data", data, "-o", data, *ONE_CORE)
    done(*score)
    again = done(*score, "--overwrite")
    assert lines(again, "left out as results of convae: 'heat', 'overlay'")
    assert names(data / "scores.csv") == {f"{i:03}.png" for i in range(12)}
    result = done("train", "--data", data, *TINY, "--include", "heat/*", "--val-split", 0, "--name", "second")
    assert names(tmp_path / "runs" / "second" / "images.csv") == {f"heat/{i:03}.png" for i in range(12)}
    for picture in data.glob("*.png"):
        picture.rename(picture.with_suffix(".jpg"))
    convae("reconstruct", "--checkpoint", "runs/first", "--data", data, "-o", f"{data}/../data").assert_refused(
        2, "--output", "lie among the images")


def test_results_among_the_images_are_refused(done, convae, identity, tmp_path):
    save_pictures(tmp_path / "in/sub", [(12, 14)])
    Image.fromarray(picture(12, 14)).save(tmp_path / "in/a.bmp")
    done("pack", "--data", "in", "-o", "shards", "--name", "x")
    for job in ("reconstruct", "evaluate"):
        common = (job, "--checkpoint", identity, *ONE_CORE, "--data")
        for data, output in (("in", "in/sub"), ("in/a.bmp", "in"), ("in/sub", "in/sub/../sub"),
                             ("shards/x-{000000..000000}.tar", "shards")):
            if (job, data) == ("reconstruct", "in/sub"):
                continue  # its names are taken
            convae(*common, data, "-o", output).assert_refused(2, "--output", "lie among the images")
        done(*common, "in", "-o", f"in/{job}")


def test_scores_among_the_images_of_a_folder_below_are_refused(convae, identity, tmp_path):
    save_pictures(tmp_path / "in/sub", [(12, 14)])
    convae("score", "--checkpoint", identity, "--data", "in", "-o", "in/sub", *ONE_CORE).assert_refused(
        2, "--output", "lie among the images")


@pytest.mark.parametrize("job", ("reconstruct", "evaluate", "score"))
def test_results_among_other_images_are_warned_of_once(done, identity, tmp_path, job):
    save_pictures(tmp_path / "in", [(12, 14)] * 4)
    save_pictures(tmp_path / "in/good", [(12, 14)] * 4)
    (tmp_path / "good").mkdir()
    (tmp_path / "in/good/003.png").rename(tmp_path / "good/photo.png")
    words = (job, "--checkpoint", identity, "--data", "in", "-o", "good", "--overwrite", *ONE_CORE,
             *(("--good", "in") if job == "score" else ()))
    warning = "the results lie among the images in 'good'"
    assert lines(done(*words), warning)
    assert not lines(done(*words), warning)


def test_a_changed_folder_is_named_at_resume(done, convae, tmp_path):
    data = save_pictures(tmp_path / "data", [(12, 14)] * 6)
    done("train", "--data", data, *TINY, "--val-split", 0, "--name", "run")
    (data / "001.png").rename(data / "renamed.png")
    (data / "002.png").unlink()
    more = ("train", "--resume", "runs/run", "--max-steps", 2)
    convae(*more, "--strict").assert_refused(
        1, "1 added ('renamed.png'), 2 removed ('001.png', '002.png')", "--strict")
    result = done(*more)
    assert lines(result, "warning", "1 added ('renamed.png'), 2 removed", "the epoch begins anew")
    assert not lines(done("train", "--resume", "runs/run", "--max-steps", 3, "--strict"), "images of this run changed")


def test_images_of_a_list_that_are_gone_are_named(done, photos, tmp_path):
    (tmp_path / "c.toml").write_text('[data]\nimages = ["000.png", "001.png", "gone.png"]\n')
    result = done("train", "--data", photos, "--config", "c.toml", "--val-split", 0, *TINY)
    assert lines(result, "warning", "1 of 3 files", "'gone.png'")
    assert names(tmp_path / "runs/photos/images.csv") == {"000.png", "001.png"}


def test_a_group_regex_that_matches_nothing_is_said(done, photos):
    assert lines(done("train", "--data", photos, "--group-regex", "part(\\d+)", *TINY), "warning",
                 "--group-regex does not match 15 of 15 images")
    assert not lines(done("train", "--data", photos, "--group-regex", "\\d+", *TINY), "--group-regex")
