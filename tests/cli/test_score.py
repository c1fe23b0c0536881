"""score: verdicts, measures, controls and heat maps on drawn parts with drawn defects."""

import json
import math
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from convae_program import ONE_CORE, csv_columns, pixels_of, plain_name, read_csv, snapshot
from drawn_parts import GROUPS, SIZES, make_parts, part, save

SCORES_ALONE = ("--heat-maps", "false", "--report", "false", *ONE_CORE)


def train(program, cwd, data, *args):
    program.run("train", "--data", data, "--levels", "8,16", "--epochs", 20, "--lr", 5e-3,
                "--batch-size", 8, "--val-split", 0.4, "--corrupt", "blemish:0.5", "--name", "run",
                "--save-every", 0, "--report", "false", "--quiet", *args, *ONE_CORE, cwd=cwd)
    return cwd / "runs" / "run"


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return make_parts(tmp_path_factory.mktemp("parts") / "parts")


@pytest.fixture(scope="module")
def run(program, parts, tmp_path_factory):
    return train(program, tmp_path_factory.mktemp("run"), parts, "--group-regex", GROUPS)


@pytest.fixture(scope="module")
def scored(program, parts, run, tmp_path_factory):
    """The whole of it, once: result of the call, and where its files are."""
    folder = tmp_path_factory.mktemp("scored")
    result = program.run("score", "--checkpoint", run, "--data", parts, "-o", "out", "--fpr", 0.05,
                         *ONE_CORE, cwd=folder)
    return result, folder / "out"


def summary_of(out):
    return json.loads((out / "summary.json").read_text())


def test_every_image_gets_a_score_and_a_verdict(scored, parts):
    result, out = scored
    assert csv_columns(out / "scores.csv") == ["path", "label", "score", "anomalous"]
    rows = read_csv(out / "scores.csv")
    assert [row["path"] for row in rows] == sorted(
        str(path.relative_to(parts)) for path in (parts / "test").rglob("*.png"))
    summary = summary_of(out)
    for row in rows:
        assert row["label"] == row["path"].split("/")[1]
        assert row["anomalous"] == str(int(float(row["score"]) > summary["threshold"]))
    assert summary["images"] == 22
    assert summary["anomalous_images"] == sum(row["anomalous"] == "1" for row in rows)


def test_drawn_defects_are_found_and_located(scored):
    summary = summary_of(scored[1])
    assert summary["image_auroc"] > 0.9
    assert summary["f1"] > 0.7
    assert summary["pixel_auroc"] > 0.85
    assert 0.5 < summary["pro"] <= 1
    assert summary["regions"] == 12
    assert set(summary["kinds"]) == {"hole", "crack"}
    for kind in summary["kinds"].values():
        assert kind["anomalous"] == 6 and kind["good"] == 10
        low, high = kind["image_auroc_interval"]
        assert 0 <= low <= kind["image_auroc"] <= high <= 1


def test_controls_stand_beside_it(scored):
    result, out = scored
    controls = summary_of(out)["controls"]
    assert set(controls) == {"no_network", "mean_error", "image_area"}
    for control in controls.values():
        assert 0 <= control["image_auroc"] <= 1
        assert control["lead_of_network"] == pytest.approx(
            summary_of(out)["image_auroc"] - control["image_auroc"])
    for word in ("controls", "no network", "mean error", "image area", "hole", "crack", "PRO"):
        assert word in result.stdout


def test_scores_are_held_against_areas(scored, parts):
    result, out = scored
    good = [row for row in read_csv(out / "scores.csv") if row["label"] == "good"]
    r = np.corrcoef([float(row["score"]) for row in good],
                    [pixels_of(parts / row["path"]).size for row in good])[0, 1]
    summary = summary_of(out)
    assert summary["score_area_correlation"] == pytest.approx(r)
    low, high = summary["score_area_correlation_interval"]
    assert -1 <= low <= r <= high <= 1 and low < high
    warned = [line for line in summary["warnings"] if "follow their area" in line]
    assert len(warned) == (abs(r) > 0.2)
    assert all(("may be chance" in line) == (low <= 0 <= high) for line in warned)
    assert f"r = {r:.3f} [{low:.3f}, {high:.3f}]" in result.stdout


def test_heat_maps_have_the_images_size_and_one_scale(scored, parts):
    out = scored[1]
    for row in read_csv(out / "scores.csv"):
        size = pixels_of(parts / row["path"]).shape
        heat, overlay = pixels_of(out / "heat" / row["path"]), pixels_of(out / "overlay" / row["path"])
        assert heat.shape == size
        assert overlay.shape == (*size, 3)
    assert summary_of(out)["heat_full_scale"] > 0
    defects = [row for row in read_csv(out / "scores.csv") if row["label"] != "good"]
    at_defect = 0
    for row in defects:
        heat = pixels_of(out / "heat" / row["path"]).astype(float)
        mask = pixels_of(parts / row["path"].replace("test/", "ground_truth/").replace(
            ".png", "_mask.png")) > 0
        at_defect += heat[mask].max() >= np.quantile(heat[~mask], 0.99)
    assert at_defect >= len(defects) - 2


def test_json_is_the_summary(program, parts, run, tmp_path):
    result = program.run("score", "--checkpoint", run, "--data", parts, "-o", "out", "--json",
                         "--heat-maps", "false", *ONE_CORE, cwd=tmp_path)
    printed = json.loads(result.stdout)
    assert printed == summary_of(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "scores.csv",
                                                                          "summary.json"]


def test_images_are_not_replaced_by_maps_of_them(program, parts, run, tmp_path):
    """Thermal pictures, in a folder of that name."""
    shutil.copytree(parts / "test/good", tmp_path / "line/heat")
    before = snapshot(tmp_path / "line")
    program.call("score", "--checkpoint", run, "--data", "line/heat", "-o", "line", "--overwrite", *ONE_CORE,
                 cwd=tmp_path).assert_refused(1, "'line/heat/part500_0.png'", "another -o")
    assert snapshot(tmp_path / "line") == before


def test_maps_of_a_wide_picture_count_in_the_memory_for_its_tiles(program, run, tmp_path):
    (tmp_path / "in").mkdir()
    Image.new("L", (400_000, 30)).save(tmp_path / "in/line.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/scores.csv").touch()  # ends the call once it has chosen

    def side(maps):
        said = program.call("score", "--checkpoint", run, "--data", "in", "-o", "out", "--tile", "auto", "--max-pixels",
                            2_000_000, "--memory", "600M", "--heat-maps", maps, *ONE_CORE, cwd=tmp_path).stderr
        return int(re.search(r"1 images in tiles of (\d+)x", said)[1])

    assert side("true") < side("false")


def test_a_plain_folder_gets_verdicts_without_measures(program, parts, run, tmp_path):
    plain = tmp_path / "line"
    for index, path in enumerate(sorted((parts / "test/hole").iterdir())[:3]):
        save(plain / f"shift {index}" / path.name, pixels_of(path) / 255)
    result = program.run("score", "--checkpoint", run, "--data", plain, "-o", "out", *ONE_CORE,
                         cwd=tmp_path)
    rows = read_csv(tmp_path / "out" / "scores.csv")
    assert len(rows) == 3 and all(row["label"] == "" for row in rows)
    summary = summary_of(tmp_path / "out")
    assert summary["labelled"] is False and "image_auroc" not in summary
    assert "AUROC" not in result.stdout


def test_fail_on_anomaly_exits_with_3(program, parts, run, tmp_path):
    bad = tmp_path / "bad"
    pixels = part(900, SIZES[0])
    pixels[12:24, 14:26] = 0
    save(bad / "part900.png", pixels)
    args = ("score", "--checkpoint", run, "--data", "bad", "--fail-on-anomaly", *ONE_CORE)
    assert program.call(*args, "-o", "a", cwd=tmp_path).code == 3
    assert (tmp_path / "a" / "scores.csv").is_file()
    good = tmp_path / "good images"
    save(good / "part1_0.png", part(1, SIZES[1]))
    args = ("score", "--checkpoint", run, "--data", "good images", "--fail-on-anomaly", *ONE_CORE)
    assert program.call(*args, "-o", "b", cwd=tmp_path).code == 0


def test_few_good_images_are_named_as_such(program, parts, run, tmp_path):
    for number in range(3):
        save(tmp_path / f"good/part{number}.png", part(number, SIZES[number]))
    result = program.run("score", "--checkpoint", run, "--data", parts, "--good", "good", "-o",
                         "out", *ONE_CORE, cwd=tmp_path)
    assert any("warning" in line and "3 good images" in line for line in result.logs)
    summary = summary_of(tmp_path / "out")
    assert summary["calibration"]["images"] == 3
    assert summary["calibration"]["smallest_fpr"] == pytest.approx(0.25)


def test_too_few_good_images_are_refused(program, convae, parts, tmp_path):
    run = train(program, tmp_path, parts, "--val-split", 0, "--max-steps", 1)
    convae("score", "--checkpoint", run, "--data", parts, "-o", "out").assert_refused(
        1, "good ones", ", 0 were kept out of training", "--val-split", "--good")
    save(tmp_path / "two/a.png", part(1, SIZES[0]))
    save(tmp_path / "two/b.png", part(2, SIZES[0]))
    convae("score", "--checkpoint", run, "--data", parts, "--good", "two", "-o",
           "out").assert_refused(1, "'two' has 2", "at least 3")
    assert not (tmp_path / "out").exists()


def test_one_folder_of_good_images_for_both_is_said(program, tmp_path):
    parts = make_parts(tmp_path / "parts", good=12, photos=1)
    shutil.copytree(parts / "train/good", tmp_path / "set/OK")
    shutil.copytree(parts / "test/hole", tmp_path / "set/NG")
    run = train(program, tmp_path, "set", "--max-steps", 1)
    words = ("score", "--checkpoint", run, "--data", "set", *SCORES_ALONE)
    count = len(list((tmp_path / "set/OK").iterdir()))
    assert f"{count} of {count} good images are among those this run was trained" in program.run(
        *words, "-o", "out", cwd=tmp_path).stderr
    (tmp_path / "set/OK").rename(tmp_path / "old")
    shutil.copytree(parts / "test/good", tmp_path / "set/OK")
    assert "among those" not in program.run(*words, "-o", "others", cwd=tmp_path).stderr


def test_a_run_whose_images_are_gone_needs_others(program, convae, tmp_path):
    data = make_parts(tmp_path / "data", good=6, photos=1)
    run = train(program, tmp_path, data, "--max-steps", 1)
    data.rename(tmp_path / "moved")
    convae("score", "--checkpoint", run, "--data", "moved", "-o", "out").assert_refused(
        1, "data', is not there", "--good")
    program.run("score", "--checkpoint", run, "--data", "moved", "--good", "moved", "-o", "out",
                *ONE_CORE, cwd=tmp_path)
    assert summary_of(tmp_path / "out")["calibration"]["images"] == 6


def test_colour_and_resized_images(program, tmp_path):
    data = make_parts(tmp_path / "colour", channels=3, good=10, photos=1)
    run = train(program, tmp_path, data, "--size", "32x36", "--max-steps", 20)
    program.run("score", "--checkpoint", run, "--data", data, "-o", "out", *ONE_CORE, cwd=tmp_path)
    summary = summary_of(tmp_path / "out")
    assert summary["image_auroc"] > 0.6
    row = read_csv(tmp_path / "out" / "scores.csv")[0]
    assert pixels_of(tmp_path / "out" / "heat" / row["path"]).shape == pixels_of(
        data / row["path"]).shape[:2]


def test_odd_sizes_and_names(program, run, odd, tmp_path):
    program.run("score", "--checkpoint", run, "--data", odd, "-o", "out", *ONE_CORE, cwd=tmp_path)
    rows = read_csv(tmp_path / "out" / "scores.csv")
    names = {plain_name(row["path"]) for row in rows}
    assert len(rows) == sum(path.is_file() for path in odd.rglob("*"))
    for name in names:
        assert (odd / name).is_file()
    assert all(math.isfinite(float(row["score"])) for row in rows)


def test_masks_that_cannot_be_used_are_said_and_left_out(program, run, tmp_path):
    data = make_parts(tmp_path / "data", good=1)
    save(data / "ground_truth/hole/part600_0_mask.png", np.ones((5, 5)))
    (data / "ground_truth/hole/part601_0_mask.png").unlink()
    clear = data / "ground_truth/hole/part602_0_mask.png"
    mark = pixels_of(clear)
    Image.fromarray(np.dstack([mark, mark, mark, mark])).save(clear)  # white on nothing
    blank = data / "ground_truth/hole/part603_0_mask.png"
    save(blank, np.zeros(pixels_of(blank).shape))
    result = program.run("score", "--checkpoint", run, "--data", data, "-o", "out", *SCORES_ALONE, cwd=tmp_path)
    assert any("part600_0_mask.png" in line and "size" in line for line in result.logs)
    summary = summary_of(tmp_path / "out")
    assert any("part602_0_mask.png" in line and "transparent" in line for line in result.logs)
    assert summary["masks"] == {"images": 12, "found": 8, "missing": {
        "empty": 1, "not readable": 1, "of another size": 1, "without one": 1}}
    assert ("masks found for 8 of 12 images with defects (1 empty, 1 not readable, 1 of another size, "
            "1 without one)") in result.stdout
    assert summary["kinds"]["hole"]["regions"] == 2
    assert summary["kinds"]["hole"]["anomalous"] == 6


def test_other_files_beside_masks_are_passed_over(program, run, tmp_path):
    data = make_parts(tmp_path / "data", good=1)
    masks = data / "ground_truth/hole"
    (masks / "part600_0_mask.json").write_text('{"shapes": []}')
    (masks / "part601_0_mask.txt").write_text("0 0.5 0.5 0.1 0.1")
    (masks / "part602_0").mkdir()
    (masks / "part602_0_mask.png").rename(masks / "part602_0/0.png")
    (masks / "part602_0/Thumbs.db").write_bytes(b"thumbs")
    (masks / "part603_0_mask.png").write_bytes(b"damaged")
    result = program.run("score", "--checkpoint", run, "--data", data, "-o", "out", *SCORES_ALONE, cwd=tmp_path)
    assert summary_of(tmp_path / "out")["masks"] == {"images": 12, "found": 11, "missing": {"not readable": 1}}
    assert [line for line in result.logs if "warning: mask" in line and "part603_0_mask.png" not in line] == []


def test_without_good_images_there_is_no_precision(program, run, tmp_path):
    data = make_parts(tmp_path / "data", good=1)
    shutil.rmtree(data / "test/good")
    program.run("score", "--checkpoint", run, "--data", data, "-o", "out", *SCORES_ALONE, cwd=tmp_path)
    summary = summary_of(tmp_path / "out")
    for measures in (summary, *summary["kinds"].values(), *summary["controls"].values()):
        assert measures["precision"] is measures["f1"] is measures["false_positive_rate"] is None
        assert measures["recall"] is not None


def test_validation_images_that_are_tested_are_said(program, tmp_path):
    make_parts(tmp_path / "set", good=3)
    run = train(program, tmp_path, "set", "--val", "set/test/good", "--max-steps", 1)
    result = program.run("score", "--checkpoint", run, "--data", "set", "-o", "out", *SCORES_ALONE, cwd=tmp_path)
    assert "10 of 10 good images are among those this run was trained or calibrated on" in result.stderr


def test_unreadable_images_are_skipped_by_name(program, run, tmp_path):
    save(tmp_path / "in/a.png", part(1, SIZES[0]))
    save(tmp_path / "in/b.png", part(2, SIZES[0]))
    content = (tmp_path / "in/b.png").read_bytes()
    (tmp_path / "in/b.png").write_bytes(content[:len(content) // 2])
    (tmp_path / "in/c.png").write_bytes(b"no image")
    result = program.run("score", "--checkpoint", run, "--data", "in", "-o", "out", *ONE_CORE,
                         cwd=tmp_path)
    assert len(read_csv(tmp_path / "out" / "scores.csv")) == 1
    assert summary_of(tmp_path / "out")["skipped"] == 2
    for name in ("b.png", "c.png"):
        assert any("skipped" in line and name in line for line in result.logs)


@pytest.mark.parametrize("args, parts_of_message", [
    (("--fpr", "0"), ("--fpr '0'", "between 0 and 1")),
    (("--fpr", "1.5"), ("--fpr '1.5'",)),
    (("--fpr", "often"), ("--fpr 'often'", "number")),
    (("--group-regex", "part("), ("group-regex 'part('", "regular expression")),
])
def test_bad_values_are_refused_by_name(convae, run, parts, args, parts_of_message):
    convae("score", "--checkpoint", run, "--data", parts, "-o", "out", *args).assert_refused(
        2, *parts_of_message)
