"""report.html of a scoring, read as data and looked at in a real browser."""

import json
import re
import shutil

import pytest

from convae_program import ONE_CORE, picture, pixels_of, read_csv
from drawn_parts import GROUPS, SIZES, make_parts, part, save, spoil
from report_page import CONTRAST, assert_sane_to_a_screen_reader, pictures_of, report_data

ODD_KIND = "<b>hole<"
NONE = 40  # pictures without a defect that are labelled as if they had one: most of them pass


@pytest.fixture(scope="module")
def run(program, tmp_path_factory):
    """A network that has hardly been trained: it makes mistakes, which a report is for."""
    folder = tmp_path_factory.mktemp("run")
    make_parts(folder / "parts", good=12)
    program.run("train", "--data", "parts", "--levels", "4,8", "--epochs", 1, "--batch-size", 8, "--val-split", 0.4,
                "--group-regex", GROUPS, "--name", "run", "--quiet", *ONE_CORE, cwd=folder)
    return folder / "runs/run"


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Many more pictures than a page shows; names that are markup; good ones that do not look it."""
    root = make_parts(tmp_path_factory.mktemp("data") / "parts", good=1)
    shutil.move(root / "test/hole", root / "test" / ODD_KIND)
    shutil.move(root / "ground_truth/hole", root / "ground_truth" / ODD_KIND)
    for number in range(40):
        pixels = part(800 + number, SIZES[number % 3])
        spoil(pixels, "hole", number)
        save(root / f"test/good/part{800 + number}_0 <i>.png", pixels)
    for number in range(NONE):
        save(root / f"test/none/part{900 + number}_0.png", part(900 + number, SIZES[number % 3]))
    return root


@pytest.fixture(scope="module")
def out(program, parts, run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scored")
    program.run("score", "--checkpoint", run, "--data", parts, "-o", "out", "--fpr", 0.3, *ONE_CORE, cwd=folder)
    return folder / "out"


@pytest.fixture(scope="module")
def plain(program, parts, run, tmp_path_factory):
    """Of a folder without labels."""
    folder = tmp_path_factory.mktemp("plain")
    program.run("score", "--checkpoint", run, "--data", parts / "test/none", "-o", "out", *ONE_CORE, cwd=folder)
    return folder / "out"


def names(data, key):
    return [data["cards"][place]["name"] for place in data["lists"][key]["places"]]


def ordered(rows, highest_first=True):
    sign = -1 if highest_first else 1
    return [row["path"] for row in sorted(rows, key=lambda row: (sign * float(row["score"]), row["path"]))]


class TestData:
    def test_shows_the_most_telling_pictures_of_each_kind(self, out):
        data, rows = report_data(out), read_csv(out / "scores.csv")
        alarms = [row for row in rows if row["label"] == "good" and row["anomalous"] == "1"]
        misses = [row for row in rows if row["label"] != "good" and row["anomalous"] == "0"]
        assert len(alarms) > 24 and len(misses) > 24, "more than are shown"
        for key, wanted, most in (("ranked", ordered(rows), 48), ("false_alarms", ordered(alarms), 24),
                                  ("misses", ordered(misses, highest_first=False), 24)):
            assert names(data, key) == wanted[:most]
            assert data["lists"][key]["count"] == len(wanted)

    def test_a_picture_and_its_overlay_are_there_once(self, out, parts):
        data = report_data(out)
        images = pictures_of(data)
        assert len(images) == 2 * len(data["cards"]) < 2 * 96, "some are in two lists"
        assert len({card["name"] for card in data["cards"]}) == len(data["cards"])
        card = data["cards"][0]
        given, overlay = (images[part] for part in card["parts"])
        assert list(given.size) == card["size"] and given.format == "PNG", "small ones are not blurred"
        assert given.convert("L").tobytes() == pixels_of(parts / card["name"]).tobytes()
        assert overlay.convert("RGB").tobytes() == pixels_of(out / "overlay" / card["name"]).tobytes()

    def test_summary_histogram_and_curve_are_those_of_the_scores(self, out):
        data, rows = report_data(out), read_csv(out / "scores.csv")
        assert data["summary"] == json.loads((out / "summary.json").read_text())
        histogram = data["histogram"]
        good, bad = ([float(row["score"]) for row in rows if (row["label"] == "good") == is_good]
                     for is_good in (True, False))
        counts = {series["label"]: series["counts"] for series in histogram["series"]}
        assert sum(counts["good, calibration"]) == data["summary"]["calibration"]["images"]
        assert sum(counts["good, here"]) == len(good) and sum(counts["with defects"]) == len(bad)
        start, width = histogram["start"], histogram["width"]
        for bin in range(histogram["bins"] - 1):
            low, high = start + bin * width, start + (bin + 1) * width
            assert counts["with defects"][bin] == sum(low <= score < high for score in bad)
        network = data["roc"][0]
        assert network["points"][0] == [0, 0] and network["points"][-1] == [1, 1]
        area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in zip(network["points"], network["points"][1:]))
        assert area == pytest.approx(network["auroc"])

    def test_it_is_there_without_heat_maps_too(self, out, program, parts, run, tmp_path):
        program.run("score", "--checkpoint", run, "--data", parts, "-o", "out", "--fpr", 0.3, "--heat-maps", "false",
                    "--batch-size", 3, "--threads", 1, "--workers", 2, cwd=tmp_path)
        ours, theirs = report_data(tmp_path / "out"), report_data(out)
        assert ours["lists"] == theirs["lists"], "whatever the order of pictures"
        assert ours["pictures"] == theirs["pictures"]

    def test_a_plain_folder_has_ranked_pictures_alone(self, plain):
        data = report_data(plain)
        assert len(data["lists"]["ranked"]["places"]) == NONE and data["roc"] == []
        assert data["lists"]["misses"]["count"] == data["lists"]["false_alarms"]["count"] == 0
        assert [series["label"] for series in data["histogram"]["series"]] == ["good, calibration", "scored here"]


class TestFiles:
    def test_one_that_exists_is_kept_unless_it_may_be_replaced(self, program, parts, run, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out/report.html").write_text("mine")
        words = ["score", "--checkpoint", run, "--data", parts / "test/crack", "-o", "out", *ONE_CORE]
        program.call(*words, cwd=tmp_path).assert_refused(1, "report.html", "--overwrite")
        assert (tmp_path / "out/report.html").read_text() == "mine"
        program.run(*words, "--overwrite", cwd=tmp_path)
        assert report_data(tmp_path / "out")["summary"]["images"] == 6

    def test_earlier_ones_do_not_stay_beside_new_results(self, program, parts, run, tmp_path):
        data = shutil.copytree(parts / "test/crack", tmp_path / "data")
        words = ["score", "--checkpoint", run, "--data", data, "-o", "out", "--overwrite", *ONE_CORE]
        program.run(*words, cwd=tmp_path)
        program.run(*words, "--report", "false", "--heat-maps", "false", cwd=tmp_path)
        assert not (tmp_path / "out/report.html").exists()
        damaged = sorted(data.iterdir())[-1]
        damaged.write_bytes(re.sub(rb"(?<=IDAT)..", b"\0\0", damaged.read_bytes(), count=1, flags=re.DOTALL))
        program.call(*words, "--skip-bad", "false", cwd=tmp_path).assert_refused(1, damaged.name)
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["heat", "overlay"]

    def test_large_pictures_are_shown_small(self, program, run, tmp_path):
        for number in range(3):
            save(tmp_path / f"large/{number}.png", picture(300, 700, channels=1, seed=number) / 255)
        program.run("score", "--checkpoint", run, "--data", "large", "-o", "out", *ONE_CORE, cwd=tmp_path)
        images = pictures_of(report_data(tmp_path / "out"))
        assert {image.size for image in images} == {(200, 86)} and images[0].format == "JPEG"
        assert (tmp_path / "out/report.html").stat().st_size < 150_000


class TestPage:
    """What a person sees."""

    def test_mistakes_come_first_and_nothing_is_broken(self, look, out):
        data = report_data(out)
        page = look(out / "report.html")
        assert page.title() == "parts · convae scores"
        assert page.locator("main section:visible h2").all_text_contents() == [
            "False alarms", "Misses", "The most anomalous pictures", "Scores and threshold", "ROC curve", "Measures"]
        for section, key in (("alarms", "false_alarms"), ("misses", "misses"), ("ranked", "ranked")):
            assert page.locator(f"#{section} h3").all_text_contents() == names(data, key)
            assert f"of {data['lists'][key]['count']}" in page.locator(f"#{section}-note").text_content()
        page.locator("#measures").scroll_into_view_if_needed()
        for image in page.locator("img").all():
            image.scroll_into_view_if_needed()
        page.wait_for_function("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
        for path in page.locator(".plot path").all():
            assert path.get_attribute("d").startswith("M") and "NaN" not in path.get_attribute("d")
        assert page.locator("#distribution path").count() == 3 and page.locator("#roc path").count() == 2
        assert page.get_by_text(f"threshold {data['summary']['threshold']:.4g}").count() == 1

    def test_each_picture_has_its_name_score_and_verdict(self, look, out):
        data = report_data(out)
        page = look(out / "report.html")
        card = data["cards"][data["lists"]["ranked"]["places"][0]]
        shown = page.locator("#ranked .card").first
        assert card["name"] in shown.inner_text()
        assert f"score {card['score']:.4g}" in shown.inner_text() and "anomalous" in shown.inner_text()
        assert [image.get_attribute("alt") for image in shown.locator("img").all()] == [
            f"Picture: {card['name']}", f"Unusual places in: {card['name']}"]

    def test_names_are_text_and_the_table_has_all_rows(self, look, out):
        page = look(out / "report.html")
        assert page.locator("main i, main b").count() == 0
        heads = page.locator("#measures-table th[scope=row]").all_text_contents()
        for name in ("all kinds", ODD_KIND, "crack", "none", "control: no network", "control: mean error",
                     "control: image area"):
            assert name in heads

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("width", [320, 1280])
    def test_fits_the_screen_and_can_be_read(self, look, out, width, scheme):
        page = look(out / "report.html", width=width, height=800, scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        worst = page.evaluate(CONTRAST)
        assert worst["ratio"] >= 4.5, worst

    def test_is_sane_to_a_screen_reader(self, look, out):
        page = look(out / "report.html")
        assert_sane_to_a_screen_reader(page)
        assert page.locator("nav a").count() == 6

    def test_a_plain_folder_has_a_page(self, look, plain):
        page = look(plain / "report.html")
        assert page.locator("main section:visible h2").all_text_contents() == [
            "The most anomalous pictures", "Scores and threshold"]
        assert page.locator("#ranked .card").count() == NONE
        assert_sane_to_a_screen_reader(page)
