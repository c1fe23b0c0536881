"""Runs the real program and makes its small inputs: shared by tests/cli and tests/interop."""

import csv
import functools
import io
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

LOG_LINE = re.compile(r"\d\d:\d\d:\d\d (debug|info|warning|error): ")

# One core is plenty for networks this small, and leaves the other to whoever shares the machine.
ONE_CORE = ("--threads", "1", "--workers", "1")

METRICS_COLUMNS = ("epoch,step,lr,train_loss,val_loss,val_mse,val_psnr,val_ssim,"
                   "images_per_s,seconds").split(",")


# Names that shells, tables and logs trip over.
ODD_NAMES = ["plain.png", "with space.png", "sub folder/deep/er.png", "it's \"quoted\".png",
             "größe-日本語.png", "-dash.png", "--data.png", "new\nline.png", "tab\there.png",
             "comma,name.png", "back\\slash.png", "no\\newline.png", "two.dots.png", "UPPER.PNG",
             "percent%20.png", "$(touch x).png", "bytes\udcff.png"]


@dataclass
class Result:
    """What a finished call left: its exit code and all it wrote."""

    code: int
    stdout: str
    stderr: str

    @property
    def logs(self):
        return [line for line in self.stderr.splitlines() if LOG_LINE.match(line)]

    @property
    def complaints(self):
        """Lines on stderr that are not log lines."""
        return [line for line in self.stderr.splitlines() if not LOG_LINE.match(line)]

    def assert_refused(self, code, *parts):
        """One line that begins "convae: " and holds all the parts; no result."""
        assert self.code == code, self
        assert len(self.complaints) == 1, self.stderr
        line = self.complaints[0]
        assert line.startswith("convae: "), line
        for part in parts:
            assert part in line, f"expected {part!r} in: {line}"
        assert self.stdout == ""


class OneLoad:
    """Calls of the program as forks of one process that has loaded LibTorch: see call_again.cpp. They have the
    environment of the first."""

    LONGEST = 1 << 14  # characters of a call's words, of up to four bytes

    def __init__(self, program, library):
        self.environment = self.variables()
        self.socket, calls = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with calls:
            subprocess.Popen([program], pass_fds=[calls.fileno()],
                             env={"GOMP_SPINCOUNT": "10000", **os.environ, "LD_PRELOAD": library,
                                  "CALLS": str(calls.fileno())})

    def takes(self, words):
        return self.variables() == self.environment and sum(len(str(word)) for word in words) < self.LONGEST

    def call(self, words, cwd, timeout):
        """Exit code, standard output and error."""
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr, open(os.devnull, "rb") as empty:
            message = b"".join(os.fsencode(str(word)) + b"\0" for word in [cwd, *words])
            socket.send_fds(self.socket, [message], [empty.fileno(), stdout.fileno(), stderr.fileno()])
            self.socket.settimeout(None)
            process = self.answer()
            try:
                self.socket.settimeout(timeout)
                status = self.answer()
            except TimeoutError:
                os.kill(process, signal.SIGKILL)
                self.socket.settimeout(None)
                self.answer()
                raise
            return os.waitstatus_to_exitcode(status), self.text(stdout), self.text(stderr)

    @staticmethod
    def variables():
        """But for those that pytest and PyTorch set meanwhile."""
        return {name: value for name, value in os.environ.items()
                if name not in ("PYTEST_CURRENT_TEST", "TORCHINDUCTOR_CACHE_DIR")}

    def answer(self):
        return int.from_bytes(self.socket.recv(4), sys.byteorder)

    @staticmethod
    def text(file):
        file.seek(0)
        return io.TextIOWrapper(file, errors="surrogateescape").read()


class Program:
    """The program under test, as a user calls it."""

    def __init__(self, forks=True):
        path = os.environ.get("CONVAE")
        if not path:
            pytest.exit("CONVAE must name the program, such as build/release/bin/convae", 2)
        self.path = str(pathlib.Path(path).resolve())
        self.forks = forks  # whether calls may share the start of LibTorch
        self.prefix = []  # words of a program to start it through

    def start(self, *args, cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL):
        """A call that goes on beside the test."""
        return subprocess.Popen([*self.prefix, self.path, *map(str, args)], cwd=cwd, text=True,
                                stdin=stdin, stdout=stdout,
                                stderr=stderr, errors="surrogateescape")

    def call(self, *args, cwd, timeout=120):
        """A finished call, whatever came of it."""
        if self.forks and not self.prefix and (load := one_load(self.path)) and load.takes(args):
            return Result(*load.call(args, cwd, timeout))
        process = self.start(*args, cwd=cwd)
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return Result(process.returncode, stdout, stderr)

    def run(self, *args, cwd, timeout=120):
        """A call that has to succeed."""
        result = self.call(*args, cwd=cwd, timeout=timeout)
        assert result.code == 0, f"{args}\n{result.stderr}"
        return result


@functools.cache
def one_load(program):
    """Nothing where the tests' library for it was not built."""
    library = os.environ.get("CONVAE_CALL_AGAIN")
    return OneLoad(program, library) if library else None


def wait_until(happened, process, seconds=60):
    """Waits for something that a running call does before it ends."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


MPIRUN = shutil.which("mpirun")
needs_mpi = pytest.mark.skipif(MPIRUN is None, reason="no mpirun (Debian: openmpi-bin)")


def with_ranks(program, size):
    """The program as `mpirun -n size` starts it."""
    if size == 1:
        return program
    started = Program()
    started.path = program.path
    # Ranks that wait leave their cores to others.
    started.prefix = [MPIRUN, "--oversubscribe", "--allow-run-as-root", "--mca", "mpi_yield_when_idle", "1", "-n",
                      str(size)]
    return started


def rank_processes(process):
    """Process ids below a running mpirun or torchrun, by rank."""
    found = {}
    for status in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            if parent != process.pid:
                continue
            environment = (status.parent / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        for setting in environment:
            if setting.startswith((b"OMPI_COMM_WORLD_RANK=", b"RANK=")):
                found[int(setting.partition(b"=")[2])] = int(status.parent.name)
    return found


def source_dir():
    return pathlib.Path(os.environ.get("CONVAE_SOURCE_DIR", pathlib.Path(__file__).parents[1]))


def shared_data(*parts):
    """A folder of the real images beside the checkout, or a skip that says what is missing."""
    path = source_dir().joinpath("..", "shared", "data", *parts).resolve()
    if not path.is_dir():
        pytest.skip(f"real images are missing: there is no {'/'.join(('../shared/data', *parts))}")
    return path


def picture(height, width, channels=3, seed=0, dtype=np.uint8):
    """A smooth picture of its own for every seed: (H, W, 3), or (H, W) for one channel."""
    random = np.random.default_rng([seed, height, width])
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    planes = []
    for _ in range(channels):
        a, b, phase = random.uniform(0.1, 0.5, 3)
        planes.append(0.5 + 0.35 * np.sin(a * x + b * y + 6 * phase) + 0.1 * random.random((height, width)))
    pixels = np.clip(np.stack(planes, -1), 0, 1) * np.iinfo(dtype).max
    pixels = np.round(pixels).astype(dtype)
    return pixels if channels == 3 else pixels[:, :, 0]


def save_pictures(folder, sizes, channels=3):
    """One PNG a size, named in order."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, (height, width) in enumerate(sizes):
        Image.fromarray(picture(height, width, channels, seed=index)).save(folder / f"{index:03}.png")
    return folder


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def csv_columns(path):
    with open(path, newline="", encoding="utf-8") as file:
        return next(csv.reader(file))


def plain_name(shown):
    """The file's name from how tables and messages show it: \\n, \\t, \\\\ and \\xNN are escapes."""
    def byte(match):
        text = match.group(1)
        return {b"n": b"\n", b"t": b"\t", b"\\": b"\\"}.get(text) or bytes([int(text[1:], 16)])
    raw = re.sub(rb"\\(n|t|\\|x[0-9a-f]{2})", byte, os.fsencode(shown))
    return os.fsdecode(raw)


def pixels_of(path):
    with Image.open(path) as image:
        return np.array(image)


def snapshot(folder):
    """Contents and times of all files: equal only where nothing was touched."""
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
            for path in sorted(folder.rglob("*")) if path.is_file()}


def read_metadata(checkpoint):
    with safe_open(checkpoint, "np") as file:
        return json.loads(file.metadata()["convae"])


def assert_same_tensors(a, b):
    """Bit for bit, optimizer moments included."""
    left, right = load_file(a), load_file(b)
    assert left.keys() == right.keys()
    different = [name for name in left if left[name].tobytes() != right[name].tobytes()]
    assert not different, different


def make_identity(program, folder, channels, *options):
    """A checkpoint of a model that gives every image back as it is, and as its own latent.

    A 1x1 convolution that copies its channels, relu (images are not negative), and its mirror.
    With it, what the program writes shows exactly what it read.
    """
    folder.mkdir()
    copy = np.eye(channels, dtype=np.float32)[:, :, None, None]
    zero = np.zeros(channels, np.float32)
    weights = folder / "identity.safetensors"
    save_file({"encoder.0.conv.weight": copy, "encoder.0.conv.bias": zero,
               "decoder.0.conv.weight": copy, "decoder.0.conv.bias": zero}, weights)
    data = save_pictures(folder / "data", [(8, 8)] * 2, channels)
    program.run("train", "--data", data, "--init", weights, "--levels", f"{channels}:k1s1p0",
                "--norm", "none", "--activation", "relu", "--output-activation", "linear",
                "--channels", channels, "--lr", 0, "--epochs", 1, "--val-split", 0,
                "--name", "identity", "--quiet", *options, *ONE_CORE, cwd=folder)
    return folder / "runs" / "identity"
