"""scripts/gpu-check: installs a wheel beside this Python's torch, tests it on a device, and measures
a training step and a whole run beside PyTorch's."""

import argparse
import csv
import importlib.metadata
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

try:
    import numpy as np
    import safetensors  # noqa: F401, for the tests
    from PIL import Image
except ImportError as lacking:
    sys.exit(f"gpu-check: this Python has no {lacking.name}; it needs torch, numpy, Pillow and safetensors")

ROOT = pathlib.Path(__file__).resolve().parents[2]
# The default network; what a training step of it is measured on.
INPUTS = [(256, 128), (64, 256)]
NETWORK = ["--order", "conv-act-bn", "--activation", "relu"]


def say(text):
    print(f"gpu-check: {text}", flush=True)


def matching_wheel(named):
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        sys.exit("gpu-check: this Python has no torch; PYTHON=/path names another")
    short = ".".join(version.split(".")[:2])
    wheels = [pathlib.Path(named)] if named else sorted((ROOT / "build/wheels").glob(f"*torch{short}-*.whl"))
    if not wheels:
        sys.exit(f"gpu-check: build/wheels has no wheel for torch {version}; where there is a compiler:"
                 f" TORCH_VERSION={short}.0 scripts/package --wheel")
    say(f"{wheels[-1].name}, torch {version}")
    return wheels[-1]


class Convae:
    def __init__(self, site):
        self.program = site / "bin/convae"
        self.environment = os.environ | {"PYTHONPATH": str(site), "CONVAE": str(self.program)}

    def run(self, *words):
        done = subprocess.run([self.program, *map(str, words)], env=self.environment,
                              capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError((done.stderr or done.stdout).strip().splitlines()[-1])
        return done.stdout


def install(wheel, site):
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index",
                    "--target", site, wheel], check=True)
    return Convae(site)


def test(convae, device, output):
    done = subprocess.run([sys.executable, "-m", "unittest", "-v", ROOT / "tests/gpu/test_device.py"],
                          env=convae.environment | {"CONVAE_DEVICE": device}, cwd=ROOT / "tests/gpu",
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    (output / "tests.txt").write_text(done.stdout)
    for line in done.stdout.splitlines():
        if re.search(r" \.\.\. |^(Ran|OK|FAILED)", line):
            print(f"  {line}")
    return done.returncode == 0


def measured(work):
    """What it gives, or why it gives nothing: one failure leaves the other rows."""
    try:
        return work()
    except (RuntimeError, subprocess.CalledProcessError, ValueError, OSError) as error:
        say(f"failed: {error}")
        return None


def step(convae, device, precision, images, size, rounds):
    result = json.loads(convae.run("bench", "--input", f"3x{size}x{size}", "--batch-size", images,
                                   *NETWORK, "--precision", precision, "--device", device,
                                   "--rounds", rounds, "--json"))
    return result["training_step_ms"]


def peer_step(device, precision, images, size, rounds):
    done = subprocess.run([sys.executable, ROOT / "bench/peer_speed.py", "training", "--compiled",
                           "--input", f"{images}x3x{size}x{size}", "--device", device,
                           "--precision", precision, "--rounds", str(rounds),
                           "--threads", str(len(os.sched_getaffinity(0)))],
                          capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"PyTorch: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])["ms"]


def draw_photographs(folder, count):
    random = np.random.default_rng(0)
    folder.mkdir()
    y, x = np.mgrid[:256, :256]
    for i in range(count):
        a, b, c, d = random.uniform(0.01, 0.2, 4)
        waves = np.stack([np.sin(a * x + b * y), np.cos(c * x - d * y), np.sin(d * x)], -1)
        noisy = 128 + 80 * waves + random.normal(0, 12, (256, 256, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{i:05}.jpg", quality=90)


def whole_run(convae, device, precision, place, count):
    """Images a second, in the epoch that decodes and in those that find the images in memory."""
    if not (place / "photographs").exists():
        draw_photographs(place / "photographs", count)
    convae.run("train", "--data", place / "photographs", "--size", 128, "--batch-size", 256,
               "--epochs", 4, "--val-split", 0, "--precision", precision, "--device", device,
               "--output", place / "runs", "--name", precision, *NETWORK)
    with open(place / "runs" / precision / "metrics.csv") as file:
        speeds = [float(row["images_per_s"]) for row in csv.DictReader(file)]
    return speeds[0], sorted(speeds[1:])[1]


def measure(convae, device, quick, place):
    rounds, shrink = (3, 32) if quick else (50, 1)
    rows = []
    for precision in ("fp32", "bf16") if device == "cpu" else ("fp32", "tf32", "bf16"):
        for images, size in INPUTS:
            images //= shrink
            ours = measured(lambda: step(convae, device, precision, images, size, rounds))
            theirs = measured(lambda: peer_step(device, precision, images, size, rounds))
            rows.append({"what": f"training step, {images}x3x{size}x{size}, {precision}",
                         "convae_images_per_s": ours and 1000 * images / ours,
                         "peer": "torch.compile, channels_last, fused Adam",
                         "peer_images_per_s": theirs and 1000 * images / theirs})
        speeds = measured(lambda: whole_run(convae, device, precision, place, 256 if quick else 8192))
        for name, speed in zip(("first epoch, decoding", "later epochs"), speeds or ()):
            rows.append({"what": f"JPEG 256x256 to 128x128, {precision}, {name}",
                         "convae_images_per_s": speed, "peer": None, "peer_images_per_s": None})
    return rows


def table(rows):
    def number(value):
        return f"{value:,.0f}" if value else ""

    lines = ["| what | convae, images/s | PyTorch, images/s | ratio |", "|---|---:|---:|---:|"]
    for row in rows:
        ours, theirs = row["convae_images_per_s"], row["peer_images_per_s"]
        ratio = f"{ours / theirs:.2f}" if ours and theirs else ""
        lines.append(f"| {row['what']} | {number(ours)} | {number(theirs)} | {ratio} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(prog="scripts/gpu-check", description=__doc__)
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "build/gpu-check")
    parser.add_argument("--wheel", help="default: the one in build/wheels for this Python's torch")
    parser.add_argument("--device", help="default: cuda where torch finds one, else cpu")
    parser.add_argument("--quick", action="store_true", help="small batches and few rounds")
    arguments = parser.parse_args()
    wheel = matching_wheel(arguments.wheel)
    import torch  # after the wheel: it takes seconds
    gpu = torch.cuda.is_available()
    device = arguments.device or ("cuda" if gpu else "cpu")
    name = torch.cuda.get_device_name() if device.startswith("cuda") and gpu else "the processor"
    say(f"device {device}: {name}")
    if device == "cpu":
        say("no GPU: the tests that compare one with the processor are skipped, batches are small")
    start = time.monotonic()
    arguments.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        convae = install(wheel, pathlib.Path(place, "site"))
        passed = test(convae, device, arguments.output)
        rows = measure(convae, device, arguments.quick or device == "cpu", pathlib.Path(place))
    results = {"wheel": wheel.name, "torch": torch.__version__, "device": device, "name": name,
               "cores": len(os.sched_getaffinity(0)), "tests_passed": passed, "speed": rows,
               "seconds": round(time.monotonic() - start)}
    (arguments.output / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (arguments.output / "table.md").write_text(f"{name}, torch {torch.__version__}\n\n" + table(rows))
    print(table(rows))
    say(f"{'passed' if passed else 'FAILED'} in {results['seconds']} s; see {arguments.output}")
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
