"""report.html, read as data and looked at in a real browser."""

import json
import re
import shutil
import signal
import time

import pytest
from PIL import Image

from convae_program import ONE_CORE, picture, read_csv, save_pictures
from report_page import CONTRAST, assert_sane_to_a_screen_reader, pictures_of, report_data

SMALL = ("--levels", "4,8", "--batch-size", 4, "--val-split", 0.3, *ONE_CORE)


class TestData:
    """What the page is made of."""

    def test_has_the_metrics_of_every_epoch(self, trained):
        data = report_data(trained.run)
        rows = read_csv(trained.run / "metrics.csv")
        for name, values in data["metrics"].items():
            assert values == pytest.approx([float(row[name]) for row in rows]), name
        assert data["state"] == "finished" and data["epochs"] == 5
        assert data["best_epoch"] in data["metrics"]["epoch"]

    def test_says_how_many_epochs_there_are_steps_for(self, done, tmp_path):
        photos = save_pictures(tmp_path / "photos", [(24, 24)] * 6)
        result = done("train", "--data", photos, "--levels", "4,8", "--val-split", 0, "--batch-size", 3,
                      "--epochs", 50, "--max-steps", 3, *ONE_CORE)
        data = report_data(tmp_path / "runs/photos")
        assert data["epochs"] == data["metrics"]["epoch"][-1] == 2
        assert "epoch 2/2" in result.stderr

    def test_shows_the_samples_of_each_epoch_that_has_some(self, trained):
        data = report_data(trained.run)
        assert [sample["epoch"] for sample in data["samples"]] == [1, 5]
        images = pictures_of(data)
        for sample in data["samples"]:
            for image in sample["images"]:
                for part in image["parts"]:
                    assert list(images[part].size) == image["size"], "enlarged pixels are taken back"
        first, last = (sample["images"][0]["parts"] for sample in data["samples"])
        assert first[0] == last[0], "the same input is there once"
        assert first[1] != last[1]

    def test_shows_the_very_pixels_of_the_input(self, trained, photos):
        data = report_data(trained.run)
        images = pictures_of(data)
        for image in data["samples"][0]["images"]:
            with Image.open(photos / image["name"]) as original:
                shown = images[image["parts"][0]].convert("RGB")
                assert shown.tobytes() == original.convert("RGB").tobytes()

    def test_best_and_worst_and_the_histogram_are_of_the_validation_images(self, trained):
        data = report_data(trained.run)
        rows = read_csv(trained.run / "validation.csv")
        assert {row["epoch"] for row in rows} == {"5"}
        errors = sorted((float(row["mse"]), row["path"]) for row in rows)
        best = [image["name"] for image in data["best"]["images"]]
        worst = [image["name"] for image in data["worst"]["images"]]
        assert best == [name for _, name in errors[:len(best)]]
        assert worst == [name for _, name in errors[::-1][:len(worst)]]
        assert not set(best) & set(worst)
        assert sum(data["validation"]["histogram"]["counts"]) == len(rows)

    def test_errors_are_those_that_reconstruct_finds(self, trained, done, photos, tmp_path):
        done("reconstruct", "--checkpoint", trained.run / "weights/last.safetensors", "--data", photos, "-o", "out")
        found = {row["path"]: row for row in read_csv(tmp_path / "out" / "reconstruct.csv")}
        rows = read_csv(trained.run / "validation.csv")
        samples = read_csv(trained.run / "samples" / "samples.csv")
        for row in rows + [row for row in samples if row["epoch"] == "5"]:
            other = found[row["path"]]
            assert (row["width"], row["height"]) == (other["width"], other["height"])
            assert float(row["mse"]) == pytest.approx(float(other["mse"]), rel=1e-4)
            assert float(row["psnr"]) == pytest.approx(float(other["psnr"]), rel=1e-4)
            assert float(row["ssim"]) == pytest.approx(float(other["ssim"]), rel=1e-3)

    def test_has_command_config_and_level_table(self, trained):
        data = report_data(trained.run)
        assert len(data["commands"]) == 1
        assert data["commands"][0].startswith("convae train --data ")
        assert data["commands"][0] == (trained.run / "commands.txt").read_text().strip()
        assert data["config"] == (trained.run / "config.toml").read_text()
        levels = data["model"]["levels"]
        assert [level["conv"]["out"][0] for level in levels] == [4, 8]
        # 16x16, 17x20 and 24x19 are equally many; whichever is shown comes back at its size.
        height, width = data["model"]["input"][1:]
        assert levels[0]["convT"]["output_padding"] == [(height + 1) % 2, (width + 1) % 2]

    def test_without_validation_says_nothing_of_it(self, done, squares, tmp_path):
        done("train", "--data", squares, "--levels", "4", "--epochs", 2, "--val-split", 0, *ONE_CORE)
        data = report_data(tmp_path / "runs" / "squares")
        assert data["validation"]["histogram"] is None
        assert data["best"] is None and data["worst"] is None
        assert data["metrics"]["val_psnr"] == [None, None]
        assert len(data["samples"][-1]["images"]) == 5

    def test_switched_off_there_is_none(self, done, squares, tmp_path):
        done("train", "--data", squares, "--levels", "4", "--epochs", 1, "--report", "false", *ONE_CORE)
        assert not (tmp_path / "runs" / "squares" / "report.html").exists()

    def test_stays_small_over_many_epochs(self, done, squares, tmp_path):
        done("train", "--data", squares, "--levels", "2", "--epochs", 60, "--batch-size", 5,
             "--val-split", 0, "--save-every", 2, "--quiet", *ONE_CORE)
        data = report_data(tmp_path / "runs" / "squares")
        assert data["rows"] == 60
        epochs = [sample["epoch"] for sample in data["samples"]]
        assert len(epochs) == 20 and epochs[0] == 1 and epochs[-1] == 60
        # The inputs, and for each epoch the reconstructions and errors: none that is not shown.
        assert len(data["pictures"]) <= 5 + 20 * 5 * 2

    def test_large_images_are_shown_small(self, done, tmp_path):
        save_pictures(tmp_path / "large", [(1100, 300)] * 3)
        done("train", "--data", "large", "--levels", "2,2,2", "--epochs", 1, "--val-split", 0,
             "--batch-size", 1, *ONE_CORE)
        run = tmp_path / "runs" / "large"
        with Image.open(run / "samples" / "epoch_0001.png") as image:
            assert image.height == 3 * 1024 + 2 * 4
        data = report_data(run)
        assert {max(image.size) for image in pictures_of(data)} == {144}
        assert (run / "report.html").stat().st_size < 500_000


class TestResume:
    """A resumed run's report has the whole run."""

    def test_epochs_before_and_after_are_all_there(self, done, photos, tmp_path):
        done("train", "--data", photos, "--epochs", 3, "--save-every", 1, *SMALL)
        run = tmp_path / "runs" / "photos"
        done("train", "--resume", run, "--epochs", 5)
        data = report_data(run)
        assert data["metrics"]["epoch"] == [1, 2, 3, 4, 5]
        assert [sample["epoch"] for sample in data["samples"]] == [1, 2, 3, 4, 5]
        assert len(data["commands"]) == 2 and "--resume" in data["commands"][1]

    def test_work_that_was_lost_is_not_shown(self, done, photos, tmp_path):
        done("train", "--data", photos, "--epochs", 2, "--save-every", 1, *SMALL)
        run = tmp_path / "runs" / "photos"
        shutil.copy(run / "weights/last.safetensors", tmp_path / "kept")
        done("train", "--resume", run, "--epochs", 4)
        shutil.copy(tmp_path / "kept", run / "weights/last.safetensors")
        done("train", "--resume", run, "--epochs", 3)
        data = report_data(run)
        assert data["metrics"]["epoch"] == [1, 2, 3]
        assert [sample["epoch"] for sample in data["samples"]] == [1, 2, 3]

    def test_broken_pictures_and_tables_are_left_out(self, done, photos, tmp_path):
        done("train", "--data", photos, "--epochs", 2, "--save-every", 1, *SMALL)
        run = tmp_path / "runs" / "photos"
        (run / "samples/epoch_0001.png").write_bytes(b"no picture")
        (run / "validation.csv").write_text("nonsense\n\"")
        result = done("train", "--resume", run, "--epochs", 3)
        assert result.complaints == []
        data = report_data(run)
        assert [len(sample["images"]) > 0 for sample in data["samples"]] == [False, True, True]
        assert sum(data["validation"]["histogram"]["counts"]) > 0


class TestHarmless:
    """Whatever becomes of the report, the run goes on."""

    def test_one_that_cannot_be_written_is_a_warning(self, done, photos, tmp_path):
        done("train", "--data", photos, "--epochs", 1, *SMALL)
        run = tmp_path / "runs" / "photos"
        (run / "report.html").unlink()
        (run / "report.html").mkdir()
        result = done("train", "--resume", run, "--epochs", 2)
        assert any("warning" in line and "report.html" in line for line in result.logs)
        assert len(read_csv(run / "metrics.csv")) == 2

    def test_can_be_watched_and_says_how_the_run_ended(self, program, photos, tmp_path):
        process = program.start("train", "--data", photos, "--epochs", 1000000, *SMALL, cwd=tmp_path)
        report = tmp_path / "runs" / "photos" / "report.html"
        states = set()
        deadline = time.monotonic() + 60
        try:
            while time.monotonic() < deadline:
                if report.exists():
                    data = report_data(report.parent)  # whole, whenever it is read
                    states.add(data["state"])
                    if len(data["metrics"]["epoch"]) >= 2:
                        break
                time.sleep(0.02)
            assert states == {"running"}
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        assert process.returncode == 130
        assert report_data(report.parent)["state"] == "interrupted"

    def test_failure_is_told(self, convae, squares, tmp_path):
        convae("train", "--data", squares, "--norm", "none", "--output-activation", "linear", "--lr", "1e30",
               "--levels", "4,8", "--epochs", 9, "--val-split", 0, *ONE_CORE)
        data = report_data(tmp_path / "runs" / "squares")
        assert data["state"] == "failed" and "not finite at step" in data["message"]


# ---- In a browser ------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def odd_run(program, odd, tmp_path_factory):
    """A run on names that trip over, some of which are markup, and files that are skipped."""
    folder = tmp_path_factory.mktemp("odd_run")
    data = folder / "data"
    shutil.copytree(odd, data)
    image = Image.fromarray(picture(20, 24))
    for index, name in enumerate(["<script>alert(1)<", "<!--", "\"'><img src=x onerror=alert(2)>", "&lt;b&gt;"]):
        image.save(data / f"{index} {name}.png")
    (data / "<b>broken<").mkdir()
    (data / "<b>broken<" / "no image.png").write_bytes(b"nothing")
    program.run("train", "--data", data, "--levels", "4,8", "--epochs", 4, "--save-every", 1,
                "--val-split", 0.6, "--batch-size", 4, *ONE_CORE, cwd=folder)
    return folder / "runs" / "data"


class TestPage:
    """What a person sees and does."""

    def test_draws_curves_pictures_and_tables(self, look, odd_run):
        data = report_data(odd_run)
        page = look(odd_run / "report.html")
        assert page.title() == "data · convae report"
        assert page.locator(".chart").count() == 5
        for index in range(5):
            path = page.locator(".chart path").nth(index).get_attribute("d")
            assert path.startswith("M") and "NaN" not in path
        assert page.locator(".chart").first.locator("path").count() == 2
        assert page.locator("#metrics tbody tr").count() == 4
        assert page.locator("#levels tbody tr").count() == 2
        assert page.locator("#sample-cards .card").count() == 6
        assert page.locator("#histogram rect").count() == len(data["validation"]["histogram"]["counts"])
        broken = page.evaluate("[...document.images].filter((i) => !i.complete || i.naturalWidth === 0).length")
        assert broken == 0 and page.locator("img").count() > 18
        assert page.locator("#config").text_content() == (odd_run / "config.toml").read_text()

    def test_shows_drawn_defects(self, look, program, odd, odd_run, tmp_path):
        program.run("train", "--data", odd, "--corrupt", "defects", "--levels", "4,8", "--max-steps", 1,
                    *ONE_CORE, cwd=tmp_path)
        run = tmp_path / "runs" / "latest"
        with Image.open(run / "samples" / "defects.png") as sheet:
            shape = sheet.size
        page = look(run / "report.html")
        assert page.get_by_role("heading", name="Drawn defects").is_visible()
        assert page.evaluate("(({naturalWidth: w, naturalHeight: h}) => [w, h])"
                             "(document.querySelector('#defects img'))") == list(shape)
        assert not look(odd_run / "report.html").locator("#defects").is_visible()

    def test_shows_every_name_as_it_is(self, look, odd_run):
        data = report_data(odd_run)
        page = look(odd_run / "report.html")
        shown = page.locator("#sample-cards h3").all_text_contents()
        assert shown == [image["name"] for image in data["samples"][-1]["images"]]
        assert "<b>broken</no image.png" in page.locator("#skipped-table").text_content()
        assert page.locator("#skipped-table b, #sample-cards script, main img[onerror]").count() == 0

    def test_slider_goes_through_the_epochs(self, look, odd_run):
        page = look(odd_run / "report.html")
        slider = page.get_by_role("slider", name="Epoch", exact=True)
        reconstruction = page.locator("#sample-cards img").nth(1)
        given = page.locator("#sample-cards img").nth(0).get_attribute("src")
        seen = {slider.get_attribute("aria-valuetext"): reconstruction.get_attribute("src")}
        assert "epoch 4" in seen
        slider.focus()
        for _ in range(3):
            page.keyboard.press("ArrowLeft")
            seen[slider.get_attribute("aria-valuetext")] = reconstruction.get_attribute("src")
        assert list(seen) == ["epoch 4", "epoch 3", "epoch 2", "epoch 1"]
        assert len(set(seen.values())) == 4
        assert page.locator("#sample-cards img").nth(0).get_attribute("src") == given
        assert "epoch 1" in reconstruction.get_attribute("alt")
        assert page.locator("#epoch-text").text_content() == "1 of 4"

    def test_play_goes_from_first_to_last(self, look, odd_run):
        page = look(odd_run / "report.html")
        button = page.get_by_role("button", name="Play")
        button.click()
        assert page.locator("#epoch-text").text_content() == "1 of 4"
        page.locator("#epoch-text", has_text="4 of 4").wait_for()
        page.locator("#play", has_text="Play").wait_for()

    def test_curves_are_read_with_the_keyboard_and_the_pointer(self, look, odd_run):
        rows = read_csv(odd_run / "metrics.csv")
        page = look(odd_run / "report.html")
        loss = page.get_by_role("slider", name=re.compile("^Loss by epoch"))
        loss.focus()
        page.keyboard.press("Home")
        text = loss.get_attribute("aria-valuetext")
        assert text.startswith("epoch 1")
        read = float(re.search(r"training ([\d.e-]+)", text).group(1))
        assert read == pytest.approx(float(rows[0]["train_loss"]), rel=1e-3)
        page.keyboard.press("ArrowRight")
        assert loss.get_attribute("aria-valuetext").startswith("epoch 2")
        box = loss.bounding_box()
        page.mouse.move(box["x"] + box["width"] - 16, box["y"] + 50)
        assert loss.get_attribute("aria-valuetext").startswith("epoch 4")

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("width", [320, 390, 1280])
    def test_fits_the_screen_and_can_be_read(self, look, odd_run, width, scheme):
        page = look(odd_run / "report.html", width=width, height=800, scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        worst = page.evaluate(CONTRAST)
        assert worst["ratio"] >= 4.5, worst

    def test_is_sane_to_a_screen_reader(self, look, odd_run):
        page = look(odd_run / "report.html")
        assert_sane_to_a_screen_reader(page)

    def test_every_state_of_a_run_has_a_page(self, look, done, squares, tmp_path, program):
        options = ("--levels", "4", "--val-split", 0, "--quiet", *ONE_CORE)
        done("train", "--data", squares, "--epochs", 1, "--name", "single", *options)
        page = look(tmp_path / "runs/single/report.html")
        assert "Finished after 1 epoch." in page.locator("#state").text_content()
        assert page.locator(".chart").count() == 3, "no validation, no PSNR and no SSIM"
        assert "no validation images" in page.locator("#curves-note").text_content()
        assert page.locator("#slider").is_hidden(), "one epoch has nothing to slide through"
        # Before the first epoch is complete, and while it runs.
        running = report_data(tmp_path / "runs/single")
        running.update(state="running", samples=[], rows=0, best_epoch=0,
                       metrics={name: [] for name in running["metrics"]})
        html = (tmp_path / "runs/single/report.html").read_text()
        (tmp_path / "early.html").write_text(re.sub(
            r'(id="data">).*?(</script>)',
            lambda m: m.group(1) + json.dumps(running).replace("<", "\\u003c") + m.group(2), html, flags=re.S))
        page = look(tmp_path / "early.html")
        assert "0 of 1 epochs" in page.locator("#state").text_content()
        assert page.locator("#progress").is_visible()
        page.get_by_label("Reload every 10 seconds").check()

    def test_a_best_within_an_epoch_has_its_own_number(self, look, done, squares, tmp_path):
        common = ("--quiet", *ONE_CORE)
        done("train", "--data", squares, "--val", squares, "--levels", "4,8", "--batch-size", 2, "--epochs", 9,
             "--max-steps", 8, "--lr", 0.01, "--name", "cut", "--save-every", 1, *common)
        before = report_data(tmp_path / "runs/cut")
        done("train", "--resume", "runs/cut", "--max-steps", 18, "--lr", 2, *common)
        after = report_data(tmp_path / "runs/cut")
        assert after["best_value"] == before["best_value"] and after["best_epoch"] == before["best_epoch"]
        row = after["metrics"]["epoch"].index(after["best_epoch"])
        assert after["metrics"]["val_loss"][row] > after["best_value"], "measured anew after more steps"
        tile = look(tmp_path / "runs/cut/report.html").locator("#tiles").text_content()
        assert f"within epoch {after['best_epoch']}" in tile and "the same epoch" not in tile

    def test_without_javascript_says_where_the_numbers_are(self, chromium, odd_run):
        context = chromium.new_context(java_script_enabled=False)
        page = context.new_page()
        page.goto((odd_run / "report.html").as_uri())
        assert "metrics.csv" in page.locator("noscript").inner_text()
        context.close()
