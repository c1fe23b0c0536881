"""--memory: jobs keep to it, or say what would do."""
import os
import re
import subprocess
import sys

import pytest
from PIL import Image

from convae_program import ONE_CORE, Program, save_pictures

LIMIT = 600  # MiB, of which LibTorch takes some 200; without it train and evaluate take more than 1,200
WIDE = ("--levels", "32,64,128", *ONE_CORE)


@pytest.fixture(scope="module")
def program():
    """A fork has less resident memory than a process of its own."""
    return Program(forks=False)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return save_pictures(tmp_path_factory.mktemp("data") / "large", [(901, 1203), (1000, 1100)] * 3)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return save_pictures(tmp_path_factory.mktemp("data") / "parts", [(300, 401)] * 3)


@pytest.fixture(scope="module")
def run(program, large, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    program.run("train", "--data", large, "--crop", 64, "--epochs", 1, "--save-every", 0, *WIDE, cwd=folder)
    return folder / "runs" / "large"


def peak_mib(program, *words, cwd, code=0):
    """Peak resident memory of a call that ends with that code."""
    measure = ("import resource, subprocess, sys; done = subprocess.run(sys.argv[1:]); "
               "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(done.returncode)")
    done = subprocess.run([sys.executable, "-c", measure, program.path, *map(str, words)], cwd=cwd, text=True,
                          capture_output=True)
    assert done.returncode == code, done.stderr
    return int(done.stdout.splitlines()[-1]) / 1024


ONE_SIZE = ("--include", "00[024].png")  # of the large ones: as many as go through the network together

JOBS = {
    "train crops": ("train", "--data", "{data}", "--crop", 64, "--epochs", 1, "--batch-size", 6, "--save-every", 0,
                    "--levels", "4", "--cache", "none", *ONE_CORE),
    "train": ("train", "--data", "{data}", "--epochs", 1, "--batch-size", 8, "--val-split", 0.3, "--save-every", 0, *WIDE),
    "reconstruct": ("reconstruct", "--checkpoint", "{run}", "--data", "{data}", *ONE_SIZE, "-o", "{out}", "--grid",
                    *ONE_CORE),
    "evaluate": ("evaluate", "--checkpoint", "{run}", "--data", "{data}", *ONE_SIZE, "-o", "{out}", *ONE_CORE),
    "score": ("score", "--checkpoint", "{run}", "--good", "{parts}", "--data", "{parts}", "-o", "{out}", *ONE_CORE),
}


@pytest.mark.parametrize("job", JOBS)
def test_jobs_keep_to_it(program, run, large, parts, tmp_path, job):
    words = [str(word).format(data=large, parts=parts, run=run, out=f"{job}-out") for word in JOBS[job]]
    assert peak_mib(program, *words, "--memory", f"{LIMIT}M", cwd=tmp_path) <= 1.2 * LIMIT


@pytest.mark.parametrize("job, limit", [("train", "230M"), ("evaluate", "150M"), ("evaluate", "350M"),
                                        ("score", "350M")])
def test_too_little_is_refused_with_what_would_do(convae, run, large, tmp_path, job, limit):
    words = [str(word).format(data=large, parts=large, run=run, out="out") for word in JOBS[job]]
    convae(*words, "--memory", limit).assert_refused(1, f"within --memory {limit}", "would do")
    assert not (tmp_path / "runs").exists() and not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def huge(tmp_path_factory):
    """Two pictures that take 126 MB decoded."""
    folder = tmp_path_factory.mktemp("data") / "huge"
    folder.mkdir()
    picture = Image.effect_noise((70, 60), 50).convert("RGB").resize((7000, 6000))
    for name in ("a.jpg", "b.jpg"):
        picture.save(folder / name)
    return folder


HUGE = ("--crop", 64, "--val-split", 0, "--epochs", 1, "--save-every", 0, "--levels", "4", *ONE_CORE)


def test_pictures_that_crops_are_cut_from_are_decoded_one_at_a_time(program, huge, tmp_path):
    assert peak_mib(program, "train", "--data", huge, *HUGE, "--memory", "320M", cwd=tmp_path) <= 1.2 * 320


def test_pictures_that_drawn_defects_take_pieces_of_are_not_decoded_by_all_threads(program, huge, tmp_path):
    words = ("train", "--data", huge, *HUGE[:-4], "--corrupt", "defects", "--threads", 2, "--workers", 1)
    assert peak_mib(program, *words, "--memory", "320M", cwd=tmp_path) <= 320


def test_a_picture_too_large_to_decode_is_refused_or_only_its_crop_is_read(convae, program, huge, tmp_path):
    refused = convae("train", "--data", huge, *HUGE, "--memory", "220M")
    refused.assert_refused(1, "6000x7000 takes 0.1 GB decoded", "would do", "--exclude", "--max-pixels")
    assert not (tmp_path / "runs").exists()
    words = ("train", "--data", huge, *HUGE, "--memory", "220M", "--max-pixels", 1_000_000)
    assert peak_mib(program, *words, cwd=tmp_path) <= 1.2 * 220


def test_values_are_not_measured_of_a_picture_too_large_to_decode(program, huge, tmp_path):
    words = ("train", "--data", huge, *HUGE, "--value-range", "auto", "--memory", "320M")
    assert peak_mib(program, *words, cwd=tmp_path, code=1) <= 1.2 * 320
    assert peak_mib(program, *words[:-1], "800M", cwd=tmp_path) <= 1.2 * 800


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Three pictures of one that takes 126 MB decoded, also where it is resized: it is no JPEG."""
    folder = tmp_path_factory.mktemp("data") / "plain"
    folder.mkdir()
    Image.new("RGB", (7000, 6000)).save(folder / "000.png", compress_level=1)
    for name in ("001.png", "002.png"):
        os.link(folder / "000.png", folder / name)
    return folder


@pytest.mark.parametrize("command, limit, words", [("encode", "450M", ("-o", "latents.npy")), ("evaluate", "220M", ()),
                                                   ("calibrate", "450M", ())])
def test_pictures_that_are_resized_count_as_they_are_decoded(convae, run, plain, tmp_path, command, limit, words):
    data = "--good" if command == "calibrate" else "--data"
    convae(command, "--checkpoint", run, data, plain, "--size", 32, *words, *ONE_CORE, "--memory",
           limit).assert_refused(1, "an image of 6000x7000 takes", "at its own size", "would do", "--exclude")


def test_pictures_that_are_resized_count_at_their_own_size(convae, run, large, tmp_path):
    words = ("reconstruct", "--checkpoint", run, "--data", large, "--size", 32, "-o", "out", *ONE_CORE)
    convae(*words, "--memory", "230M").assert_refused(1, "1000x1100", "at its own size", "would do")
    assert not (tmp_path / "out").exists()


def test_what_would_do_does(convae, large):
    words = ("train", "--data", large, "--include", "001.png", "--epochs", 1, "--save-every", 0, *WIDE)
    said = convae(*words, "--memory", "230M").stderr
    assert convae(*words, "--memory", re.search(r"--memory (\w+) would do", said).group(1)).code == 0


def test_a_picture_that_is_decoded_before_it_is_resized_counts_also_if_small_ones_are_kept(convae, plain):
    words = ("train", "--data", plain, "--size", 64, *HUGE[2:], "--memory", "220M")
    for crop in ((), ("--crop", 32)):
        refused = convae(*words, *crop)
        refused.assert_refused(1, "6000x7000 takes 0.1 GB decoded", "would do", "--exclude")
        assert "--max-pixels" not in refused.stderr, "there are no crops of the file itself"


def test_what_would_do_has_room_for_a_picture_and_a_step(convae, huge):
    words = ("train", "--data", huge, "--crop", 512, "--val-split", 0, "--epochs", 1, "--save-every", 0, "--levels",
             "16", *ONE_CORE)
    said = convae(*words, "--memory", "220M").stderr
    assert convae(*words, "--memory", re.search(r"--memory (\w+) would do", said).group(1)).code == 0


def test_a_picture_that_cannot_be_decoded_in_parts_must_fit(convae, run, tmp_path):
    (tmp_path / "one").mkdir()
    Image.new("RGB", (5000, 5000)).save(tmp_path / "one/000.bmp")
    call = ("reconstruct", "--checkpoint", run, "--data", "one", "-o", "out", *ONE_CORE, "--memory", "300M")
    convae(*call).assert_refused(1, "'000.bmp' can only be decoded as a whole", "would do", "--exclude")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", ["4", "4X", "-1G", "G", "0M"])
def test_what_is_no_size_is_refused(convae, large, value):
    convae("train", "--data", large, "--memory", value).assert_refused(2, "--memory", f"'{value}'", "4G")
