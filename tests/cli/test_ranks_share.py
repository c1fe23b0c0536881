"""Several processes that share a folder of images: the files of one process, byte for byte, through a
real mpirun on this machine."""

import os
import re
import shutil
import signal
import subprocess

import numpy as np
import pytest
from PIL import Image

from convae_program import (ONE_CORE, needs_mpi, picture, rank_processes, save_pictures, snapshot,
                            wait_until, with_ranks)
from drawn_parts import GROUPS, make_parts

pytestmark = needs_mpi


def contents(folder):
    """Of all files, but for the time a report was written at."""
    return {name: re.sub(rb'"written":"[^"]*"', b"", content) for name, (_, content) in snapshot(folder).items()}


def warnings_of(result):
    """Without their times."""
    return sorted(line.split(" ", 1)[1] for line in result.logs if " warning: " in line)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Three sizes, 8 and 16 bits, and two files that are cut."""
    folder = save_pictures(tmp_path_factory.mktemp("mixed") / "in", [(16, 16), (17, 20), (24, 19)] * 4)
    Image.fromarray(picture(17, 20, channels=1, dtype=np.uint16)).save(folder / "deep.png")
    for name in ("003.png", "010.png"):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[:len(data) * 2 // 3])
    return folder


@pytest.fixture
def same(program, tmp_path):
    """same(size, …): the call leaves what one process leaves, and says the same."""
    def run(size, *args, out="out", **kwargs):
        found = {}
        for ranks in (1, size):
            folder = tmp_path / f"of-{ranks}"
            folder.mkdir()
            result = with_ranks(program, ranks).run(*args, "-o", out, *ONE_CORE, cwd=folder, **kwargs)
            found[ranks] = contents(folder), result.stdout, warnings_of(result)
            if ranks > 1:
                assert sum(f" {size} ranks · " in line for line in result.logs) == 1, result.stderr
                assert [line for line in result.complaints if "convae" in line] == []
            shutil.rmtree(folder)
        (files, stdout, warned), (of_ranks, said, told) = found[1], found[size]
        assert sorted(of_ranks) == sorted(files)
        assert [name for name in files if files[name] != of_ranks[name]] == []
        assert (said, told) == (stdout, warned)
        return files, warned
    return run


@pytest.mark.parametrize("size", [2, 3])
def test_reconstructions_and_their_table(same, trained, mixed, size):
    files, warned = same(size, "reconstruct", "--checkpoint", trained.run, "--data", mixed, "--grid",
                         "--format", "keep", "--batch-size", 2)
    assert len(files) == 2 * 11 + 1 and len(warned) == 2
    assert all("skipped '0" in line for line in warned)


def test_more_ranks_than_images(same, trained, tmp_path):
    two = save_pictures(tmp_path / "two", [(16, 16), (20, 20)])
    files, _ = same(3, "reconstruct", "--checkpoint", trained.run, "--data", two)
    assert len(files) == 3
    files, _ = same(3, "encode", "--checkpoint", trained.run, "--data", two, out="latents/")
    assert len(files) == 3


@pytest.mark.parametrize("size, call", [(2, ("--size", 16)), (3, ("--pool", "mean"))])
def test_latents_in_one_array(same, trained, mixed, size, call):
    files, _ = same(size, "encode", "--checkpoint", trained.run, "--data", mixed, "--batch-size", 1, *call,
                    out="x.npy")
    assert sorted(files) == ["x.csv", "x.npy"]


@pytest.mark.parametrize("size", [2, 3])
def test_pictures_in_tiles(same, trained, tmp_path, size):
    slides = save_pictures(tmp_path / "slides", [(70, 90), (40, 30), (90, 70), (64, 100), (90, 71)])
    data = (slides / "003.png").read_bytes()
    (slides / "003.png").write_bytes(data[:len(data) // 2])
    common = ("--checkpoint", trained.run, "--data", slides, "--tile", 64)
    files, warned = same(size, "reconstruct", *common, "--error-map")
    assert len(files) == 2 * 4 + 1 and len(warned) == 1
    same(size, "encode", *common, out="latents/")
    same(size, "encode", *common, "--pool", "mean", out="x.npy")
    one_size = save_pictures(tmp_path / "one size", [(70, 90)] * 3)
    same(size, "encode", "--checkpoint", trained.run, "--data", one_size, "--tile", 64, out="x.npy")


@pytest.mark.parametrize("call", [(), ("--corrupt", "noise:0.1"), ("--size", "16x20", "--json")])
def test_evaluation(same, trained, mixed, call):
    files, warned = same(2, "evaluate", "--checkpoint", trained.run, "--data", mixed, *call)
    assert sorted(files) == ["out/evaluate.csv", "out/evaluate.json"] and len(warned) >= 2


def test_evaluation_without_training_images(program, same, squares, tmp_path):
    """The ranges of 8-bit codes are those of the images then."""
    shutil.copytree(squares, tmp_path / "gone")
    program.run("train", "--data", "gone", "--levels", "4,8", "--epochs", 1, "--report", "false", *ONE_CORE,
                cwd=tmp_path)
    shutil.rmtree(tmp_path / "gone")
    many = save_pictures(tmp_path / "many", [(17, 20)] * 5)
    for i in range(5, 1030):  # three batches
        os.link(many / f"{i % 5:03}.png", many / f"{i:04}.png")
    files, _ = same(3, "evaluate", "--checkpoint", tmp_path / "runs/gone", "--data", many)
    assert b"network_8_bit" in files["out/evaluate.json"]


@pytest.fixture(scope="module")
def parts(program, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    data = make_parts(folder / "parts", good=7)
    program.run("train", "--data", data, "--levels", "4,8", "--epochs", 2, "--val-split", 0.4, "--batch-size", 8,
                "--name", "run", "--group-regex", GROUPS, "--report", "false", "--quiet", *ONE_CORE, cwd=folder)
    masks = sorted((data / "ground_truth").rglob("*.png"))
    masks[0].write_bytes(b"no picture")
    tests = sorted((data / "test").rglob("*.png"))
    tests[3].write_bytes(tests[3].read_bytes()[:200])
    return folder


def test_calibration_and_scores(program, parts, tmp_path):
    """Also the threshold, pixel measures, maps and the report's pictures."""
    found = {}
    for ranks in (1, 3):
        place = tmp_path / f"of-{ranks}" / "here"
        shutil.copytree(parts / "runs", place / "runs", symlinks=True)
        started = with_ranks(program, ranks)
        said = started.run("calibrate", "--checkpoint", "runs/run", *ONE_CORE, cwd=place).stdout
        inspector = (place / "runs/run/inspector.safetensors").read_bytes()
        result = started.run("score", "--checkpoint", "runs/run", "--data", parts / "parts", "-o", "out",
                             *ONE_CORE, cwd=place)
        found[ranks] = (inspector, said, result.stdout, warnings_of(result), contents(place / "out"))
    files = found[1][-1]
    assert "report.html" in files and "summary.json" in files
    assert sum("mask" in line for line in found[1][3]) == 1
    *told, of_ranks = found[3]
    assert sorted(of_ranks) == sorted(files)
    assert [name for name in files if files[name] != of_ranks[name]] == []
    for mine, theirs in zip(told, found[1]):
        assert mine == theirs


DETECTING = ("--levels", "4,8", "--detector", "4,6", "--corrupt", "defects", "--batch-size", 4, "--report", "false",
             "--name", "run", *ONE_CORE)


def test_a_trained_detector_is_calibrated(program, parts, tmp_path):
    """By all ranks, as one process calibrates it."""
    words = ("--data", parts / "parts", "--val-split", 0.4, "--group-regex", GROUPS, "--max-steps", 4, *DETECTING)
    result = with_ranks(program, 3).run("train", *words, cwd=tmp_path)
    assert sum("calibrated on" in line for line in result.logs) == 1
    kept = tmp_path / "runs/run/inspector.safetensors"
    of_ranks = kept.read_bytes()
    program.run("calibrate", "--checkpoint", "runs/run", *ONE_CORE, cwd=tmp_path)
    assert kept.read_bytes() == of_ranks


def test_a_detector_without_held_out_images_is_trained(program, mixed, tmp_path):
    result = with_ranks(program, 2).run("train", "--data", mixed, "--val-split", 0, "--max-steps", 2, *DETECTING,
                                        cwd=tmp_path)
    assert sum("not calibrated for score" in line for line in result.logs) == 1
    assert (tmp_path / "runs/run/weights/last.safetensors").is_file()


def test_an_anomaly_ends_with_its_exit_code(program, parts, tmp_path):
    words = ("score", "--checkpoint", parts / "runs/run", "--data", parts / "parts", "-o", "out", "--fpr", 0.9,
             "--fail-on-anomaly", "--heat-maps", "false", "--report", "false", *ONE_CORE)
    assert with_ranks(program, 2).call(*words, cwd=tmp_path).code == 3


@pytest.mark.parametrize("flags", [("--watch",), ("--stdin",), ("--folds", 2)])
def test_what_has_nothing_to_share_is_refused(program, parts, mixed, tmp_path, flags):
    data = () if flags == ("--stdin",) else ("--data", mixed)
    result = with_ranks(program, 2).call("score", "--checkpoint", parts / "runs/run", *data, *flags, cwd=tmp_path)
    said = [line for line in result.complaints if line.startswith("convae: ")]
    assert result.code == 2 and len(said) == 1 and f"{flags[0]} works in one process" in said[0], result
    assert list(tmp_path.iterdir()) == []


def test_a_rank_that_fails_ends_the_job(program, trained, mixed, tmp_path):
    """Whichever it is: with two ranks and batches of one image, each of the two cut files is on another."""
    for name in ("003.png", "010.png"):
        folder = tmp_path / name / "in"
        shutil.copytree(mixed, folder)
        other = {"003.png": "010.png", "010.png": "003.png"}[name]
        (folder / other).unlink()
        result = with_ranks(program, 2).call("reconstruct", "--checkpoint", trained.run, "--data", folder, "-o",
                                             "out", "--skip-bad", "false", "--batch-size", 1, *ONE_CORE,
                                             cwd=folder.parent)
        said = [line for line in result.complaints if line.startswith("convae: ")]
        assert result.code == 1 and len(said) == 1 and name in said[0], result
        assert not (folder.parent / "out" / "reconstruct.csv").exists()


def test_ranks_that_see_other_images_end(program, trained, mixed, squares, tmp_path):
    """Waiting for each other would have no end."""
    def words(data):
        return ["-n", "1", program.path, "reconstruct", "--checkpoint", str(trained.run), "--data", str(data), "-o",
                "out", *ONE_CORE]
    call = [*with_ranks(program, 2).prefix[:-2], *words(mixed), ":", *words(squares)]
    result = subprocess.run(call, cwd=tmp_path, text=True, capture_output=True, timeout=60)
    said = [line for line in result.stderr.splitlines() if line.startswith("convae: ")]
    assert result.returncode == 1 and len(said) == 1 and "do not see the same images" in said[0], result.stderr


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_rank_ends_all(program, trained, tmp_path, how):
    """At once, and only whole files are left."""
    data = save_pictures(tmp_path / "in", [(180, 200)])
    for i in range(600):
        os.link(data / "000.png", data / f"{i:04}.png")
    process = with_ranks(program, 2).start("reconstruct", "--checkpoint", trained.run, "--data", data, "-o",
                                           "out", *ONE_CORE, cwd=tmp_path)
    out = tmp_path / "out"
    wait_until(out.exists, process)
    os.kill(rank_processes(process)[1], how)
    process.communicate(timeout=30)
    assert process.returncode != 0
    assert not (out / "reconstruct.csv").exists()
    if how == signal.SIGTERM:
        assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []
