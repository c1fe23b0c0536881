"""The command that a wheel installs, before it starts the program."""

import subprocess
import sys

import pytest

from convae_program import source_dir


@pytest.fixture
def environment(tmp_path):
    """site-packages with a convae whose program prints what it was started with, and a command for
    torch 2.13."""
    program = tmp_path / "convae/bin/convae"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho "$LD_LIBRARY_PATH" "$@"\n')
    program.chmod(0o755)
    (tmp_path / "convae/__init__.py").write_text("raise ImportError('slow: the command must not import it')")
    command = (source_dir() / "python/wheel/convae").read_text().replace("@TORCH@", "2.13")
    (tmp_path / "command").write_text(command)
    return tmp_path


def add_torch(folder, version):
    (folder / "torch/lib").mkdir(parents=True)
    (folder / "torch/__init__.py").write_text("raise ImportError('slow')")
    about = folder / f"torch-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")


def start(*folders):
    path = ":".join(map(str, folders))
    return subprocess.run([sys.executable, "-S", folders[0] / "command", "train", "--data", "my photos"],
                          env={"PYTHONPATH": path}, capture_output=True, text=True)


def test_a_gpu_check_without_its_packages_says_what_it_needs():
    # -S: without site-packages.
    check = subprocess.run([sys.executable, "-S", source_dir() / "tests/gpu/check.py"], env={}, capture_output=True,
                           text=True)
    assert check.returncode == 1
    assert check.stderr == "gpu-check: this Python has no numpy; it needs torch, numpy, Pillow and safetensors\n"


@pytest.mark.parametrize("version", ["2.13.0", "2.13.1+cu130"])
def test_it_starts_the_program_with_a_fitting_torch(environment, version):
    add_torch(environment, version)
    assert start(environment).stdout == " train --data my photos\n"


def test_it_finds_a_torch_elsewhere(environment, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    add_torch(elsewhere, "2.13.0")
    assert start(environment, elsewhere).stdout == f"{elsewhere}/torch/lib train --data my photos\n"


@pytest.mark.parametrize("version", ["2.12.1", "2.1.13", "3.13.0"])
def test_it_names_a_torch_that_does_not_fit(environment, version):
    add_torch(environment, version)
    done = start(environment)
    assert done.returncode == 1
    assert done.stderr.startswith(f"convae: this environment has torch {version}, ")
    assert len(done.stderr.splitlines()) == 1
    assert "pip install 'torch==2.13.*'" in done.stderr


def test_it_says_that_there_is_no_torch(environment):
    done = start(environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "convae: this Python environment has no torch: pip install 'torch==2.13.*'\n"
