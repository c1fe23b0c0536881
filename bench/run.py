#!/usr/bin/env python3
"""Holds convae against Python peers on this machine and prints one Markdown table of medians.

Every measurement is a process of its own with as many compute threads as there are cores, and they
take turns (convae, peer, peer, convae …), so that a busy moment of the machine meets all alike.
scripts/bench sets up what this needs."""

import argparse
import csv
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

BENCH = pathlib.Path(__file__).resolve().parent
ROOT = BENCH.parent
CORES = len(os.sched_getaffinity(0))
THREADS = ["--threads", str(CORES)]
# The network of all rows but for its levels: what peers in Python usually look like.
CONVAE_STYLE = ["--order", "conv-act-bn", "--activation", "relu", "--device", "cpu"]
KINDS = ("step", "inference", "loading", "training")


class Failed(Exception):
    """A measurement's process ended with an error; the message is what it wrote last."""


@dataclass
class Process:
    """What is known of a process that ended well."""

    stdout: str
    seconds: float
    peak_mb: float

    def json(self):
        return json.loads(self.stdout.splitlines()[-1])


@dataclass
class Speed:
    """A network and a batch in memory, measured a step at a time."""

    input: str  # NxCxHxW
    network: list = field(default_factory=list)
    rounds: int = 15
    title: str = ""
    against: tuple = ("eager", "compiled")
    inference: bool = False


@dataclass
class Folder:
    """A folder of images to train on, from the start of the process to its end."""

    title: str
    data: pathlib.Path
    size: int
    batch: int
    network: list = field(default_factory=list)
    loading: bool = False  # the network is a small excuse for reading the files

    @property
    def settings(self):
        return ["--data", str(self.data), "--size", str(self.size),
                "--batch-size", str(self.batch), *self.network, *THREADS]


@dataclass
class Row:
    what: str
    unit: str  # ms, s, MB: less is better; images/s: more is
    convae: float | None
    peer: float | None
    peer_name: str
    within: bool = False  # the peer is a part of what convae does: the ratio is whole to part

    def markdown(self):
        return (f"| {self.what} | {self.number(self.convae)} "
                f"| {self.peer_name}: {self.number(self.peer)} | {self.ratio()} |")

    def number(self, value):
        if value is None:
            return "failed"
        digits = 0 if value >= 1000 or self.unit == "MB" else 1
        return f"{value:,.{digits}f} {self.unit}"

    def ratio(self):
        if self.convae is None or self.peer is None:
            return ""
        if self.within:
            return f"{self.convae / self.peer:.2f} times these"
        more = self.convae / self.peer if self.unit == "images/s" else self.peer / self.convae
        return f"**{more:.2f}**" if more >= 1 else f"{more:.2f}"


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def call(command, environment):
    """Runs a program to its end; wait4 knows the peak memory of this one, not of all so far."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen([str(word) for word in command], stdout=out, stderr=errors,
                                   env=os.environ | environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        errors.seek(0)
        if process.returncode != 0:
            raise Failed(f"exit code {process.returncode}\n" + errors.read()[-2000:])
        return Process(out.read(), seconds, usage.ru_maxrss / 1024)


class Bench:
    """The programs, where their files go, and how often each is asked."""

    def __init__(self, arguments, scratch):
        self.convae_program = arguments.convae
        self.repeats = arguments.repeats
        self.epochs = arguments.epochs
        self.scratch = scratch
        # The compiler's cache starts empty, and is warm from the second repeat on.
        self.environment = {"OMP_NUM_THREADS": str(CORES),
                            "TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor")}
        self.runs = 0

    def convae(self, *words):
        return call([self.convae_program, *words], self.environment)

    def python(self, script, *words):
        return call([sys.executable, BENCH / script, *words], self.environment)

    def in_turns(self, title, works):
        """Calls every work `repeats` times, in turns; name → the dicts they gave. A work that
        fails is not called again, and has nothing to show."""
        results = {name: [] for name in works}
        for number in range(self.repeats):
            for name in list(results):
                try:
                    results[name].append(works[name]())
                except Failed as error:
                    say(f"{title}: {name} failed: {error}")
                    del results[name]
                    continue
                numbers = ", ".join(f"{key} {value:.4g}"
                                    for key, value in results[name][-1].items())
                say(f"{title}: {name}, {number + 1} of {self.repeats}: {numbers}")
        return results


def median(results, name, key):
    values = [result[key] for result in results.get(name, [])]
    return statistics.median(values) if values else None


def bench_convae(bench, speed):
    result = bench.convae("bench", "--json", "--input", speed.input.split("x", 1)[1],
                          "--batch-size", speed.input.split("x", 1)[0], "--rounds", speed.rounds,
                          *speed.network, *CONVAE_STYLE, *THREADS).json()
    return {key: result[key] for key in result if key.endswith("_ms")}


def torch_peer(bench, speed, work, flavour):
    flags = ["--compiled"] if flavour == "compiled" else []
    return bench.python("peer_speed.py", work, "--input", speed.input, "--rounds", speed.rounds,
                        *speed.network, *flags, *THREADS).json()


def engine_peer(bench, speed, engine):
    file = bench.scratch / f"{speed.input}.onnx"
    if not file.exists():
        bench.python("export_onnx.py", file, "--input", speed.input, *speed.network)
    result = bench.python("peer_onnx.py", engine, file, "--rounds", speed.rounds, *THREADS).json()
    if result["difference"] > 1e-4:
        raise Failed(f"its reconstructions are {result['difference']} away from PyTorch's")
    return result


TORCH = {"eager": "PyTorch eager", "compiled": "PyTorch compiled ¹"}
ENGINES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


def measure_speed(bench, speed, kinds):
    """Rows of the training step and of inference, all measured in the same turns."""
    works = {"convae": lambda: bench_convae(bench, speed)}
    rows = []

    def add(key, what, name, label, work):
        works[name] = work
        rows.append((key, f"{what}, {speed.title or speed.input.replace('x', '×')}", name, label))

    if "step" in kinds:
        for flavour in speed.against:
            add("training_step_ms", "training step", f"{flavour} training", TORCH[flavour],
                lambda flavour=flavour: torch_peer(bench, speed, "training", flavour))
    if "inference" in kinds and speed.inference:
        for flavour in speed.against:
            add("inference_ms", "inference", f"{flavour} inference", TORCH[flavour],
                lambda flavour=flavour: torch_peer(bench, speed, "inference", flavour))
        for engine, label in ENGINES.items():
            add("inference_ms", "inference", engine, label,
                lambda engine=engine: engine_peer(bench, speed, engine))
    if not rows:
        return []
    results = bench.in_turns(speed.input, works)
    table = [Row(what, "ms", median(results, "convae", key), median(results, name, "ms"), label)
             for key, what, name, label in rows]
    return add_bare_convolutions(table, results, dict((key, what) for key, what, _, _ in rows))


def add_bare_convolutions(table, results, measured):
    """After the rows of each kind, what its convolutions alone took in the same process."""
    bare = {"training_step_ms": "bare_convolutions_ms", "inference_ms": "bare_forward_ms"}
    rows = []
    for key, what in measured.items():
        rows += [row for row in table if row.what == what]
        rows.append(Row(what, "ms", median(results, "convae", key),
                        median(results, "convae", bare[key]), "its bare convolutions",
                        within=True))
    return rows


def train_convae(bench, folder):
    bench.runs += 1
    name = f"run{bench.runs}"
    cache = ["--cache", "none"] if folder.loading else []
    process = bench.convae("train", *folder.settings, "--channels", 3, "--epochs", bench.epochs,
                           "--schedule", "constant", "--val-split", 0, "--save-every", 0,
                           "--quiet", *cache, *CONVAE_STYLE,
                           "--output", bench.scratch, "--name", name)
    with open(bench.scratch / name / "metrics.csv", newline="") as file:
        epochs = list(csv.DictReader(file))
    rates = [float(epoch["images_per_s"]) for epoch in epochs]
    return {"images_per_s": statistics.median(rates[1:] or rates), "seconds": process.seconds,
            "peak_mb": process.peak_mb, "loss": float(epochs[-1]["train_loss"])}


def train_peer(bench, folder, flavour):
    flags = ["--compiled"] if flavour == "compiled" else []
    process = bench.python("peer_train.py", *folder.settings, "--epochs", bench.epochs,
                           "--save", bench.scratch / "peer.pt", *flags)
    return process.json() | {"seconds": process.seconds}


def measure_folder(bench, folder):
    flavours = ("eager",) if folder.loading else ("eager", "compiled")
    works = {"convae": lambda: train_convae(bench, folder)}
    for flavour in flavours:
        works[flavour] = lambda flavour=flavour: train_peer(bench, folder, flavour)
    results = bench.in_turns(folder.title, works)
    rows = []
    columns = [("images_per_s", "images/s", folder.title)]
    if not folder.loading:
        columns += [("seconds", "s", f"… from start to end of the {bench.epochs} epochs"),
                    ("peak_mb", "MB", "… peak memory of the main process")]
    for key, unit, what in columns:
        for flavour in flavours:
            label = "Pillow and DataLoader" if folder.loading else TORCH[flavour]
            rows.append(Row(what, unit, median(results, "convae", key),
                            median(results, flavour, key), label))
    return rows


def speeds():
    return [Speed("16x3x192x192", inference=True),
            Speed("32x3x64x64"),
            Speed("16x3x256x256", ["--levels", "64,128,256,512,512,512", "--kernel", "4"],
                  rounds=3, title="16×3×256×256, six levels up to 512, kernel 4",
                  against=("eager",))]


def folders(arguments, kinds):
    excuse = ["--levels", "4:k2s2p0", "--norm", "none"]
    small = ["--levels", "32,64,128"]
    name = arguments.data.name
    found = []
    if "loading" in kinds:
        found.append(Folder(f"loading {name} at 192×192 ²", arguments.data, 192, 16, excuse,
                            loading=True))
    if "training" in kinds:
        found.append(Folder(f"training on {name} at 192×192", arguments.data, 192, 16))
    if arguments.cifar and "loading" in kinds:
        found.append(Folder("loading CIFAR at 32×32 ²", arguments.cifar, 32, 32, excuse,
                            loading=True))
    if arguments.cifar and "training" in kinds:
        found.append(Folder("training on CIFAR at 32×32, levels 32,64,128", arguments.cifar, 32,
                            32, small))
    return found


def processor():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def print_table(rows, arguments):
    print("| what | convae | peer | ratio |\n|---|---:|---:|---:|")
    for row in rows:
        print(row.markdown())
    turns = "1 turn" if arguments.repeats == 1 else f"{arguments.repeats} turns"
    print(f"""
Medians of {turns} on {CORES} cores ({processor()}), float32; levels 32,64,128,256, kernel 3,
stride 2, padding 1, ReLU then BatchNorm, MSE and Adam where nothing else is said. A ratio above 1:
convae is so many times faster, or takes so many times less memory; beside its own bare
convolutions: it takes so many times as long. Training includes loading; its images/s are those of
the epochs after the first, for which convae keeps the decoded images in memory where they fit.

¹ torch.compile, channels_last; in training fused Adam, in inference frozen.
² Training a network that costs next to nothing, nothing kept in memory.""")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--convae", type=pathlib.Path, default=ROOT / "build/release/bin/convae",
                        help="the program to measure (default: build/release/bin/convae)")
    parser.add_argument("--data", type=pathlib.Path, default=ROOT / "data/samples",
                        help="folder of photographs for loading and training "
                             "(default: data/samples)")
    parser.add_argument("--cifar", type=pathlib.Path,
                        help="folder of 32x32 images, for rows of its own")
    parser.add_argument("--repeats", type=int, default=3, help="turns (default: 3)")
    parser.add_argument("--epochs", type=int, default=5, help="of a training (default: 5)")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS,
                        help="some rows only (default: all)")
    arguments = parser.parse_args()
    if not arguments.convae.is_file():
        parser.error(f"there is no {arguments.convae}; scripts/setup builds it")
    for option in ("data", "cifar"):
        folder = getattr(arguments, option)
        if folder is not None and not folder.is_dir():
            parser.error(f"--{option} {folder}: no such folder")
    if arguments.repeats < 1 or arguments.epochs < 1:
        parser.error("--repeats and --epochs: expected at least 1")
    return arguments


def main():
    arguments = parse_arguments()
    load = os.getloadavg()[0]
    if load > 0.2 * CORES:
        say(f"the machine is busy (load average {load:.1f}): expect noisy numbers")
    with tempfile.TemporaryDirectory(prefix="convae-bench-") as scratch:
        bench = Bench(arguments, pathlib.Path(scratch))
        rows = []
        for speed in speeds():
            rows += measure_speed(bench, speed, arguments.only)
        for folder in folders(arguments, arguments.only):
            rows += measure_folder(bench, folder)
    print_table(rows, arguments)
    return 1 if any(row.convae is None for row in rows) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
