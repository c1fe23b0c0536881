"""Runs that are killed, crowded out, or lose their disk: nothing that was saved is lost."""

import os
import random
import resource
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from convae_program import ONE_CORE, snapshot, wait_until

LAST = "weights/last.safetensors"
TINY = ("--levels", "4,8", "--batch-size", "4", "--val-split", "0", *ONE_CORE)

# CONVAE_KILLS=100 is the long form of the kill test.
KILLS = int(os.environ.get("CONVAE_KILLS", "6"))


def checkpoints(run):
    return sorted((run / "weights").glob("*.safetensors"))


def assert_all_readable(program, run, cwd):
    for path in checkpoints(run):
        program.run("info", path, cwd=cwd)


def test_killed_again_and_again_the_run_ends_as_if_it_never_had_been(program, many, tmp_path):
    """SIGKILL at random moments from the first second on, each time going on from `last`."""
    options = ["--data", many, *TINY, "--epochs", str(25 * KILLS), "--save-minutes", "0.001"]
    program.run("train", *options, "--name", "calm", cwd=tmp_path, timeout=20 * KILLS + 100)
    draw = random.Random(1)
    run = tmp_path / "runs" / "killed"
    landed = 0
    for _ in range(10 * KILLS):
        going_on = (run / LAST).exists()
        if not going_on:
            shutil.rmtree(run, ignore_errors=True)
        words = ["--resume", run] if going_on else [*options, "--name", "killed"]
        process = program.start("train", *words, cwd=tmp_path)
        time.sleep(draw.uniform(0.0, 1.2))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        landed += process.returncode == -signal.SIGKILL
        assert_all_readable(program, run, tmp_path)
        if landed >= KILLS or process.returncode == 0:
            break
    assert landed >= 1
    if not (run / LAST).exists():
        program.run("train", *options, "--name", "killed", cwd=tmp_path, timeout=20 * KILLS + 100)
    else:
        program.run("train", "--resume", run, cwd=tmp_path, timeout=20 * KILLS + 100)
    calm, killed = (load_file(tmp_path / "runs" / name / LAST) for name in ("calm", "killed"))
    assert calm.keys() == killed.keys()
    for name in calm:
        assert np.array_equal(calm[name], killed[name]), name


def test_two_processes_do_not_share_a_run(program, many, tmp_path):
    process = program.start("train", "--data", many, *TINY, "--epochs", "1000000", cwd=tmp_path)
    run = tmp_path / "runs" / "many"
    wait_until((run / "metrics.csv").exists, process)
    second = program.call("train", "--resume", run, "--epochs", "2000000", cwd=tmp_path)
    second.assert_refused(1, "another process is working on the run", "many")
    process.kill()
    process.communicate()
    # The lock of a killed process does not outlive it.
    program.run("train", "--resume", run, "--max-steps", "1", cwd=tmp_path)


def test_a_second_interrupt_ends_the_program_at_once_without_harm(program, many, tmp_path):
    process = program.start("train", "--data", many, *TINY, "--epochs", "1000000", cwd=tmp_path)
    run = tmp_path / "runs" / "many"
    wait_until((run / "metrics.csv").exists, process)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert_all_readable(program, run, tmp_path)


def test_a_run_outlives_the_reader_of_its_log(program, many, tmp_path):
    process = program.start("train", "--data", many, *TINY, "--epochs", "100", cwd=tmp_path)
    wait_until((tmp_path / "runs" / "many" / "metrics.csv").exists, process)
    process.stderr.close()
    assert "100 epochs" in process.stdout.read()
    assert process.wait(timeout=60) == 0


def test_a_run_folder_that_disappears_ends_the_run_with_a_clear_line(program, many, tmp_path):
    process = program.start("train", "--data", many, *TINY, "--epochs", "1000000", cwd=tmp_path)
    run = tmp_path / "runs" / "many"
    wait_until((run / "metrics.csv").exists, process)
    # Files may be appearing while the folder is taken away.
    while run.exists():
        shutil.rmtree(run, ignore_errors=True)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert [line for line in stderr.splitlines() if line.startswith("convae: ")] == [
        "convae: the run folder 'runs/many' is gone; there is nowhere to save to"]


def test_a_run_does_not_write_into_another_that_took_its_place(program, many, tmp_path):
    run, other = tmp_path / "runs" / "many", tmp_path / "runs" / "other"
    program.run("train", "--data", many, *TINY, "--epochs", "1", "--name", "other", cwd=tmp_path)
    before = snapshot(other)
    # An epoch takes longer than it takes to save, and the folder is not moved amid saving.
    process = program.start("train", "--data", many, *TINY, "--size", "384", "--levels", "16,32", "--epochs", "50",
                            cwd=tmp_path)
    while "epoch 1/50" not in process.stderr.readline():
        assert process.poll() is None
    while (run / "report.html").stat().st_mtime_ns < (run / "metrics.csv").stat().st_mtime_ns:
        assert process.poll() is None
    run.rename(tmp_path / "runs" / "kept")
    other.rename(run)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "convae: the run folder 'runs/many' is gone; there is nowhere to save to" in stderr.splitlines()
    assert snapshot(run) == before
    assert_all_readable(program, tmp_path / "runs" / "kept", tmp_path)


def limited(program, bytes_a_file, *args, cwd):
    """The program under a limit on file sizes: writing fails as it does on a full disk."""
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_a_file, bytes_a_file))
    return subprocess.run([program.path, *map(str, args)], cwd=cwd, text=True, capture_output=True,
                          preexec_fn=limit, timeout=120)


def test_without_room_to_save_the_run_goes_on_keeps_what_there_was_and_fails(program, many, tmp_path):
    program.run("train", "--data", many, *TINY, "--epochs", "2", cwd=tmp_path)
    run = tmp_path / "runs" / "many"
    before = {path.name: path.read_bytes() for path in checkpoints(run)}
    result = limited(program, 8192, "train", "--resume", run, "--epochs", "5", cwd=tmp_path)
    assert result.returncode == 1
    assert "File too large; the run goes on" in result.stderr
    assert "epoch 5/5" in result.stderr and "· best" not in result.stderr
    complaints = [line for line in result.stderr.splitlines() if line.startswith("convae: ")]
    assert len(complaints) == 1
    assert complaints[0].startswith("convae: the last state of the run could not be saved: ")
    assert {path.name: path.read_bytes() for path in checkpoints(run)} == before
    assert not list(run.rglob("*.tmp*"))
    # With room again, the run goes on and its table is complete.
    program.run("train", "--resume", run, "--epochs", "5", cwd=tmp_path)
    assert len((run / "metrics.csv").read_text().splitlines()) == 1 + 5


def test_a_batch_that_memory_cannot_hold_is_refused_with_numbers(convae, tmp_path):
    folder = tmp_path / "large"
    folder.mkdir()
    Image.new("L", (4000, 4000)).save(folder / "a.png")
    result = convae("train", "--data", folder, "--levels", "8192:k1s1p0", "--val-split", "0")
    result.assert_refused(1, "a batch of 1 images of 4000x4000 needs at least", "GB are free",
                          "--size")
    assert not (tmp_path / "runs").exists()


def rows(run):
    path = run / "metrics.csv"
    return len(path.read_text().splitlines()) - 1 if path.exists() else 0


def resident_kb(process):
    status = open(f"/proc/{process.pid}/status").read()
    return int(status.split("VmRSS:")[1].split()[0])


def test_two_hundred_epochs_take_no_more_memory_or_files_than_fifty(program, squares, tmp_path):
    process = program.start("train", "--data", squares, *TINY, "--epochs", "1000000", "--save-every",
                            "10", cwd=tmp_path)
    run = tmp_path / "runs" / "squares"
    seen = {}
    for epochs in (50, 200):
        wait_until(lambda: rows(run) >= epochs, process, seconds=600)
        seen[epochs] = resident_kb(process), len(os.listdir(f"/proc/{process.pid}/fd"))
    process.kill()
    process.communicate()
    assert seen[200][1] <= seen[50][1] + 1  # one more where a file is just being written
    assert seen[200][0] <= seen[50][0] * 1.05


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_output_folder_is_named(convae, many, tmp_path):
    runs = tmp_path / "runs"
    runs.mkdir()
    runs.chmod(0o555)
    convae("train", "--data", many, *TINY).assert_refused(1, "cannot create the folder", "runs")


def test_a_run_that_cannot_even_begin_says_so_and_leaves_latest_where_it_was(program, many, tmp_path):
    program.run("train", "--data", many, *TINY, "--epochs", "1", "--name", "good", cwd=tmp_path)
    result = limited(program, 1024, "train", "--data", many, *TINY, "--name", "bad", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("convae: cannot write ")
    assert os.readlink(tmp_path / "runs" / "latest") == "good"
    assert not (tmp_path / "runs" / "bad").exists()


def test_options_given_to_a_resume_outlive_a_kill(program, many, tmp_path):
    program.run("train", "--data", many, *TINY, "--epochs", "1", cwd=tmp_path)
    last = tmp_path / "runs" / "many" / LAST
    before = last.stat().st_mtime_ns
    process = program.start("train", "--resume", "runs/many", "--epochs", "1000000", cwd=tmp_path)
    wait_until(lambda: last.stat().st_mtime_ns != before, process)
    process.kill()
    process.communicate()
    again = program.start("train", "--resume", "runs/many", cwd=tmp_path)
    time.sleep(1)
    assert again.poll() is None, "it took the run for finished"
    again.kill()
    again.communicate()


def test_left_over_temporary_files_go_with_the_next_resume(program, many, tmp_path):
    program.run("train", "--data", many, *TINY, "--epochs", "1", cwd=tmp_path)
    left = tmp_path / "runs" / "many" / "weights" / ".last.safetensors.tmp-1-1"
    left.write_bytes(b"half")
    program.run("train", "--resume", "runs/many", "--epochs", "2", cwd=tmp_path)
    assert not left.exists()
