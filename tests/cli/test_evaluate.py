"""convae evaluate: what it measures, what it leaves out and why, and what it says of it."""

import json
import shutil
import signal
import time

import numpy as np
import pytest
from PIL import Image

from convae_program import ONE_CORE, csv_columns, picture, plain_name, read_csv, save_pictures

MEASURES = ("mse", "psnr", "ssim", "ms_ssim")
REFERENCES = {"pca", "mean_image", "network_8_bit", "jpeg"}


@pytest.fixture
def evaluate(done):
    def call(checkpoint, data, *options):
        return done("evaluate", "--checkpoint", checkpoint, "--data", data, *options, *ONE_CORE)
    return call


@pytest.fixture
def evaluated(evaluate):
    """The same as JSON."""
    return lambda *words: json.loads(evaluate(*words, "--json").stdout)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """Colour PNGs of one size that no run has seen."""
    folder = tmp_path_factory.mktemp("fresh") / "in"
    folder.mkdir()
    for index in range(9):
        Image.fromarray(picture(16, 20, seed=100 + index)).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def untrained(program, photos, tmp_path_factory):
    """A dense latent of six numbers whose network has learnt nothing."""
    folder = tmp_path_factory.mktemp("untrained")
    program.run("train", "--data", photos, "--levels", "4,8", "--latent", 6, "--size", "16x20",
                "--lr", 0, "--epochs", 1, "--val-split", 0, "--quiet", *ONE_CORE, cwd=folder)
    return folder / "runs" / "photos"


def test_everything_is_measured_at_the_size_of_a_dense_latent(evaluated, dense, fresh):
    result = evaluated(dense, fresh)
    assert (result["images"], result["size"], result["channels"]) == (9, "16x20", 3)
    assert (result["numbers_in"], result["numbers_latent"]) == (960, 6)
    assert result["compression"] == 160
    assert result["left_out"] == {} and set(result["results"]) == {"network", *REFERENCES}
    assert result["training_images"] == 15 and result["also_training_images"] == 0
    assert result["train_data"].endswith("photos") and result["pca_method"] == "gram"
    assert result["results"]["network_8_bit"]["bytes"] == 6
    assert result["results"]["jpeg"]["bytes"] > 6  # no JPEG is that small
    for method in result["results"].values():
        for measure in MEASURES:
            value = method[measure]
            assert value["low"] < value["mean"] < value["high"], (method, measure)
    assert set(result["against"]) == {"pca", "mean_image", "jpeg"}
    for rival, duel in result["against"].items():
        by = duel["mse_difference"]
        assert duel["wins"] == (by["mean"] < 0)
        assert duel["settled"] == (by["low"] > 0 or by["high"] < 0)
        own = result["results"][duel["contender"]]["mse"]["mean"]
        assert by["mean"] == pytest.approx(own - result["results"][rival]["mse"]["mean"])


def test_the_same_every_time(evaluate, dense, fresh):
    assert evaluate(dense, fresh, "--json").stdout == evaluate(dense, fresh, "--json").stdout


def test_a_network_that_loses_to_pca_is_said_to_lose(evaluate, untrained, photos):
    result = evaluate(untrained, photos)
    [line] = [line for line in result.stdout.splitlines() if line.startswith("The network ") and " PCA " in line]
    assert line.startswith("The network LOSES TO PCA (6 numbers): mse ")
    assert "do not settle" not in line
    [line] = [line for line in result.stdout.splitlines() if "the mean image" in line]
    assert line.startswith("The network LOSES TO the mean image")


def test_a_network_that_gives_images_back_beats_the_mean_image(evaluate, evaluated, identity, fresh):
    result = evaluated(identity, fresh, "--train-data", fresh)
    assert result["results"]["network"]["mse"]["mean"] < 1e-12
    assert result["results"]["network"]["psnr"]["mean"] == 100
    assert result["against"]["mean_image"]["wins"] and result["against"]["mean_image"]["settled"]
    # 8 bits for values of 8 bits, but over each channel's own range.
    assert 0 < result["results"]["network_8_bit"]["mse"]["mean"] < 1e-5
    assert result["compression"] == 1
    assert "would give every image of 960 numbers back as it is" in result["left_out"]["pca"]
    text = evaluate(identity, fresh, "--train-data", fresh).stdout
    assert "The network beats the mean image (0 numbers)" in text
    assert "PCA left out: PCA with 960 numbers would give" in text


def test_table_shows_means_above_their_intervals(evaluate, evaluated, dense, fresh):
    lines = evaluate(dense, fresh).stdout.splitlines()
    assert lines[0] == "9 images of 3x16x20 · 960 numbers in, 6 latent: 160.0 to 1"
    value = evaluated(dense, fresh)["results"]["pca"]
    assert any(line.split()[:3] == ["network", "6", "numbers"] for line in lines)
    [at] = [i for i, line in enumerate(lines) if line.startswith("PCA  ")]
    assert lines[at].split()[:4] == ["PCA", "6", "numbers", f"{1e3 * value['mse']['mean']:.3f}"]
    assert lines[at].split()[4:] == [f"{value['psnr']['mean']:.2f}", f"{value['ssim']['mean']:.4f}",
                                     f"{value['ms_ssim']['mean']:.4f}"]
    assert lines[at + 1].split()[:3] == [f"{1e3 * value['mse']['low']:.3f}", "–", f"{1e3 * value['mse']['high']:.3f}"]
    assert "MS-SSIM at 16x20 has 1 of its 5 scales" in lines


def test_results_of_each_image_and_the_summary_are_written_once(evaluate, convae, dense, fresh, tmp_path):
    printed = evaluate(dense, fresh, "--json", "-o", "out").stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["evaluate.csv", "evaluate.json"]
    assert (tmp_path / "out" / "evaluate.json").read_text() == printed
    table = tmp_path / "out" / "evaluate.csv"
    assert csv_columns(table)[:7] == ["path", "width", "height", *MEASURES]
    rows = read_csv(table)
    assert [row["path"] for row in rows] == [f"{index}.png" for index in range(9)]
    assert {(row["width"], row["height"]) for row in rows} == {("20", "16")}
    summary = json.loads(printed)["results"]
    for key in summary:
        for measure in MEASURES:
            column = measure if key == "network" else f"{key}_{measure}"
            mean = np.mean([float(row[column]) for row in rows])
            assert mean == pytest.approx(summary[key][measure]["mean"], rel=1e-9)
    assert np.mean([float(row["jpeg_bytes"]) for row in rows]) == pytest.approx(summary["jpeg"]["bytes"])
    before = table.read_bytes()
    words = ("evaluate", "--checkpoint", dense, "--data", fresh, "-o", "out", *ONE_CORE)
    convae(*words).assert_refused(1, "exists", "--overwrite")
    assert table.read_bytes() == before
    assert convae(*words, "--overwrite").code == 0


def test_several_sizes_are_coded_in_bytes_but_have_no_pca(evaluated, evaluate, trained, photos):
    result = evaluated(trained.run, photos)
    assert result["size"] is None and set(result["results"]) == {"network", "network_8_bit", "jpeg"}
    assert set(result["left_out"]) == {"pca", "mean_image"}
    assert all("--size" in reason for reason in result["left_out"].values())
    assert result["training_images"] > 0 and "training" in result["ranges_from"]
    # As many bytes as there are numbers, and a map has as many as the image is large.
    coded = result["results"]["network_8_bit"]
    assert coded["bytes"] == pytest.approx(result["numbers_latent"])
    assert coded["mse"]["mean"] == pytest.approx(result["results"]["network"]["mse"]["mean"], rel=0.05)
    text = evaluate(trained.run, photos).stdout
    assert "15 images of several sizes, 3 channels" in text
    assert "PCA, mean image left out: the images have several sizes" in text
    assert f"network in 8 bits   {round(result['numbers_latent'])} bytes" in text
    result = evaluated(trained.run, photos, "--size", "12x16")
    assert result["size"] == "12x16" and result["numbers_latent"] == 8 * 3 * 4
    # Ten to thirteen training images have no 96 components.
    assert set(result["left_out"]) == {"pca"}
    assert "needs more than 96 training images" in result["left_out"]["pca"]


def test_a_denoiser_stands_beside_what_costs_nothing(evaluate, evaluated, done, trained, photos, tmp_path):
    words = ("--corrupt", "noise:0.05-0.1", "--seed", 3)
    result = evaluated(trained.run, photos, *words)
    assert result["corrupted_by"] == "noise:0.05-0.1" and result["size"] is None
    filters = ["gaussian_blur", "non_local_means"]
    if "module photo" in result["left_out"].pop("non_local_means", ""):  # built without
        filters.pop()
    assert list(result["results"]) == ["network", "corrupted", *filters]
    assert list(result["against"]) == ["corrupted", *filters]
    assert set(result["left_out"]) == REFERENCES
    assert all("--corrupt" in reason for reason in result["left_out"].values())
    assert 20 < result["results"]["corrupted"]["psnr"]["mean"] < 27  # -20 lg σ
    assert all(result["results"][name]["strength"] > 0 for name in filters)
    # The same noise as reconstruct shows.
    done("reconstruct", "--checkpoint", trained.run, "--data", photos, "-o", "made", *words, *ONE_CORE)
    rows = read_csv(tmp_path / "made" / "reconstruct.csv")
    for key, name in (("input_psnr", "corrupted"), ("psnr", "network")):
        mean = np.mean([float(row[key]) for row in rows])
        assert mean == pytest.approx(result["results"][name]["psnr"]["mean"], rel=1e-5)
    text = evaluate(trained.run, photos, *words, "-o", "out").stdout
    assert text.splitlines()[0] == "15 images of several sizes, 3 channels, corrupted by noise:0.05-0.1"
    assert "\nGaussian blur       sigma " in text
    assert ("\nnon-local means     h " in text) == ("non_local_means" in filters)
    assert "The network LOSES TO the corrupted image: mse " in text
    assert csv_columns(tmp_path / "out" / "evaluate.csv")[7:11] == [f"corrupted_{name}" for name in MEASURES]


def test_sizes_of_their_own_are_measured_as_reconstruct_does(evaluate, done, trained, photos, tmp_path):
    evaluate(trained.run, photos, "-o", "measured")
    done("reconstruct", "--checkpoint", trained.run, "--data", photos, "-o", "made", *ONE_CORE)
    expected = {row["path"]: row for row in read_csv(tmp_path / "made" / "reconstruct.csv")}
    rows = read_csv(tmp_path / "measured" / "evaluate.csv")
    assert len(rows) == len(expected) == 15
    for row in rows:
        for measure in ("mse", "psnr", "ssim"):
            assert float(row[measure]) == pytest.approx(float(expected[row["path"]][measure]), rel=1e-4)


def test_images_too_small_for_similarity_have_none(evaluate, evaluated, trained, tmp_path):
    save_pictures(tmp_path / "small", [(9, 14)] * 3)
    result = evaluated(trained.run, tmp_path / "small")
    assert result["results"]["network"]["ssim"] == {"mean": None, "low": None, "high": None}
    assert result["results"]["network"]["ms_ssim"]["mean"] is None
    assert result["results"]["network"]["mse"]["mean"] > 0
    text = evaluate(trained.run, tmp_path / "small", "-o", "out").stdout
    assert "SSIM and MS-SSIM leave out images with a side under 11" in text
    assert [row["ssim"] for row in read_csv(tmp_path / "out" / "evaluate.csv")] == [""] * 3


def test_one_image_has_no_interval(evaluated, dense, tmp_path):
    save_pictures(tmp_path / "one", [(16, 20)])
    value = evaluated(dense, tmp_path / "one")["results"]["network"]["mse"]
    assert value["mean"] > 0 and value["low"] is None


def test_images_of_the_training_set_are_counted(evaluated, evaluate, dense, photos, trained):
    assert evaluated(dense, photos)["also_training_images"] == 15
    assert "15 of these images are among the training images" in evaluate(dense, photos).stdout
    # Those of the validation share were not trained on.
    [line] = [line for line in trained.result.stderr.splitlines() if "validation" in line][:1]
    result = evaluated(trained.run, photos, "--size", "16")
    assert 0 < result["also_training_images"] == result["training_images"] < 15, line


def test_other_training_images_change_neither_what_is_new_to_the_network_nor_the_globs(evaluated, dense, photos, fresh):
    assert evaluated(dense, fresh, "--train-data", fresh)["also_training_images"] == 0
    result = evaluated(dense, photos, "--train-data", fresh, "--include", "00*")
    assert result["also_training_images"] == result["images"] == 10
    assert result["training_images"] == 9  # none of which is called 00*


def test_a_checkpoint_file_knows_its_run_beside_other_training_images(evaluated, dense, photos, fresh):
    for data, known in ((photos, 15), (fresh, 0)):
        result = evaluated(dense / "weights/best.safetensors", data, "--train-data", fresh)
        assert result["also_training_images"] == known


def test_a_picture_in_the_current_folder_may_be_compared_with_training_images(evaluated, dense, fresh, tmp_path):
    shutil.copy(fresh / "0.png", tmp_path)
    assert evaluated(dense, "0.png", "--train-data", fresh)["also_training_images"] == 0


def test_training_images_are_known_by_links_to_them(evaluated, dense, photos, fresh, tmp_path):
    (tmp_path / "links").mkdir()
    for path in photos.iterdir():
        (tmp_path / "links" / f"link_{path.name}").symlink_to(path)
    assert evaluated(dense, tmp_path / "links", "--train-data", fresh)["also_training_images"] == 15


def test_links_that_were_trained_on_are_the_images_they_lead_to(done, evaluated, photos, fresh, tmp_path):
    (tmp_path / "links").mkdir()
    for path in photos.iterdir():
        (tmp_path / "links" / f"link_{path.name}").symlink_to(path)
    (tmp_path / "links/twice.png").symlink_to(photos / "000.png")
    done("train", "--data", "links", "--levels", "4", "--max-steps", 1, "--val-split", 0, "--quiet", *ONE_CORE)
    for data, images in ((tmp_path / "links", 16), (photos, 15), (fresh, 0)):
        assert evaluated("runs/links", data, "--train-data", fresh)["also_training_images"] == images


def test_later_images_are_no_training_images_for_a_checkpoint_either(program, done, evaluated, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "grown")
    done("train", "--data", "grown", "--levels", "4,8", "--epochs", 1, "--quiet", *ONE_CORE)
    save_pictures(tmp_path / "later", [(16, 16)] * 3)
    for path in (tmp_path / "later").iterdir():
        shutil.copy(path, tmp_path / "grown" / f"later_{path.name}")
    for checkpoint in ("runs/grown", "runs/grown/weights/best.safetensors"):
        result = evaluated(checkpoint, "grown", "--include", "later_*")
        assert result["images"] == 3 and result["also_training_images"] == 0


def test_images_of_the_training_set_are_counted_without_references_too(done, evaluated, squares):
    done("train", "--data", squares, "--levels", "4", "--skip", "add", "--max-steps", 1, "--val-split", 0, *ONE_CORE)
    result = evaluated("runs/squares", squares)
    assert set(result["left_out"]) == REFERENCES and result["also_training_images"] == 5


def test_numbers_of_an_image_are_rounded(evaluate, trained, tmp_path):
    save_pictures(tmp_path / "two", [(1, 1), (2, 1)])  # 4.5
    assert " · 5 numbers in" in evaluate(trained.run, "two").stdout


def test_references_need_the_training_images(program, done, evaluated, photos, fresh, tmp_path):
    shutil.copytree(photos, tmp_path / "moved")
    done("train", "--data", "moved", "--levels", "4,8", "--latent", 6, "--size", "16x20",
         "--epochs", 1, "--val-split", 0, "--quiet", *ONE_CORE)
    before = evaluated("runs/moved", fresh)
    (tmp_path / "moved").rename(tmp_path / "elsewhere")
    gone = evaluated("runs/moved", fresh)
    assert set(gone["left_out"]) == {"pca", "mean_image"}
    assert all("training images cannot be used" in reason and "moved" in reason and "--train-data" in reason
               for reason in gone["left_out"].values())
    assert gone["train_data"] is None and "on these images" in gone["ranges_from"]
    again = evaluated("runs/moved", fresh, "--train-data", "elsewhere")
    assert again["results"] == before["results"]


def test_images_that_came_after_the_training_are_left_out(done, evaluate, evaluated, photos, fresh, tmp_path):
    shutil.copytree(photos, tmp_path / "growing")
    done("train", "--data", "growing", "--levels", "4,8", "--latent", 6, "--size", "16x20",
         "--epochs", 1, "--val-split", 0, "--quiet", *ONE_CORE)
    before = evaluated("runs/growing", fresh)
    save_pictures(tmp_path / "growing" / "later", [(16, 20)] * 2)
    assert any("left out 2 images in" in line for line in evaluate("runs/growing", fresh).logs)
    assert evaluated("runs/growing", fresh)["results"] == before["results"]


def test_results_that_cannot_be_written_are_refused_before_the_images_are_looked_for(convae, dense):
    convae("evaluate", "--checkpoint", dense, "--data", "nowhere", "-o", "/proc/out", *ONE_CORE).assert_refused(
        1, "cannot write /proc/out")


def test_named_training_images_must_be_there(convae, dense, fresh, tmp_path):
    words = ("evaluate", "--checkpoint", dense, "--data", fresh, "-o", "out", *ONE_CORE)
    convae(*words, "--train-data", "nowhere").assert_refused(1, "nowhere", "does not exist")
    (tmp_path / "empty").mkdir()
    convae(*words, "--train-data", "empty").assert_refused(1, "no usable image", "empty")
    assert not (tmp_path / "out").exists()


def test_files_that_cannot_be_used_are_named(evaluate, dense, photos, fresh, tmp_path):
    data, training = tmp_path / "data", tmp_path / "training"
    shutil.copytree(fresh, data)
    shutil.copytree(photos, training)
    whole = (data / "0.png").read_bytes()
    (data / "half.png").write_bytes(whole[:len(whole) // 2])
    (data / "new\nline.png").write_text("no image")
    (training / "text.png").write_text("no image")
    result = evaluate(dense, data, "--train-data", training, "--json")
    for name in ("half.png", "new\\nline.png", "text.png"):
        assert any(f"skipped '{name}'" in line for line in result.logs), name
    values = json.loads(result.stdout)
    assert values["images"] == 9 and values["training_images"] == 15
    assert sorted(plain_name(file["path"]) for file in values["skipped"]) == ["half.png", "new\nline.png"]
    assert all(file["reason"] for file in values["skipped"])


def test_bad_calls_are_refused(convae, dense, fresh, tmp_path):
    convae("evaluate", "--data", fresh).assert_refused(2, "--checkpoint is needed")
    convae("evaluate", "--checkpoint", dense).assert_refused(2, "--data is needed")
    words = ("evaluate", "--checkpoint", dense, "--data", fresh)
    convae(*words, "--size", 32).assert_refused(2, "--size '32x32'", "16x20 only")
    convae(*words, "--corrupt", "noise", "--train-data", "x").assert_refused(2, "--train-data 'x'", "--corrupt")
    convae("evaluate", "--checkpoint", "nowhere", "--data", fresh).assert_refused(1, "nowhere")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sent, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_ends_it_at_once_and_leaves_nothing(program, identity, tmp_path, sent, code):
    save_pictures(tmp_path / "in", [(160, 160)])
    for index in range(1, 2000):
        (tmp_path / "in" / f"{index:04}.png").hardlink_to(tmp_path / "in" / "000.png")
    process = program.start("evaluate", "--checkpoint", identity, "--data", "in", "--train-data", "in",
                            "-o", "out", *ONE_CORE, cwd=tmp_path)
    for line in process.stderr:
        if "training images" in line:
            break
    process.send_signal(sent)
    before = time.monotonic()
    assert process.wait(timeout=60) == code
    assert time.monotonic() - before < 10
    assert process.stdout.read() == ""
    process.stdout.close()
    process.stderr.close()
    assert not (tmp_path / "out").exists()
