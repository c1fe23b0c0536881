"""Several processes that train one network, through a real mpirun on this machine."""

import os
import pathlib
import shutil
import signal
import subprocess
import time
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file

from convae_program import (MPIRUN, ONE_CORE, assert_same_tensors, needs_mpi, rank_processes, read_csv,
                            save_pictures, snapshot, wait_until, with_ranks)

LAST = "weights/last.safetensors"
# SGD: Adam makes whole steps of rounding errors where a gradient is nearly zero.
SMALL = ("--levels", "4,8", "--optimizer", "sgd", "--lr", "0.05", "--epochs", "3", "--batch-size",
         "4", "--report", "false", *ONE_CORE)


@pytest.fixture
def train(program, tmp_path):
    def run(size, *args):
        return with_ranks(program, size).run("train", *args, cwd=tmp_path)
    return run


def start_and_wait(program, folder, *args):
    """A running job after its first epoch."""
    process = program.start("train", *args, cwd=folder)
    wait_until((folder / "runs/job/metrics.csv").exists, process)
    return process


def is_running(pid):
    try:
        return (pathlib.Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def assert_close(a, b, tolerance=1e-4):
    """Every tensor, measured by its own largest value."""
    left, right = load_file(a), load_file(b)
    assert left.keys() == right.keys()
    for name, value in left.items():
        scale = max(np.abs(value).max(), 1e-3)
        assert np.abs(value - right[name]).max() <= tolerance * scale, name


@needs_mpi
@pytest.mark.parametrize("size, extra", [
    (2, ()), (4, ()), (3, ("--batch-size", 5)), (3, ("--batch-size", 2, "--epochs", 1)),
    (2, ("--size", 16, "--latent", 4, "--variational", "--batch-size", 5)),
    (2, ("--norm", "group", "--clip-grad", 0.1)),
    (2, ("--levels", "4:r1,8", "--shortcut", "shuffle", "--skip", "add", "--corrupt", "noise:0.1"))],
    ids=["two", "four", "three", "idle", "variational", "clipped", "shortcuts"])
def test_ranks_train_as_one_process_does(train, photos, tmp_path, size, extra):
    """Sizes are mixed, batches uneven, and some ranks have no image of a step."""
    for ranks in (1, size):
        result = train(ranks, "--data", photos, "--val-split", 0.3, "--name", ranks, *SMALL, *extra)
    assert any(f"{size} ranks · Open MPI" in line for line in result.logs), result.stderr
    one, several = tmp_path / "runs/1", tmp_path / f"runs/{size}"
    assert_close(one / LAST, several / LAST)
    for row, other in zip(read_csv(one / "metrics.csv"), read_csv(several / "metrics.csv"), strict=True):
        for name in ("train_loss", "val_loss", "val_psnr", "val_ssim"):
            assert float(row[name]) == pytest.approx(float(other[name]), rel=1e-4), name
    names = [[row["path"] for row in read_csv(run / "validation.csv")] for run in (one, several)]
    assert names[0] == names[1] and len(names[0]) > 2
    # One writer: one log, one folder.
    assert sorted(path.name for path in (tmp_path / "runs").iterdir() if path.name[0] != ".") == sorted(
        ["1", str(size), "latest"])
    assert (several / "train.log").read_text().count("run folder") == 1


@needs_mpi
@pytest.mark.parametrize("optimizer, levels", [("adam", "4,8"), ("muon", "8,12,8")])
def test_adam_and_muon_stay_close_for_fifty_steps(train, squares, tmp_path, optimizer, levels):
    for ranks in (1, 2):
        train(ranks, "--data", squares, "--val-split", 0, "--name", ranks, *SMALL, "--levels", levels,
              "--optimizer", optimizer, "--lr", "1e-3", "--epochs", 25, "--save-every", 0)
    assert_close(tmp_path / "runs/1" / LAST, tmp_path / "runs/2" / LAST)


@needs_mpi
def test_stopped_job_goes_on_bit_for_bit_and_with_other_ranks(train, photos, tmp_path):
    base = ("--data", photos, "--val-split", 0.2, "--schedule", "constant", *SMALL)
    train(2, *base, "--name", "whole")
    for name in ("same", "more"):
        train(2, *base, "--name", name, "--max-steps", 4)  # within the second epoch
    train(2, "--resume", "runs/same", "--epochs", 3)
    train(3, "--resume", "runs/more", "--epochs", 3)
    runs = tmp_path / "runs"
    assert_same_tensors(runs / "whole" / LAST, runs / "same" / LAST)
    assert_close(runs / "whole" / LAST, runs / "more" / LAST)


@needs_mpi
def test_bad_files_of_any_rank_are_left_out_by_all(train, program, tmp_path):
    folder = save_pictures(tmp_path / "in", [(24, 24)] * 11)
    for name in ("002.png", "007.png"):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[:len(data) * 2 // 3])
    for ranks in (1, 3):
        result = train(ranks, "--data", folder, "--val-split", 0, "--name", ranks, *SMALL)
        assert "2 images skipped" in result.stdout
    one, several = tmp_path / "runs/1", tmp_path / "runs/3"
    assert_close(one / LAST, several / LAST)
    skipped = [sorted(row["path"] for row in read_csv(run / "skipped.csv")) for run in (one, several)]
    assert skipped[0] == skipped[1] == ["002.png", "007.png"]
    refused = with_ranks(program, 3).call("train", "--data", folder, "--val-split", 0, "--name", "strict",
                                          *SMALL, "--skip-bad", "false", cwd=tmp_path)
    assert refused.code == 1
    assert any(line.startswith("convae: ") and ".png" in line for line in refused.complaints), refused


@needs_mpi
def test_a_killed_rank_ends_the_job_and_auto_goes_on(program, photos, train, tmp_path):
    words = ("--data", photos, "--name", "job", "--resume", "auto", *SMALL)
    process = start_and_wait(with_ranks(program, 2), tmp_path, *words, "--epochs", 100000)
    pids = rank_processes(process)
    assert sorted(pids) == [0, 1]
    os.kill(pids[1], signal.SIGKILL)
    process.communicate(timeout=30)
    assert process.returncode != 0
    deadline = time.monotonic() + 30
    while any(is_running(pid) for pid in pids.values()):  # mpirun does not wait for the last
        assert time.monotonic() < deadline
        time.sleep(0.05)
    program.run("info", tmp_path / "runs" / "job" / LAST, cwd=tmp_path)
    done = len(read_csv(tmp_path / "runs" / "job" / "metrics.csv"))
    result = train(2, *words, "--epochs", done + 1)
    assert f"runs/job: {done + 1} epochs" in result.stdout
    assert not (tmp_path / "runs" / "job-2").exists()


@needs_mpi
@pytest.mark.parametrize("whom", ["all", "one"])
def test_a_stop_signal_saves_and_ends_all_ranks(program, photos, tmp_path, whom):
    words = ("--data", photos, "--name", "job", *SMALL, "--epochs", 100000)
    process = start_and_wait(with_ranks(program, 2), tmp_path, *words)
    pids = rank_processes(process)
    os.kill(process.pid if whom == "all" else pids[1], signal.SIGTERM)
    _, log = process.communicate(timeout=30)
    # Open MPI's own code for a job that it was told to end is 1.
    assert process.returncode == (1 if whom == "all" else 143), log
    assert log.count("stopped at step") == 1, log
    program.run("info", tmp_path / "runs" / "job" / LAST, cwd=tmp_path)


@needs_mpi
def test_what_goes_wrong_is_said_once(program, photos, tmp_path):
    diverging = ("--levels", 4, "--norm", "none", "--output-activation", "linear", "--optimizer", "sgd", "--lr", 1e30)
    for code, words in ((1, ("train", "--data", photos, "-o", tmp_path / "begun", *diverging, *ONE_CORE)),
                        (2, ("train", "--data", photos, "--lr", "fast")),
                        (2, ("train", "--data", photos, "--device", "cuda")),
                        (1, ("train", "--data", tmp_path / "nothing")),
                        (1, ("evaluate", "--checkpoint", "x", "--data", photos)),
                        (1, ("decode", "--checkpoint", "x", "--latents", "x.npy", "-o", "out"))):
        result = with_ranks(program, 2).call(*words, cwd=tmp_path)
        assert result.code == code, result
        said = [line for line in result.complaints if line.startswith("convae: ")]
        assert len(said) == 1 and "rank" not in said[0], result.stderr
    assert "decode works in one process" in said[0]
    assert list(tmp_path.iterdir()) == [tmp_path / "begun"]


def call_with(program, environment, *args, cwd):
    return subprocess.run([program.path, *map(str, args)], cwd=cwd, text=True, capture_output=True,
                          env={**os.environ, **environment}, timeout=60)


def test_ranks_without_a_connection_are_refused(program, photos, tmp_path):
    """Never several programs that write one folder."""
    slurm = {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "4"}
    torchrun = {"TORCHELASTIC_RUN_ID": "none", "RANK": "0", "WORLD_SIZE": "2"}
    words = ("train", "--data", photos, *SMALL)
    result = call_with(program, torchrun, *words, cwd=tmp_path)
    assert result.returncode == 1 and "mpirun -n 2 convae train" in result.stderr
    # A program without its module beside it.
    bare = tmp_path / "bin" / "convae"
    bare.parent.mkdir()
    shutil.copy(program.path, bare)
    result = call_with(SimpleNamespace(path=str(bare)), slurm, *words, cwd=tmp_path)
    assert result.returncode == 1
    assert "started as 4 processes by srun" in result.stderr and "libopenmpi-dev" in result.stderr
    if MPIRUN is not None:
        result = call_with(program, slurm, *words, cwd=tmp_path)
        assert result.returncode == 1 and "srun --mpi=pmix" in result.stderr, result.stderr
    assert not (tmp_path / "runs").exists()


def test_auto_starts_goes_on_and_ends(done, convae, photos, tmp_path):
    words = ("train", "--data", photos, "--name", "job", "--resume", "auto", *SMALL)
    assert "1 epochs" in done(*words, "--epochs", 1).stdout
    assert any("resuming" in line and "runs/job" in line for line in done(*words).logs)
    before = snapshot(tmp_path / "runs" / "job")
    assert "is finished" in done(*words).stdout
    assert snapshot(tmp_path / "runs" / "job") == before
    (tmp_path / "runs" / "job" / LAST).unlink()
    convae(*words).assert_refused(1, "runs/job", "holds no weights/last.safetensors")
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [".index", "job", "latest"]
    convae("train", "--data", photos, "--name", "..", "--resume", "auto", *SMALL).assert_refused(2, "--name '..'")


def test_auto_begins_what_was_killed_while_it_began(done, convae, photos, tmp_path):
    words = ("train", "--data", photos, "--name", "job", "--resume", "auto", "--epochs", 1, *SMALL)
    run = tmp_path / "runs" / "job"
    (run / "weights").mkdir(parents=True)
    (run / "samples").mkdir()
    (run / "weights/.last.safetensors.tmp-12-3").write_bytes(b"half")
    for name in ("commands.txt", "config.toml", "train.log"):
        (run / name).write_text("of a process that was killed\n")
    (run / "notes.txt").write_text("mine")
    convae(*words).assert_refused(1, "runs/job", "holds no weights/last.safetensors")
    assert len(snapshot(run)) == 5
    (run / "notes.txt").unlink()
    done(*words)
    assert (run / LAST).is_file() and "killed" not in (run / "commands.txt").read_text()
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [".index", "job", "latest"]


def test_threads_come_from_the_environment(program, photos, tmp_path):
    words = ("train", "--data", photos, "--max-steps", 1, "--levels", "4", "--report", "false")
    assert "3 compute threads" in call_with(program, {"OMP_NUM_THREADS": "3"}, *words, cwd=tmp_path).stderr
    result = call_with(program, {"OMP_NUM_THREADS": "3"}, *words, "--threads", 2, cwd=tmp_path)
    assert "2 compute threads" in result.stderr


@needs_mpi
def test_ranks_choose_batch_size_and_rate_together(program, train, tmp_path):
    save_pictures(tmp_path / "data", [(16, 16)] * 24)
    common = ("--data", "data", "--levels", "4,8", "--epochs", 2, "--batch-size", "auto", "--lr", "auto", *ONE_CORE)
    train(1, *common, "--name", "alone")
    train(2, *common, "--name", "both")
    alone, both = ((tmp_path / "runs" / name / "config.toml").read_text() for name in ("alone", "both"))
    chosen = [line for line in alone.splitlines() if line.startswith(("batch-size", "lr "))]
    assert len(chosen) == 2 and all(line in both.splitlines() for line in chosen)
    assert len(read_csv(tmp_path / "runs" / "both" / "metrics.csv")) == 2


@needs_mpi
def test_a_linear_path_is_the_same_on_every_rank(train, tmp_path):
    save_pictures(tmp_path / "data", [(12, 17)] * 16)
    common = ("--data", "data", "--size", "12x17", "--latent", 3, "--linear", "pca", *SMALL)
    for size in 1, 2:
        train(size, *common, "--name", f"of-{size}")
    alone, both = (load_file(tmp_path / "runs" / f"of-{size}" / LAST) for size in (1, 2))
    for name, tensor in alone.items():
        assert np.allclose(tensor, both[name], rtol=1e-4, atol=1e-6), name


@needs_mpi
def test_a_given_time_is_for_one_process(program, tmp_path):
    save_pictures(tmp_path / "data", [(16, 16)] * 8)
    result = with_ranks(program, 2).call("train", "--data", "data", "--time", "5s", *ONE_CORE, cwd=tmp_path)
    assert result.code != 0 and "--time is for one process" in result.stderr
    assert not (tmp_path / "runs").exists()
