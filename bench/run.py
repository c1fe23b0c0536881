#!/usr/bin/env python3
"""Measures convae and Python peers on this machine, and prints the column of docs/performance.md.

Each measurement is a process of its own with one compute thread per core, and programs take turns
(convae, peer, peer, convae …), so that a busy moment affects all. scripts/bench sets up what this
needs."""

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


def multiplies_bf16():
    """Whether the processor does; where it does not, bf16 takes ten times as long as fp32."""
    try:
        words = set(pathlib.Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return not words.isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})


PRECISIONS = ("fp32", "bf16") if multiplies_bf16() else ("fp32",)
# The network of all rows but for its levels: what peers in Python usually look like.
CONVAE_STYLE = ["--order", "conv-act-bn", "--activation", "relu", "--device", "cpu"]
SMALL = ["--levels", "32,64,128"]
KINDS = ("step", "inference", "loading", "training", "peak")
PEERS = {"eager": "PyTorch eager", "compiled": "PyTorch compiled ¹", "pillow": "Pillow and DataLoader",
         "onnxruntime": "ONNX Runtime ²", "openvino": "OpenVINO", "bare": "time over its bare convolutions'"}


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

    kind: str  # step or inference
    input: str  # NxCxHxW
    peers: tuple
    network: list = field(default_factory=list)
    rounds: int = 15
    title: str = ""

    @property
    def words(self):
        return [*self.network, *THREADS, "--rounds", self.rounds]


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
    def words(self):
        return ["--data", str(self.data), "--size", str(self.size),
                "--batch-size", str(self.batch), *self.network, *THREADS]


class Table:
    """Rows of this processor's column, by what was measured and beside whom: a cell has a value for
    each precision."""

    def __init__(self):
        self.rows = {}

    def add(self, title, peer, precision, text):
        self.rows.setdefault((title, peer), {})[precision] = text

    def add_results(self, title, unit, precision, results, key):
        """Convae's own number, and how many times better it is than each peer."""
        own = median(results, "convae", key)
        self.add(title, "", precision, number(own, unit))
        for name, label in PEERS.items():
            other = median(results, *(("convae", name) if name == "bare" else (name, key)))
            if other is None or own is None:
                continue
            is_more_better = unit == "images/s" or name == "bare"
            self.add(title, label, precision, f"{own / other if is_more_better else other / own:.2f}")

    def __str__(self):
        lines = [f"| | {processor()}, {CORES} cores |", "|---|---:|"]
        for (title, peer), cells in self.rows.items():
            shown = [cells[precision] for precision in PRECISIONS if precision in cells]
            lines.append(f"| {f'… {peer}' if peer else title} | {' / '.join(shown)} |")
        return "\n".join(lines)


def number(value, unit):
    if value is None:
        return "failed"
    return f"{value:,.{0 if value >= 1000 or unit == 'MB' else 1}f} {unit}"


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
        for turn in range(self.repeats):
            for name in list(results):
                try:
                    results[name].append(works[name]())
                except Failed as error:
                    say(f"{title}: {name} failed: {error}")
                    del results[name]
                    continue
                numbers = ", ".join(f"{key} {value:.4g}"
                                    for key, value in results[name][-1].items())
                say(f"{title}: {name}, {turn + 1} of {self.repeats}: {numbers}")
        return results


def median(results, name, key):
    values = [result[key] for result in results.get(name, []) if key in result]
    return statistics.median(values) if values else None


def bench_convae(bench, speed, precision):
    images, shape = speed.input.split("x", 1)
    result = bench.convae("bench", "--json", "--input", shape, "--batch-size", images, *speed.words,
                          *CONVAE_STYLE, "--precision", precision).json()
    step = speed.kind == "step"
    return {"ms": result["training_step_ms" if step else "inference_ms"],
            "bare": result["bare_convolutions_ms" if step else "bare_forward_ms"]}


def torch_peer(bench, speed, precision, flavour):
    flags = ["--compiled"] if flavour == "compiled" else []
    work = "training" if speed.kind == "step" else "inference"
    return bench.python("peer_speed.py", work, "--input", speed.input, "--precision", precision,
                        *speed.words, *flags).json()


def engine_peer(bench, speed, precision, engine):
    file = bench.scratch / f"{speed.input}.onnx"
    if not file.exists():
        bench.python("export_onnx.py", file, "--input", speed.input, *speed.network)
    result = bench.python("peer_onnx.py", engine, file, "--precision", precision, *THREADS,
                          "--rounds", speed.rounds).json()
    if result["difference"] > (1e-4 if precision == "fp32" else 0.1):
        raise Failed(f"its reconstructions are {result['difference']} away from PyTorch's")
    return {"ms": result["ms"]}


def measure_speed(bench, speed, table):
    for precision in PRECISIONS:
        works = {"convae": lambda: bench_convae(bench, speed, precision)}
        for peer in speed.peers:
            measure = torch_peer if peer in ("eager", "compiled") else engine_peer
            works[peer] = lambda peer=peer, measure=measure: measure(bench, speed, precision, peer)
        title = speed.title or f"{'training step' if speed.kind == 'step' else 'inference'}, " \
                               f"{speed.input.replace('x', '×')}"
        table.add_results(title, "ms", precision, bench.in_turns(f"{title}, {precision}", works), "ms")


def train_convae(bench, folder, precision):
    bench.runs += 1
    name = f"run{bench.runs}"
    cache = ["--cache", "none"] if folder.loading else []
    process = bench.convae("train", *folder.words, "--channels", 3, "--epochs", bench.epochs,
                           "--schedule", "constant", "--val-split", 0, "--save-every", 0,
                           "--quiet", "--precision", precision, *cache, *CONVAE_STYLE,
                           "--output", bench.scratch, "--name", name)
    with open(bench.scratch / name / "metrics.csv", newline="") as file:
        epochs = list(csv.DictReader(file))
    rates = [float(epoch["images_per_s"]) for epoch in epochs]
    return {"images_per_s": statistics.median(rates[1:] or rates), "seconds": process.seconds,
            "peak_mb": process.peak_mb, "loss": float(epochs[-1]["train_loss"])}


def train_peer(bench, folder, precision, flavour):
    flags = ["--compiled"] if flavour == "compiled" else []
    process = bench.python("peer_train.py", *folder.words, "--epochs", bench.epochs, "--precision", precision,
                           "--save", bench.scratch / "peer.pt", *flags)
    return process.json() | {"seconds": process.seconds}


def measure_folder(bench, folder, table):
    peers = {"pillow": "eager"} if folder.loading else {"eager": "eager", "compiled": "compiled"}
    for precision in PRECISIONS[:1] if folder.loading else PRECISIONS:
        works = {"convae": lambda: train_convae(bench, folder, precision)}
        for name, flavour in peers.items():
            works[name] = lambda flavour=flavour: train_peer(bench, folder, precision, flavour)
        results = bench.in_turns(f"{folder.title}, {precision}", works)
        table.add_results(folder.title, "images/s", precision, results, "images_per_s")
        if not folder.loading:
            table.add_results(f"{folder.title}: {bench.epochs} epochs, start to end", "s", precision, results,
                              "seconds")
            table.add_results(f"{folder.title}: peak memory", "MB", precision, results, "peak_mb")


def measure_peak(bench, table):
    for precision in PRECISIONS:
        works = {"product": lambda: bench.python("peer_speed.py", "product", "--precision", precision, "--rounds", 9,
                                                 *THREADS).json()}
        rate = median(bench.in_turns(f"matrix product, {precision}", works), "product", "gflops")
        table.add("matrix product of 2048×2048", "", precision, number(rate, "GFLOP/s"))


def speeds(quick):
    torch = ("eager", "compiled")
    rounds = 9 if quick else 15
    found = [Speed("step", "16x3x192x192", torch, rounds=rounds),
             Speed("step", "32x3x64x64", torch, rounds=rounds),
             Speed("step", "32x1x28x28", torch, SMALL, rounds=4 * rounds,
                   title="training step, 32×1×28×28, levels 32,64,128"),
             Speed("inference", "16x3x192x192", (*torch, "onnxruntime", "openvino"), rounds=rounds)]
    if not quick:
        found.append(Speed("step", "16x3x256x256", ("eager",),
                           ["--levels", "64,128,256,512,512,512", "--kernel", "4"], rounds=3,
                           title="training step, 16×3×256×256, six levels up to 512, kernel 4"))
    return found


def folders(arguments):
    excuse = ["--levels", "4:k2s2p0", "--norm", "none"]
    name = arguments.data.name
    found = [Folder(f"loading {name} at 192×192 ³", arguments.data, 192, 16, excuse, loading=True),
             Folder(f"training on {name} at 192×192", arguments.data, 192, 16)]
    if arguments.cifar:
        found += [Folder("loading CIFAR ³", arguments.cifar, 32, 32, excuse, loading=True),
                  Folder("training on CIFAR, levels 32,64,128", arguments.cifar, 32, 32, SMALL)]
    return found


def processor():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def print_column(table, arguments):
    turns = "1 turn" if arguments.repeats == 1 else f"{arguments.repeats} turns"
    print(f"""{table}

Medians of {turns}, {" / ".join(PRECISIONS)}. Below convae's own number, how many times as fast as the peer it is, in the
same precision, or how many times less memory it takes. Levels 32,64,128,256, kernel 3, stride 2, padding 1,
ReLU then BatchNorm, MSE and Adam where nothing else is said. Training includes loading; its images/s are
those of the epochs after the first, for which convae keeps the decoded images in memory where they fit.

¹ torch.compile, channels_last; in training fused Adam, in inference frozen.
² In fp32 in both, as it has no faster bf16 on processors.
³ Training a network that costs next to nothing, nothing kept in memory.""")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--convae", type=pathlib.Path, default=ROOT / "build/release/bin/convae",
                        help="the program to measure (default: build/release/bin/convae)")
    parser.add_argument("--data", type=pathlib.Path, default=ROOT / "data/samples",
                        help="folder of photographs for loading and training "
                             "(default: data/samples)")
    parser.add_argument("--cifar", type=pathlib.Path,
                        help="folder of 32x32 images, for rows of its own")
    parser.add_argument("--quick", action="store_true",
                        help="in five minutes: one turn, fewer rounds and epochs")
    parser.add_argument("--repeats", type=int, help="turns (default: 3, or 1)")
    parser.add_argument("--epochs", type=int, help="of a training (default: 5, or 3)")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS,
                        help="some rows only (default: all)")
    arguments = parser.parse_args()
    arguments.repeats = arguments.repeats or (1 if arguments.quick else 3)
    arguments.epochs = arguments.epochs or (3 if arguments.quick else 5)
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
    table = Table()
    with tempfile.TemporaryDirectory(prefix="convae-bench-") as scratch:
        bench = Bench(arguments, pathlib.Path(scratch))
        for speed in speeds(arguments.quick):
            if speed.kind in arguments.only:
                measure_speed(bench, speed, table)
        for folder in folders(arguments):
            if ("loading" if folder.loading else "training") in arguments.only:
                measure_folder(bench, folder, table)
        if "peak" in arguments.only:
            measure_peak(bench, table)
    print_column(table, arguments)
    return 1 if "failed" in str(table) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
