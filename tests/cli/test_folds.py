"""score --folds: a recipe judged by several deals of good images into training and test."""

import json
import shutil
import signal
import tomllib

import numpy as np
import pytest

from convae_program import ONE_CORE, csv_columns, read_csv, wait_until
from drawn_parts import make_parts

RECIPE = """
[data]
val-split = 0.4
group-regex = 'part(\\d+)'
[model]
levels = [4, 8]
[train]
epochs = 2
batch-size = 8
lr = 5e-3
seed = 3
[run]
save-every = 0
"""
KINDS = ["all", "crack", "hole"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Parts and a recipe for them."""
    folder = tmp_path_factory.mktemp("folds")
    make_parts(folder / "parts", good=8)
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


def words(*more):
    return ["score", "--data", "parts", "--config", "recipe.toml", *more, *ONE_CORE]


@pytest.fixture(scope="module")
def judged(program, place):
    result = program.run(*words("--folds", 3, "-o", "out", "--fpr", 0.2), cwd=place)
    return result, place / "out"


def test_too_few_images_to_calibrate_on_are_known_before_the_first_training(convae, place):
    recipe = place / "few.toml"
    recipe.write_text(RECIPE.replace("val-split = 0.4", "val-split = 0.05"))
    call = ("score", "--data", place / "parts", "--config", recipe, "--folds", 2, "-o", "few", *ONE_CORE)
    convae(*call).assert_refused(2, "good images out of training", "val-split")
    assert not (place / "few").exists()


def test_globs_that_match_in_one_of_the_folders_are_not_said_to_match_nothing(convae, place):
    recipe = place / "globs.toml"
    recipe.write_text(RECIPE.replace("val-split = 0.4", "val-split = 0.05").replace(
        "[model]", 'exclude = ["test/hole/part600*", "train/**/part000*", "none*"]\n[model]'))
    result = convae("score", "--data", place / "parts", "--config", recipe, "--folds", 2, "-o", "few", *ONE_CORE)
    result.assert_refused(2, "val-split")
    said = [line for line in result.logs if "matches no image" in line]
    assert len(said) == 1 and "--exclude 'none*' matches no image in " in said[0]


@pytest.fixture
def copy(judged, tmp_path):
    """The same, to go on with."""
    shutil.copytree(judged[1].parent, tmp_path, symlinks=True, dirs_exist_ok=True)
    deal = json.loads((tmp_path / "out" / "recipe.json").read_text())
    deal["data"] = str(tmp_path / "parts")
    (tmp_path / "out" / "recipe.json").write_text(json.dumps(deal))
    return tmp_path


def runs_of(out, count=3):
    return [out / f"fold-{number}" for number in range(1, count + 1)]


def group_of(path):
    return path.split("/part")[1].split("_")[0]


class TestDeal:
    """Who is trained on what, and tested on what."""

    def test_every_good_image_is_tested_once_and_every_defect_always(self, judged, place):
        good = {str(path.relative_to(place / "parts")) for path in (place / "parts").glob("t*/good/*.png")}
        tested = []
        for run in runs_of(judged[1]):
            rows = read_csv(run / "scores" / "scores.csv")
            assert {row["path"] for row in rows if row["label"] != "good"} == {
                str(path.relative_to(place / "parts")) for kind in ("hole", "crack")
                for path in (place / "parts/test" / kind).glob("*.png")}
            tested += [row["path"] for row in rows if row["label"] == "good"]
        assert len(tested) == len(good) == 8 * 2 + 10
        assert set(tested) == good

    def test_a_run_sees_neither_the_groups_it_is_tested_on_nor_defects(self, judged):
        for run in runs_of(judged[1]):
            seen = [row["path"] for row in read_csv(run / "images.csv")]
            assert all("/good/" in path for path in seen)
            tested = {group_of(row["path"]) for row in read_csv(run / "scores" / "scores.csv")}
            assert not {group_of(path) for path in seen} & tested
            assert {row["set"] for row in read_csv(run / "images.csv")} == {"training", "validation"}

    def test_folds_are_nearly_of_one_size_and_a_deal_of_the_seed(self, judged, program, place):
        deal = read_csv(judged[1] / "deal.csv")
        groups = {row["group"]: row["fold"] for row in deal}
        sizes = [list(groups.values()).count(fold) for fold in "123"]
        assert sum(sizes) == 18 and max(sizes) - min(sizes) <= 1
        result = program.call(*words("--folds", 3, "-o", "out", "--seed", 4), cwd=place)
        result.assert_refused(2, "seed '3'", "'4'")

    def test_a_fold_is_a_run_like_any_other(self, judged, program, tmp_path):
        run = runs_of(judged[1])[0]
        program.run("calibrate", "--checkpoint", run, *ONE_CORE, cwd=tmp_path)
        result = program.run("train", "--resume", run, cwd=tmp_path)
        assert "is finished" in result.stdout


class TestResults:
    """What is printed and written."""

    def test_rows_are_the_measures_of_each_run(self, judged):
        rows = read_csv(judged[1] / "folds.csv")
        assert [(row["fold"], row["kind"]) for row in rows] == [(f, kind) for f in "123" for kind in KINDS]
        for row in rows:
            summary = json.loads((judged[1] / f"fold-{row['fold']}/scores/summary.json").read_text())
            measures = summary if row["kind"] == "all" else summary["kinds"][row["kind"]]
            for column, key in {"image_auroc": "image_auroc", "pro": "pro", "recall": "recall",
                                "false_alarms": "false_positive_rate", "pixel_auroc": "pixel_auroc"}.items():
                assert float(row[column]) == pytest.approx(measures[key])
            assert int(row["good"]) == measures["good"]
            control = summary["controls"]["no_network"]
            if row["kind"] == "all":
                assert float(row["no_network_auroc"]) == pytest.approx(control["image_auroc"])
                assert float(row["lead"]) == pytest.approx(control["lead_of_network"])
            else:
                assert row["lead"] == row["no_network_auroc"] == ""

    def test_columns(self, judged):
        assert csv_columns(judged[1] / "folds.csv") == (
            "fold,kind,good,anomalous,image_auroc,average_precision,recall,false_alarms,pixel_auroc,pro,"
            "no_network_auroc,mean_error_auroc,image_area_auroc,lead,threshold").split(",")

    def test_means_and_spreads_are_those_of_the_rows(self, judged):
        summary = json.loads((judged[1] / "folds.json").read_text())
        rows = [row for row in read_csv(judged[1] / "folds.csv") if row["kind"] == "all"]
        for column in ("image_auroc", "pro", "false_alarms"):
            values = np.array([float(row[column]) for row in rows])
            spread = summary[column]
            assert spread["mean"] == pytest.approx(values.mean())
            assert spread["sd"] == pytest.approx(values.std(ddof=1))
            assert (spread["min"], spread["max"]) == pytest.approx((values.min(), values.max()))
        leads = np.array([float(row["lead"]) for row in rows])
        low, high = summary["controls"]["no_network"]["lead_of_network"]["interval"]
        margin = 4.303 * leads.std(ddof=1) / np.sqrt(3)  # Student's t with two degrees of freedom
        assert (low, high) == pytest.approx((leads.mean() - margin, leads.mean() + margin), abs=1e-6)
        assert set(summary["kinds"]) == {"crack", "hole"} and len(summary["each"]) == 3

    def test_prints_a_line_a_fold_and_a_table(self, judged):
        lines = judged[0].stdout.splitlines()
        assert [line[:7] for line in lines[:3]] == ["fold 1:", "fold 2:", "fold 3:"]
        for word in ("26 good images in 18 groups", "hole", "crack", "no network", "mean error", "image area",
                     "PRO", "pixel AUROC", "false alarms", "network over 'no network'"):
            assert word in judged[0].stdout, word


class TestAgain:
    """Called again with the same folder."""

    def test_finished_runs_are_scored_anew_and_not_trained(self, copy, program):
        out = copy / "out"
        weights = [(run / "weights/last.safetensors").read_bytes() for run in runs_of(out)]
        metrics = [(run / "metrics.csv").read_text() for run in runs_of(out)]
        table = (out / "folds.csv").read_text()
        result = program.call(*words("--folds", 3, "-o", "out", "--fpr", 0.2), cwd=copy)
        result.assert_refused(1, "folds.csv", "--overwrite")
        result = program.run(*words("--folds", 3, "-o", "out", "--fpr", 0.2, "--overwrite", "--json"), cwd=copy)
        assert [(run / "weights/last.safetensors").read_bytes() for run in runs_of(out)] == weights
        assert [(run / "metrics.csv").read_text() for run in runs_of(out)] == metrics
        assert (out / "folds.csv").read_text() == table
        assert json.loads(result.stdout) == json.loads((out / "folds.json").read_text())

    def test_a_call_that_fails_leaves_no_table_of_the_one_before(self, copy, program):
        out = copy / "out"
        shutil.rmtree(out / "fold-2/scores")
        (out / "fold-2/scores").touch()
        program.call(*words("--folds", 3, "-o", "out", "--fpr", 0.5, "--overwrite", "--json"), cwd=copy
                     ).assert_refused(1, "fold-2/scores' is a file")
        assert not (out / "folds.csv").exists() and not (out / "folds.json").exists()

    def test_what_is_missing_is_made(self, copy, program):
        out = copy / "out"
        table = (out / "folds.csv").read_text()
        (out / "folds.csv").unlink()
        (out / "folds.json").unlink()
        shutil.rmtree(out / "fold-2")
        (out / "fold-3/weights/last.safetensors").unlink()  # as if ended before its first checkpoint
        program.run(*words("--folds", 3, "-o", "out", "--fpr", 0.2), cwd=copy)
        assert (out / "folds.csv").read_text() == table

    @pytest.mark.parametrize("change, parts", [
        (["--folds", 4], ["folds '3'", "'4'"]),
        (["--folds", 3, "--group-regex", "part(\\d+)_"], ["group-regex 'part(\\\\d+)'", "'part(\\\\d+)_'"]),
    ])
    def test_another_deal_is_refused(self, copy, program, change, parts):
        result = program.call(*words("-o", "out", "--overwrite", *change), cwd=copy)
        result.assert_refused(2, "-o 'out'", *parts)

    def test_another_recipe_or_folder_is_refused(self, copy, program):
        (copy / "recipe.toml").write_text(RECIPE.replace("epochs = 2", "epochs = 3"))
        program.call(*words("--folds", 3, "-o", "out", "--overwrite"), cwd=copy).assert_refused(
            2, "epochs '2'", "'3'")
        (copy / "recipe.toml").write_text(RECIPE)
        (copy / "parts/train/good/part003_1.png").unlink()
        program.call(*words("--folds", 3, "-o", "out", "--overwrite"), cwd=copy).assert_refused(
            2, "1 removed ('train/good/part003_1.png')")
        shutil.move(copy / "parts", copy / "others")
        program.call(*words("--folds", 3, "-o", "out", "--overwrite", "--data", "others"),
                     cwd=copy).assert_refused(2, "data '", "others'")

    def test_the_recipe_may_be_that_of_a_run(self, copy, program):
        program.run("score", "--data", "parts", "--folds", 2, "-o", "again", "--checkpoint", "out/fold-1",
                    "--report", "false", *ONE_CORE, cwd=copy)
        rows = [row["path"] for run in runs_of(copy / "again", 2) for row in read_csv(run / "images.csv")]
        assert len(rows) == len(set(rows)) == 26, "all, not those of the run"
        for run in runs_of(copy / "again", 2):
            config = tomllib.loads((run / "config.toml").read_text())
            assert (config["train"]["epochs"], config["data"]["val-split"]) == (2, 0.4)
            assert not (run / "scores/report.html").exists()


class TestErrors:
    @pytest.mark.parametrize("change, parts", [
        (["--folds", 1], ["--folds '1'", "2 to 18"]),
        (["--folds", 19], ["--folds '19'", "2 to 18"]),
        (["--folds", 2, "--group-regex", "part"], ["--folds '2'", "all good images are of one group"]),
        (["--folds", 2, "--checkpoint", "x"], ["--config FILE", "--checkpoint RUN"]),
        (["--folds", 2, "--watch"], ["--watch", "--folds"]),
        (["--folds", 2, "--tile", 8], ["--tile '8'", "at least 32"]),
        (["--folds", 2, "--tile", 64, "--size", 32], ["--tile '64'", "--size"]),
        (["--folds", 2, "--data", "parts/train"], ["--data", "good images", "with defects"]),
    ])
    def test_bad_usage_is_one_line(self, place, convae_call, change, parts):
        convae_call(*words("-o", "bad", *change), cwd=place).assert_refused(2, *parts)
        assert not (place / "bad").exists()

    def test_a_missing_folder_is_named(self, place, convae_call):
        convae_call(*words("-o", "bad", "--folds", 2, "--data", "none"), cwd=place).assert_refused(
            1, "the folder 'none' does not exist")

    def test_a_recipe_without_folds_is_refused(self, place, convae_call):
        convae_call(*words("-o", "bad"), cwd=place).assert_refused(2, "--config", "--folds")

    def test_a_folder_of_other_files_is_left_alone(self, place, convae_call, tmp_path):
        (tmp_path / "mine.txt").write_text("mine")
        convae_call(*words("--folds", 2, "-o", tmp_path), cwd=place).assert_refused(1, "holds other files")
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.fixture
def convae_call(program):
    return program.call


def test_stopped_it_goes_on_where_it_was(program, place, judged):
    (place / "long.toml").write_text(RECIPE.replace("epochs = 2", "epochs = 40"))
    call = ["score", "--data", "parts", "--config", "long.toml", "--folds", 2, "-o", "stopped", *ONE_CORE]
    process = program.start(*call, cwd=place)
    metrics = place / "stopped/fold-1/metrics.csv"
    wait_until(metrics.exists, process)
    process.send_signal(signal.SIGINT)
    stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "stopped in fold 1 of 2" in stderr
    assert not (place / "stopped/folds.csv").exists()
    done = len(metrics.read_text().splitlines())
    assert done < 41, "it was stopped before its end"
    result = program.run(*call, cwd=place)
    assert "resuming" in result.stderr
    assert len(metrics.read_text().splitlines()) == 41
    assert len(read_csv(place / "stopped/folds.csv")) == 2 * len(KINDS)
