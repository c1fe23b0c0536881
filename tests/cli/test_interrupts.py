"""Ctrl-C, SIGTERM and SIGHUP while results are written: a prompt end, and nothing half done."""

import os
import signal
import time

import numpy as np
import pytest
from PIL import Image

from convae_program import ONE_CORE, picture, wait_until

# Enough of them that every command is stopped long before the last.
COUNT = 400
SIDE = 128


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Many names of one image, and of its latent under the identity."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "in").mkdir()
    pixels = picture(SIDE, SIDE)
    Image.fromarray(pixels).save(folder / "in" / "000.png")
    names = [f"{index:03}.png" for index in range(COUNT)]
    for name in names[1:]:
        os.link(folder / "in" / "000.png", folder / "in" / name)
    np.save(folder / "own.npy", (pixels.transpose(2, 0, 1)[None] / 255).astype(np.float32))
    rows = [f"{name},{SIDE},{SIDE},0" for name in names]
    (folder / "own.csv").write_text("\n".join(["path,height,width,index", *rows, ""]))
    return folder


def words_of(command, identity, work):
    words = {"reconstruct": ["--data", work / "in", "-o", "out", *ONE_CORE],
             "encode": ["--data", work / "in", "-o", "out/", *ONE_CORE],
             "decode": ["--latents", work / "own.npy", "-o", "out", *ONE_CORE]}
    return [command, "--checkpoint", identity, *words[command]]


def start_and_see_files(program, words, folder):
    process = program.start(*words, cwd=folder)
    wait_until(lambda: list(folder.glob("out/[!.]*")), process)
    return process


def assert_whole(folder):
    """Some results, not all, each of them complete; no other file. Returns their number."""
    files = sorted(folder.iterdir())
    assert 0 < len(files) < COUNT
    for path in files:
        assert not path.name.startswith("."), path
        if path.suffix == ".npy":
            assert np.load(path).shape == (1, 3, SIDE, SIDE)
        else:
            with Image.open(path) as image:
                image.load()
    return len(files)


@pytest.mark.parametrize("command, sent, code", [
    ("reconstruct", signal.SIGINT, 130), ("encode", signal.SIGTERM, 143),
    ("decode", signal.SIGHUP, 129), ("decode", signal.SIGTERM, 143)])
def test_stopped_command_leaves_whole_files_and_says_how_far_it_came(program, identity, work, tmp_path,
                                                                     command, sent, code):
    process = start_and_see_files(program, words_of(command, identity, work), tmp_path)
    process.send_signal(sent)
    before = time.monotonic()
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert time.monotonic() - before < 10
    assert stdout == ""
    written = assert_whole(tmp_path / "out")
    assert f"stopped after {written} of {COUNT} " in stderr.splitlines()[-1]


@pytest.mark.parametrize("command", ["reconstruct", "encode", "decode"])
def test_a_second_interrupt_ends_a_command_at_once(program, identity, work, tmp_path, command):
    process = start_and_see_files(program, words_of(command, identity, work), tmp_path)
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    assert_whole(tmp_path / "out")


def test_a_terminal_that_hangs_up_twice_still_gets_an_orderly_end(program, identity, work, tmp_path):
    process = start_and_see_files(program, words_of("decode", identity, work), tmp_path)
    for _ in range(2):
        process.send_signal(signal.SIGHUP)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 129
    assert f"stopped after {assert_whole(tmp_path / 'out')} of {COUNT} " in stderr.splitlines()[-1]


def test_nohup_outlives_the_terminal(program, identity, work, tmp_path):
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does; children inherit it
    try:
        process = start_and_see_files(program, words_of("decode", identity, work), tmp_path)
    finally:
        signal.signal(signal.SIGHUP, ignored)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert len(list((tmp_path / "out").iterdir())) == COUNT


def test_one_array_of_latents_is_there_whole_or_not_at_all(program, identity, work, tmp_path):
    process = program.start("encode", "--checkpoint", identity, "--data", work / "in", "-o",
                            "out/latents.npy", "--batch-size", 1, *ONE_CORE, cwd=tmp_path)
    while "images " not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert not stderr or "no out/latents.npy was written" in stderr
    assert not (tmp_path / "out").exists()


def open_files(process):
    found = []
    for name in os.listdir(f"/proc/{process.pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{process.pid}/fd/{name}"))
        except FileNotFoundError:  # closed meanwhile
            pass
    return found


@pytest.mark.parametrize("command", ["train", "reconstruct", "encode"])
def test_before_there_is_anything_to_finish_the_first_interrupt_is_enough(program, identity, tmp_path,
                                                                          command):
    # Files without their end are read whole to say what is wrong: this takes seconds.
    folder = tmp_path / "in"
    folder.mkdir()
    Image.new("RGB", (2048, 2048)).save(tmp_path / "large.png", compress_level=0)
    os.truncate(tmp_path / "large.png", (tmp_path / "large.png").stat().st_size - 5)
    for index in range(300):
        os.link(tmp_path / "large.png", folder / f"{index}.png")
    words = ["--data", "in", "-o", "out/", *ONE_CORE]
    if command != "train":
        words += ["--checkpoint", identity]
    process = program.start(command, *words, cwd=tmp_path)
    while not any(path.endswith(".png") for path in open_files(process)):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stdout == "" and "images" not in stderr
    assert not (tmp_path / "out").exists()
