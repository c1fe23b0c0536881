"""A disk that fills up and is emptied again: a tmpfs of 20 MB that holds nothing else."""

import copy
import json
import os
import pathlib
import signal
import subprocess

import numpy as np
import pytest
from PIL import Image

from convae_program import ONE_CORE, assert_same_tensors, read_csv, wait_until

LAST = "weights/last.safetensors"
NO_ROOM = "No space left on device"
TINY = ("--levels", "4,8", "--batch-size", 4, "--val-split", 0, "--schedule", "constant", *ONE_CORE)

SIZE = 20 << 20

# Room for a few small files, and for none of the checkpoints below.
LITTLE = 12 * 1024


class Disk:
    """A mounted tmpfs: where tests find its files, and the program in its folder."""

    def __init__(self, program, path, prefix):
        self.path = path
        self.program = copy.copy(program)
        self.program.prefix = prefix

    def start(self, *args, **options):
        return self.program.start(*args, cwd=self.path, **options)

    def call(self, *args):
        return self.program.call(*args, cwd=self.path)

    def run(self, *args):
        return self.program.run(*args, cwd=self.path)

    def free(self):
        status = os.statvfs(self.path)
        # Nobody's real disk is to be filled up.
        assert status.f_blocks * status.f_frsize <= SIZE
        return status.f_bavail * status.f_frsize

    def fill(self, room):
        """Takes all but `room` bytes."""
        with open(self.path / "filler", "ab", buffering=0) as filler:
            while self.free() > room:
                try:
                    filler.write(bytes(min(self.free() - room, 1 << 20)))
                except OSError:  # whoever else is writing was faster
                    return

    def make_room(self):
        (self.path / "filler").unlink()

    def files(self, pattern):
        return sorted(path for path in self.path.rglob(pattern) if path.is_file())

    def assert_complete(self):
        """Every file under its final name is whole."""
        for path in self.files("*.safetensors"):
            self.run("info", path.relative_to(self.path))
        for path in self.files("*.png"):
            with Image.open(path) as image:
                image.load()
        for path in self.files("*.npy"):
            np.load(path)
        for path in self.files("*.csv"):
            assert path.read_text().endswith("\n")

    def assert_nothing_unfinished(self):
        assert not [path for path in self.files("*") if ".tmp-" in path.name]


MOUNT = f'mount -t tmpfs -o size={SIZE} tmpfs "$0"'


def shell(script, *words):
    return subprocess.Popen(["sh", "-c", script, *words], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def disk(program, tmp_path):
    """Mounted by root, or else in a namespace that a process of its own holds and calls enter."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shell(MOUNT, folder)
    _, refusal = mount.communicate()
    if mount.returncode == 0:
        yield Disk(program, folder, [])
        subprocess.run(["umount", "--lazy", folder], check=True)
        return
    holder = shell('exec unshare -rm sh -c "$1" "$0"', folder, f"{MOUNT} && echo mounted && exec cat")
    try:
        if holder.stdout.readline() != "mounted\n":
            refusals = f"{refusal.strip()}; {holder.stderr.read().strip()}"
            pytest.skip(f"no tmpfs may be mounted here: {refusals}")
        enter = ["nsenter", "-t", str(holder.pid), "-U", "-m", "--preserve-credentials", "sh", "-c",
                 'cd "$0" && exec "$@"', str(folder)]
        yield Disk(program, pathlib.Path(f"/proc/{holder.pid}/root{folder}"), enter)
    finally:
        holder.communicate()


def test_a_run_goes_on_over_a_full_disk_and_saves_again_when_there_is_room(disk, many, tmp_path):
    log = tmp_path / "log"
    with open(log, "w") as stderr:
        process = disk.start("train", "--data", many, *TINY, "--epochs", 1000000, "--save-every", 20,
                             stderr=stderr)
    run = disk.path / "runs" / "many"
    wait_until((run / "metrics.csv").exists, process)

    def crowd_out():
        # What was being written meanwhile may have freed its room again.
        disk.fill(LITTLE)
        return "the run goes on" in log.read_text()
    wait_until(crowd_out, process)
    assert NO_ROOM in log.read_text()
    epochs = log.read_text().count("train loss")
    wait_until(lambda: log.read_text().count("train loss") > epochs + 2, process)
    kept = (run / LAST).stat().st_mtime_ns
    disk.assert_complete()
    disk.make_room()
    wait_until(lambda: (run / LAST).stat().st_mtime_ns > kept, process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    disk.assert_complete()
    disk.assert_nothing_unfinished()
    done = json.loads(disk.run("info", f"runs/many/{LAST}", "--json").stdout)["epoch"]
    disk.run("train", "--resume", "runs/many", "--epochs", done + 1)
    # Rows that found no room were written with a later one.
    assert [int(row["epoch"]) for row in read_csv(run / "metrics.csv")] == [*range(1, done + 2)]


def test_what_a_resumed_run_is_made_of_is_written_when_there_is_room(disk, many, tmp_path):
    disk.run("train", "--data", many, *TINY, "--epochs", 2)
    run = disk.path / "runs" / "many"
    disk.fill(0)
    log = tmp_path / "log"
    with open(log, "w") as stderr:
        process = disk.start("train", "--resume", "runs/many", "--epochs", 1000000, "--lr", 0.000625,
                             stderr=stderr)
    wait_until(lambda: "the run goes on" in log.read_text(), process)
    assert "0.000625" not in (run / "config.toml").read_text()
    disk.make_room()
    wait_until(lambda: "0.000625" in (run / "config.toml").read_text(), process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--lr 0.000625" in (run / "commands.txt").read_text().splitlines()[-1]


def test_a_run_that_ends_on_a_full_disk_fails_and_is_finished_later(disk, many, tmp_path, program):
    words = ("train", "--data", many, *TINY)
    program.run(*words, "--epochs", 4, cwd=tmp_path)
    disk.run(*words, "--epochs", 2)
    run = disk.path / "runs" / "many"
    weights = {path: path.read_bytes() for path in disk.files("*.safetensors")}
    table = (run / "metrics.csv").read_text()
    disk.fill(0)
    result = disk.call("train", "--resume", "runs/many", "--epochs", 4)
    result.assert_refused(1, "the last state of the run could not be saved", LAST, NO_ROOM)
    assert any("epoch 4/4" in line for line in result.logs)
    assert {path: path.read_bytes() for path in disk.files("*.safetensors")} == weights
    assert (run / "metrics.csv").read_text() == table
    disk.assert_nothing_unfinished()
    disk.make_room()
    disk.run("train", "--resume", "runs/many", "--epochs", 4)
    assert_same_tensors(run / LAST, tmp_path / "runs" / "many" / LAST)
    assert len(read_csv(run / "metrics.csv")) == 4


def test_a_run_stopped_on_a_full_disk_says_what_is_lost(disk, many, tmp_path):
    disk.run("train", "--data", many, *TINY, "--epochs", 1)
    last = disk.path / "runs" / "many" / LAST
    before = last.read_bytes()
    disk.fill(0)
    with open(tmp_path / "log", "w") as stderr:
        process = disk.start("train", "--resume", "runs/many", "--epochs", 1000000, stderr=stderr)
    wait_until(lambda: "the run goes on" in (tmp_path / "log").read_text(), process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 1
    line = (tmp_path / "log").read_text().splitlines()[-1]
    assert line.startswith("convae: the last state of the run could not be saved: ")
    assert line.endswith(NO_ROOM)
    assert last.read_bytes() == before
    disk.assert_nothing_unfinished()


@pytest.mark.parametrize("folder", (".", "runs/many/weights"))
def test_a_run_that_may_not_be_written_is_not_trained_in_vain(disk, many, folder):
    disk.run("train", "--data", many, *TINY, "--epochs", 1)

    def mount(*words):
        subprocess.run([*disk.program.prefix, *words], cwd=disk.path, check=True)

    if folder != ".":
        mount("mount", "--bind", folder, folder)
    mount("mount", "-o", "remount,ro,bind", folder)
    result = disk.call("train", "--resume", "runs/many", "--epochs", 3)
    result.assert_refused(1, "cannot write", "Read-only file system")
    assert "epoch" not in result.stderr
    assert "is finished" in disk.run("train", "--resume", "runs/many").stdout
    if folder != ".":
        mount("umount", folder)


def test_a_run_that_finds_no_room_at_all_leaves_nothing(disk, many):
    disk.fill(0)
    disk.call("train", "--data", many, *TINY).assert_refused(1, "cannot write", NO_ROOM)
    assert os.listdir(disk.path / "runs") == []


@pytest.fixture(scope="module")
def model(program, many, tmp_path_factory):
    """A run and the latents of its images, on a disk with room."""
    folder = tmp_path_factory.mktemp("model")
    program.run("train", "--data", many, *TINY, "--epochs", 1, "--quiet", cwd=folder)
    program.run("encode", "--checkpoint", "runs/many", "--data", many, "-o", "latents/", "--quiet",
                *ONE_CORE, cwd=folder)
    return folder


OUTPUTS = {
    "reconstruct": ("reconstruct", "-o", "out", "--grid", "--error-map"),
    "encode to one file": ("encode", "--size", 24, "-o", "latents.npy"),
    "encode to a folder": ("encode", "-o", "latents/"),
    "decode": ("decode", "-o", "out"),
}


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("name", OUTPUTS)
def test_results_that_find_no_room_are_whole_or_not_there(disk, many, model, name, workers):
    command, *words = OUTPUTS[name]
    if command == "decode":
        words += ["--latents", model / "latents"]
    else:
        words += ["--data", many]
    call = (command, "--checkpoint", model / "runs" / "many", *words, "--threads", 1, "--workers",
            workers)
    disk.fill(LITTLE)
    disk.call(*call).assert_refused(1, "cannot write", NO_ROOM)
    results = [path for path in disk.files("*") if path.name != "filler"]
    assert bool(results) == (name != "encode to one file")
    assert not [path for path in results if path.suffix == ".csv"]
    disk.assert_complete()
    disk.assert_nothing_unfinished()
    disk.make_room()
    disk.run(*call, "--overwrite")


def test_shards_that_find_no_room_are_not_there(program, disk, many, tmp_path):
    program.run("pack", "--data", many, "-o", "whole", cwd=tmp_path)
    whole = (tmp_path / "whole/many-000000.tar").stat().st_size
    for missing in range(4 << 10, 33 << 10, 4 << 10):  # within the last blocks, which closing writes
        disk.fill(whole - missing)
        disk.call("pack", "--data", many, "-o", "shards").assert_refused(1, "many-000000.tar", NO_ROOM)
        assert not disk.files("*.tar")
        disk.make_room()
