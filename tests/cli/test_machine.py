"""The machine around a run: memory limits of control groups, how much of files is read, SIGUSR1."""

import os
import pathlib
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
from PIL import Image

from convae_program import ONE_CORE, picture, wait_until

TINY = ("--levels", "4", "--batch-size", "2", *ONE_CORE)
LIMIT = 700 << 20


@pytest.fixture
def small_group():
    """Words that start a program in a control group with LIMIT bytes of memory."""
    for root, limit in [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
                        ("/sys/fs/cgroup", "memory.max")]:
        group = pathlib.Path(root) / f"convae-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit).write_text(str(LIMIT))
        except OSError:
            group.rmdir()
            continue
        yield ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
        for _ in range(100):
            try:
                group.rmdir()
                return
            except OSError:  # the last process is still going away
                time.sleep(0.02)
        return
    pytest.skip("NO MEMORY LIMIT TESTED: no control group can be made here (that takes root and a "
                "writable /sys/fs/cgroup)")


def test_more_images_than_a_groups_memory_holds_train_within_it(program, small_group, tmp_path):
    folder = tmp_path / "noise"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(8):  # 300 files, 900 MB decoded
        pixels = rng.integers(0, 256, (1000, 1000, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png", compress_level=0)
    for index in range(8, 300):
        os.link(folder / f"{index % 8}.png", folder / f"{index}.png")
    words = [program.path, "train", "--data", str(folder), "--max-steps", "2", "--val-split", "0.01",
             "--batch-size", "4"]
    result = subprocess.run(small_group + words, cwd=tmp_path, capture_output=True, text=True,
                            timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "memory is short (0." in result.stderr


def read_in_all(program, words, cwd):
    """Bytes that a call asked the system for."""
    process = program.start(*words, cwd=cwd, stderr=subprocess.DEVNULL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    try:
        counts = dict(line.split(": ") for line in
                      pathlib.Path(f"/proc/{process.pid}/io").read_text().splitlines())
    except OSError:
        pytest.skip("the system does not say what a process read")
    finally:
        process.communicate()
    assert process.returncode == 0
    return int(counts["rchar"])


def test_headers_are_read_by_a_few_kilobytes_and_once(program, tmp_path):
    folder = tmp_path / "large"
    folder.mkdir()
    pixels = picture(600, 600)
    pixels[:300] //= 9  # dark and bright also when it is small: then no more images are looked at
    Image.fromarray(pixels).save(folder / "000.png", compress_level=0)  # 1 MB
    count = 40
    for index in range(1, count):
        os.link(folder / "000.png", folder / f"{index:03}.png")
    words = ["train", "--val-split", "0", "--size", "16", *TINY, "--epochs", "1", "--batch-size", "100",
             "--cache", "ram", "--data"]
    first = read_in_all(program, [*words, "large"], tmp_path)
    second = read_in_all(program, [*words, "large"], tmp_path)
    # Each decodes every image once, and what is left is what the second need not read again.
    assert count * 8_000 < first - second < count * 20_000
    assert len(list((tmp_path / "runs/.index").iterdir())) == 1
    assert not (folder / ".index").exists()
    # Commands find it beside the run of their checkpoint.
    words = ["encode", "--checkpoint", "runs/large", "--data", "large", "--pool", "mean", *ONE_CORE, "-o"]
    known = read_in_all(program, [*words, "known.npy"], tmp_path)
    shutil.rmtree(tmp_path / "runs/.index")
    unknown = read_in_all(program, [*words, "unknown.npy"], tmp_path)
    assert count * 8_000 < unknown - known < count * 20_000


def test_sigusr1_before_the_training_ends_nothing(program, photos, tmp_path):
    process = program.start("train", "--data", photos, *TINY, "--name", "r", cwd=tmp_path)
    status = pathlib.Path(f"/proc/{process.pid}/status")
    while not int(status.read_text().split("SigIgn:")[1].split()[0], 16) >> signal.SIGUSR1 - 1 & 1:
        assert process.poll() is None, "it has not been ignored from the start"
    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_sigusr1_saves_and_the_run_goes_on_until_a_hang_up_ends_it(program, photos, tmp_path):
    process = program.start("train", "--data", photos, *TINY, "--epochs", "1000000", "--name", "r",
                            "--log-level", "info", cwd=tmp_path)
    last = tmp_path / "runs/r/weights/last.safetensors"
    log = tmp_path / "runs/r/train.log"
    wait_until(last.exists, process)
    assert pathlib.Path(f"/proc/{process.pid}/comm").read_text() == "convae\n", "pgrep would not find it"
    process.send_signal(signal.SIGUSR1)
    wait_until(lambda: "saved at step" in log.read_text(), process)
    assert process.poll() is None
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert process.returncode == 129
    program.run("info", "runs/r", cwd=tmp_path)
