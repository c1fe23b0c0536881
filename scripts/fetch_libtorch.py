"""Installs torch for its C++ libraries, with pip, into the environment that runs this:
fetch_libtorch.py VERSION [--to-link]. Says beforehand how much comes.

The C++ libraries need none of torch's Python packages. Those of a CUDA build need NVIDIA's to start,
but not to link: --to-link leaves them out. TORCH_INDEX=URL is handed to pip as its index."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "install"]
INDEX = ["--index-url", os.environ["TORCH_INDEX"]] if os.environ.get("TORCH_INDEX") else []


def plan(*words):
    """What pip would install: [(name==version, address, what it requires)]."""
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder, "report.json")
        done = subprocess.run([*PIP, *INDEX, "--dry-run", "--ignore-installed", "--report", report, *words],
                              stderr=subprocess.PIPE, text=True)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            sys.exit(f"setup: pip: {errors[-1] if errors else done.stderr.strip()}")
        packages = json.loads(report.read_text())["install"]
    return [("{name}=={version}".format(**package["metadata"]), package["download_info"]["url"],
             " ".join(package["metadata"].get("requires_dist", []))) for package in packages]


def size(address):
    """In bytes; 0 where the server does not say."""
    try:
        if address.startswith("file:"):
            return os.path.getsize(urllib.request.url2pathname(address.removeprefix("file://")))
        request = urllib.request.Request(address, method="HEAD")
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.headers.get("Content-Length", 0))
    except OSError:
        return 0


def main():
    wanted = f"torch=={sys.argv[1]}"
    packages = plan("--no-deps", wanted)
    cuda = "nvidia" in packages[0][2] or "cuda" in packages[0][2]
    if cuda and "--to-link" not in sys.argv:
        packages = [package for package in plan(wanted) if package[0].startswith(("torch==", "nvidia-"))]
    sizes = [size(address) for _, address, _ in packages]
    much = f"{sum(sizes) / 1e9:.1f} GB" if all(sizes) else "an unknown amount"
    print(f"fetching {packages[0][0]} with pip: {much}", flush=True)
    if cuda:
        print("  this is a build with CUDA; the CPU build takes 0.2 GB: PyTorch's install page names"
              " pip's index for it, give that as TORCH_INDEX=", flush=True)
    subprocess.run([*PIP, *INDEX, "--no-deps", *(name for name, _, _ in packages)], check=True)


main()
