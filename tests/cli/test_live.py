"""score --stdin and --watch: a line of JSON for each picture, as it comes."""

import json
import os
import shutil
import signal
import subprocess
import threading
import time

import numpy as np
import pytest

from convae_program import ONE_CORE, pixels_of, read_csv
from drawn_parts import GROUPS, SIZES, make_parts, part, save


@pytest.fixture(scope="module")
def place(program, tmp_path_factory):
    folder = tmp_path_factory.mktemp("live")
    data = make_parts(folder / "parts", good=10)
    program.run("train", "--data", data, "--levels", "8,16", "--epochs", 10, "--val-split", 0.4, "--lr", 5e-3,
                "--batch-size", 8, "--name", "run", "--group-regex", GROUPS, "--quiet", *ONE_CORE, cwd=folder)
    program.run("score", "--checkpoint", "runs/run", "--data", data, "-o", "scores", "--fpr", 0.2, *ONE_CORE,
                cwd=folder)
    return folder


WORDS = ("score", "--checkpoint", "runs/run", "--fpr", 0.2, "--quiet", *ONE_CORE)


def test_paths_on_standard_input(program, place):
    rows = {"parts/" + row["path"]: row for row in read_csv(place / "scores/scores.csv")}
    (place / "empty.png").write_bytes(b"")
    lines = "\n".join([*rows, "no such.png", "empty.png"])  # the last without an end of line
    process = program.start(*WORDS, "--stdin", cwd=place, stdin=subprocess.PIPE)
    printed, messages = process.communicate(lines, timeout=60)
    assert process.returncode == 0, messages
    found = [json.loads(line) for line in printed.splitlines()]
    assert [line["path"] for line in found] == [*rows, "no such.png", "empty.png"]
    for line, row in zip(found, rows.values()):
        assert line["score"] == pytest.approx(float(row["score"]), rel=1e-12)
        assert line["anomalous"] == (row["anomalous"] == "1") == (line["score"] > line["threshold"])
        assert line["ms"] > 0
        assert (line["box"] is None) == (not line["anomalous"])
    assert {*found[-1]} == {*found[-2]} == {"path", "error"}
    hits = 0
    for line in found:
        if line.get("anomalous") and "/good/" not in line["path"]:
            x, y, w, h = line["box"]
            mask = pixels_of(place / line["path"].replace("test/", "ground_truth/").replace(
                ".png", "_mask.png")) > 0
            height, width = mask.shape
            assert 0 <= x < x + w <= width and 0 <= y < y + h <= height
            hits += mask[y:y + h, x:x + w].any()
    assert hits >= 6


def test_a_value_range_and_a_size_score_as_in_a_folder(program, place, tmp_path):
    dark = tmp_path / "dark"
    shutil.copytree(place / "parts", dark)
    for path in dark.rglob("*.png"):
        if "ground_truth" not in path.parts:  # twenty levels, and some beyond
            pixels = 100 + pixels_of(path) / 255 * 24
            save(path, pixels / 255)
    program.run("train", "--data", dark, "--levels", "4,8", "--epochs", 2, "--val-split", 0.4, "--size", "48x40",
                "--value-range", "100:120", "--name", "run", "--group-regex", GROUPS, "--quiet", *ONE_CORE,
                cwd=tmp_path)
    words = ("score", "--checkpoint", "runs/run", "--quiet", *ONE_CORE)
    program.run(*words, "--data", dark, "-o", "out", cwd=tmp_path)
    rows = {"dark/" + row["path"]: float(row["score"]) for row in read_csv(tmp_path / "out/scores.csv")}
    process = program.start(*words, "--stdin", cwd=tmp_path, stdin=subprocess.PIPE)
    printed, messages = process.communicate("\n".join(rows), timeout=60)
    assert process.returncode == 0, messages
    for line in map(json.loads, printed.splitlines()):
        assert line["score"] == pytest.approx(rows[line["path"]], rel=1e-12)
        assert line.get("clipped", 0) == (pixels_of(tmp_path / line["path"]) > 120).sum()


@pytest.fixture
def watched(program, place, tmp_path):
    """Starts a service that watches `camera`; gives a function for its next line."""
    shutil.copytree(place / "runs", tmp_path / "runs", symlinks=True)
    save(tmp_path / "camera/first.png", part(901, SIZES[0]))
    save(tmp_path / "picture.png", part(902, SIZES[0]))
    started = []

    def start(*words, data="camera"):
        process = program.start(*WORDS, "--data", data, "--watch", *words, cwd=tmp_path)
        killer = threading.Timer(60, process.kill)
        killer.start()
        started.append((process, killer))
        line = lambda: json.loads(process.stdout.readline())  # noqa: E731
        assert line()["path"] == "camera/first.png"
        return process, line

    yield start
    for process, killer in started:
        killer.cancel()
        process.kill()


def test_a_folder_is_watched_until_sigterm(watched, tmp_path):
    process, line = watched("--exclude", "*_thumb*")
    camera = tmp_path / "camera"
    bad = part(900, SIZES[0])
    bad[12:24, 14:26] = 0
    (camera / "notes.txt").write_text("no image")
    save(camera / "bad_thumb.png", bad)
    save(camera / "bad.png", bad)
    found = line()
    assert found["path"] == "camera/bad.png" and found["anomalous"]
    (camera / "shift 2").mkdir()
    save(camera / "shift 2/second.png", np.zeros((2, 2)))
    assert line()["path"] == "camera/shift 2/second.png"
    shutil.copy2(camera / "first.png", tmp_path / "of the same second.png")
    (tmp_path / "of the same second.png").rename(camera / "first.png")
    assert line()["path"] == "camera/first.png", "another file, though as old"
    process.send_signal(signal.SIGTERM)
    rest, messages = process.communicate(timeout=30)
    assert (process.returncode, rest) == (0, ""), messages


def test_folders_are_watched_by_the_rules_of_every_folder(watched, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "camera/line").symlink_to(tmp_path / "elsewhere")
    process, line = watched()
    new = tmp_path / "new"
    for name in (".hidden.png", ".thumbs/a.png", "masks/a.png", "ground_truth/hole/a_mask.png", "plain/a.png"):
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / "picture.png", new / name)
    new.rename(tmp_path / "camera/new")
    assert line()["path"] == "camera/new/plain/a.png"
    shutil.copy(tmp_path / "picture.png", tmp_path / "camera/new/masks/later.png")
    shutil.copy(tmp_path / "picture.png", tmp_path / "elsewhere/b.png")
    assert line()["path"] == "camera/line/b.png", "of a folder that is linked"
    (tmp_path / "camera/linked.png").hardlink_to(tmp_path / "picture.png")
    assert line()["path"] == "camera/linked.png"
    (tmp_path / "camera/linked.png").rename(tmp_path / "away.png")
    (tmp_path / "away.png").rename(tmp_path / "camera/linked.png")
    assert line()["path"] == "camera/linked.png", "one that was gone is new"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30)[0] == "" and process.returncode == 0


def test_a_slash_behind_the_folder_changes_nothing(watched, tmp_path):
    _, line = watched(data="camera/")
    save(tmp_path / "camera/second.png", part(903, SIZES[0]))
    assert line()["path"] == "camera/second.png"


def test_folders_that_vanish_do_not_end_it_but_the_watched_one_does(watched, tmp_path):
    process, line = watched()
    for i in range(40):
        (tmp_path / f"camera/{i}").mkdir()
        (tmp_path / f"camera/{i}").rmdir()
    shutil.copy(tmp_path / "picture.png", tmp_path / "camera/a.png")
    assert line()["path"] == "camera/a.png"
    (tmp_path / "camera").rename(tmp_path / "away")
    printed, messages = process.communicate(timeout=30)
    assert (printed, process.returncode) == ("", 1) and "'camera' does not exist" in messages


def test_a_link_that_is_changed_is_followed(watched, tmp_path):
    for day in ("one", "two"):
        (tmp_path / day).mkdir()
    save(tmp_path / "one/first.png", part(901, SIZES[0]))
    shutil.rmtree(tmp_path / "camera", ignore_errors=True)
    (tmp_path / "camera").symlink_to("one")
    process, line = watched()
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(tmp_path / "camera")
    shutil.copy(tmp_path / "picture.png", tmp_path / "two/b.png")
    assert line()["path"] == "camera/b.png"
    shutil.copy(tmp_path / "picture.png", tmp_path / "one/c.png")
    shutil.copy(tmp_path / "picture.png", tmp_path / "two/d.png")
    assert line()["path"] == "camera/d.png", "what comes to the old folder is not there"
    (tmp_path / "camera").unlink()
    assert "'camera' does not exist" in process.communicate(timeout=30)[1] and process.returncode == 1


def test_links_to_folders_are_followed_where_they_are_moved(watched, tmp_path):
    """As `ln -sfn` makes them, under another name first."""
    for day in ("one", "two"):
        (tmp_path / day).mkdir()
        shutil.copy(tmp_path / "picture.png", tmp_path / day / "a.png")
        os.utime(tmp_path / day / "a.png", (0, 0))  # complete for long
        (tmp_path / f"to {day}").symlink_to(tmp_path / day)
    _, line = watched()
    (tmp_path / "to one").rename(tmp_path / "camera/now")
    assert line()["path"] == "camera/now/a.png"
    (tmp_path / "camera/now").rename(tmp_path / "camera/before")
    assert line()["path"] == "camera/before/a.png"
    shutil.copy(tmp_path / "picture.png", tmp_path / "one/b.png")
    assert line()["path"] == "camera/before/b.png"
    (tmp_path / "to two").rename(tmp_path / "camera/before")
    assert line()["path"] == "camera/before/a.png", "another file"
    shutil.copy(tmp_path / "picture.png", tmp_path / "two/c.png")
    assert line()["path"] == "camera/before/c.png"


def test_a_folder_that_was_gone_is_new(watched, tmp_path):
    """As a file is: or names of folders that are archived would fill memory."""
    (tmp_path / "batch").mkdir()
    shutil.copy(tmp_path / "picture.png", tmp_path / "batch/a.png")
    os.utime(tmp_path / "batch/a.png", (0, 0))
    _, line = watched()
    for name in ("x.png", "y.png"):
        (tmp_path / "batch").rename(tmp_path / "camera/batch")
        assert line()["path"] == "camera/batch/a.png"
        (tmp_path / "camera/batch").rename(tmp_path / "batch")
        shutil.copy(tmp_path / "picture.png", tmp_path / "camera" / name)
        assert line()["path"] == f"camera/{name}"


def test_a_file_that_is_still_written_waits_whatever_else_comes(watched, tmp_path):
    """One that is begun there, and one that comes with its folder."""
    _, line = watched()
    content = (tmp_path / "picture.png").read_bytes()
    (tmp_path / "new").mkdir()
    with open(tmp_path / "camera/slow.png", "wb", buffering=0) as own, \
            open(tmp_path / "new/slow.png", "wb", buffering=0) as other:
        for file in (own, other):
            file.write(content[:100])
        (tmp_path / "new").rename(tmp_path / "camera/new")
        for at in range(100, 250, 25):
            time.sleep(0.25)
            for file in (own, other):
                file.write(content[at:at + 25])
        time.sleep(1.5)
        shutil.copy(tmp_path / "picture.png", tmp_path / "camera/new/a.png")
        assert line()["path"] == "camera/new/a.png"
        for file in (own, other):
            file.write(content[250:])
    found = [line(), line()]
    assert {"camera/slow.png", "camera/new/slow.png"} == {one["path"] for one in found if "score" in one}


def test_a_file_that_is_written_again_meanwhile_waits(watched, tmp_path):
    process, line = watched()
    content = (tmp_path / "picture.png").read_bytes()
    process.send_signal(signal.SIGSTOP)
    (tmp_path / "camera/a.png").write_bytes(content)
    with open(tmp_path / "camera/a.png", "wb", buffering=0) as file:
        file.write(content[:100])
        process.send_signal(signal.SIGCONT)
        time.sleep(1)
        file.write(content[100:])
    assert "score" in line()


def test_a_file_may_come_as_a_link_whose_first_name_goes(watched, tmp_path):
    """As programs deliver a file without replacing another."""
    process, line = watched()
    process.send_signal(signal.SIGSTOP)
    (tmp_path / "camera/a.png").hardlink_to(tmp_path / "picture.png")
    (tmp_path / "picture.png").unlink()
    process.send_signal(signal.SIGCONT)
    assert line()["path"] == "camera/a.png"


def test_a_folder_that_is_mounted_twice_has_its_pictures_scored(watched, tmp_path):
    for name in ("one", "two"):
        (tmp_path / "camera" / name).mkdir()
        shutil.copy(tmp_path / "picture.png", tmp_path / "camera" / name / "a.png")
    mount = subprocess.run(["mount", "--bind", "camera/one", "camera/two"], cwd=tmp_path, capture_output=True)
    if mount.returncode != 0:
        pytest.skip(f"nothing may be mounted here: {mount.stderr}")
    try:
        _, line = watched()
        assert {line()["path"], line()["path"]} == {"camera/one/a.png", "camera/two/a.png"}
    finally:
        subprocess.run(["umount", "--lazy", tmp_path / "camera/two"], check=True)


def test_pictures_may_be_packed_and_removed(watched, tmp_path):
    """Then there are archives and no picture for a moment."""
    process, line = watched()
    (tmp_path / "camera/first.tar.gz").write_bytes(b"\x1f\x8b, of which convae reads nothing")
    (tmp_path / "camera/first.png").unlink()
    (tmp_path / "camera/next").mkdir()
    shutil.copy(tmp_path / "picture.png", tmp_path / "camera/next/a.png")
    assert line()["path"] == "camera/next/a.png"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30)[0] == "" and process.returncode == 0


def test_scores_that_are_written_into_it_are_no_pictures(program, watched, tmp_path):
    process, line = watched()
    program.run(*WORDS, "--data", "camera", "-o", "camera/scores", cwd=tmp_path)
    assert (tmp_path / "camera/scores/overlay/first.png").is_file()
    shutil.copy(tmp_path / "picture.png", tmp_path / "camera/a.png")
    assert line()["path"] == "camera/a.png"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[0] == "" and process.returncode == 130


def test_paths_may_end_as_find_print0_ends_them(program, place):
    paths = [f"parts/{row['path']}" for row in read_csv(place / "scores/scores.csv")[:3]]
    shutil.copy(place / paths[0], place / "two\nlines\r")
    process = program.start(*WORDS, "--stdin", cwd=place, stdin=subprocess.PIPE)
    printed, _ = process.communicate("\0".join([*paths, "two\nlines\r"]) + "\0", timeout=60)
    found = list(map(json.loads, printed.splitlines()))
    assert [line["path"] for line in found] == [*paths, "two\nlines\r"]
    assert found[3]["score"] == found[0]["score"]


def test_paths_that_cannot_be_read_are_an_error(program, place, tmp_path):
    folder = os.open(tmp_path, os.O_RDONLY)
    process = program.start(*WORDS, "--stdin", cwd=place, stdin=folder)
    os.close(folder)
    messages = process.communicate(timeout=60)[1]
    assert process.returncode == 1 and "cannot read the standard input: Is a directory" in messages


def test_a_file_that_memory_cannot_hold_is_not_read(program, place, tmp_path):
    with open(tmp_path / "large.png", "wb") as file:
        file.truncate(400 << 20)
    process = program.start(*WORDS, "--stdin", "--memory", "600M", cwd=place, stdin=subprocess.PIPE)
    printed, messages = process.communicate(f"{tmp_path}/large.png\n", timeout=60)
    assert process.returncode == 0, messages
    assert "419430400 bytes are more than the limit" in json.loads(printed)["error"]


def test_a_picture_that_memory_cannot_hold_is_named(program, place, tmp_path):
    save(tmp_path / "large.png", part(903, (1500, 2000)))
    lines = f"{tmp_path}/large.png\nparts/test/good/nothing.png\n"
    process = program.start(*WORDS, "--stdin", "--memory", "600M", cwd=place, stdin=subprocess.PIPE)
    printed, messages = process.communicate(lines, timeout=60)
    assert process.returncode == 0, messages
    first, second = map(json.loads, printed.splitlines())
    assert "1500x2000" in first["error"] and "600M" in first["error"] and "error" in second


def test_a_picture_that_memory_cannot_hold_is_named_where_it_is_resized_too(program, place, tmp_path):
    shutil.copytree(place / "runs", tmp_path / "runs", symlinks=True)
    (tmp_path / "runs/run/inspector.safetensors").unlink()  # it has no size
    (tmp_path / "large.pbm").write_bytes(b"P4 8000 5000\n" + bytes(5_000_000))
    process = program.start(*WORDS, "--stdin", "--size", 40, "--memory", "600M", cwd=tmp_path, stdin=subprocess.PIPE)
    printed, messages = process.communicate("large.pbm\n", timeout=60)
    assert process.returncode == 0, messages
    error = json.loads(printed)["error"]
    assert "5000x8000" in error and "600M" in error and "make it smaller" in error


def test_a_rate_that_few_good_images_cannot_show_is_said(program, place):
    process = program.start("score", "--checkpoint", "runs/run", "--fpr", 0.001, "--stdin", *ONE_CORE, cwd=place,
                            stdin=subprocess.PIPE)
    assert "cannot show a rate of 0.001" in process.communicate("", timeout=60)[1]
    said = program.run("calibrate", "--checkpoint", "runs/run", "--fpr", 0.001, *ONE_CORE, cwd=place).logs
    assert any("cannot show a rate of 0.001" in line for line in said)


def test_lines_that_cannot_be_written_end_it_at_once(program, place):
    with open("/dev/full", "w") as full:
        process = program.start(*WORDS, "--watch", "--data", "parts/test", cwd=place, stdout=full)
        assert process.wait(timeout=60) == 1
    assert "standard output" in process.stderr.read()


def test_what_cannot_be_watched_is_named_before_anything_is_loaded(convae):
    convae(*WORDS, "--watch", "--data", "none").assert_refused(1, "the folder 'none' does not exist")
    convae(*WORDS, "--watch", "--data", __file__).assert_refused(1, "it is not a folder")


def test_what_does_not_go_together_is_refused(convae):
    for words, parts in (((*WORDS, "--stdin", "--watch", "--data", "x"), ("--watch", "--stdin")),
                         ((*WORDS, "--stdin", "--data", "x"), ("--data", "--stdin")),
                         ((*WORDS, "--watch"), ("--data",)),
                         ((*WORDS, "--watch", "--data", "x", "--heat-maps"), ("--heat-maps", "--watch")),
                         ((*WORDS, "--watch", "--data", "x", "--skip-bad=false"), ("--skip-bad", "--watch")),
                         ((*WORDS, "--stdin", "--include", "*.png"), ("--include", "--stdin")),
                         ((*WORDS, "--stdin", "-o", "out"), ("--output", "--stdin")),
                         ((*WORDS, "--stdin", "--max-pixels", 0), ("max-pixels must be at least 1",)),
                         ((*WORDS, "--watch", "--data", "x", "--workers", -7), ("workers", "-7"))):
        convae(*words).assert_refused(2, *parts)
