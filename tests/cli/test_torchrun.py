"""Processes that a real torchrun starts. They are meant for GPUs, by NCCL; here the tests' own module takes its
place, on the processor (tests/training/store_ranks.cpp)."""

import os
import signal
import sys

import pytest

from convae_program import ONE_CORE, Program, rank_processes, read_csv
from test_ranks import LAST, SMALL, assert_close, start_and_wait

RANKS = os.environ.get("CONVAE_STORE_RANKS")
pytestmark = pytest.mark.skipif(not RANKS, reason="CONVAE_STORE_RANKS names no folder")


@pytest.fixture
def torchrun(monkeypatch):
    """The program as torchrun starts it, two at once."""
    monkeypatch.setenv("LD_LIBRARY_PATH", RANKS)
    started = Program(forks=False)

    def with_options(*options):
        started.prefix = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--no-python",
                          "--nproc-per-node", "2", *options]
        return started
    return with_options


def test_trains_and_reconstructs_as_one_process_does(torchrun, program, photos, tmp_path):
    words = ("train", "--data", photos, "--val-split", 0.3, *SMALL)
    program.run(*words, "--name", "one", cwd=tmp_path)
    result = torchrun().run(*words, "--name", "two", cwd=tmp_path)
    assert any("2 ranks · torchrun's store · 1 compute threads each" in line for line in result.logs), result
    assert_close(tmp_path / "runs/one" / LAST, tmp_path / "runs/two" / LAST)
    assert [row["epoch"] for row in read_csv(tmp_path / "runs/two/metrics.csv")] == ["1", "2", "3"]
    made = torchrun().run("reconstruct", "--checkpoint", "runs/two", "--data", photos, "-o", "out", *ONE_CORE,
                          cwd=tmp_path)
    assert len(read_csv(tmp_path / "out/reconstruct.csv")) == len(list(photos.glob("*"))), made


def test_what_goes_wrong_is_said_once(torchrun, photos, tmp_path):
    result = torchrun().call("train", "--data", photos, "--device", "cuda", cwd=tmp_path)
    said = [line for line in result.complaints if line.startswith("convae: ")]
    # A second where torchrun takes longer than a second to end the other rank.
    assert len(said) in (1, 2) and "--device 'cuda'" in said[0] and "torchrun" in said[0], result
    assert result.code != 0 and list(tmp_path.iterdir()) == []


def test_a_killed_rank_is_started_again_and_goes_on(torchrun, photos, tmp_path):
    process = start_and_wait(torchrun("--max-restarts", "1"), tmp_path, "--data", photos, "--name", "job", "--resume",
                             "auto", *SMALL, "--epochs", 30)
    os.kill(rank_processes(process)[1], signal.SIGKILL)
    _, log = process.communicate(timeout=150)
    assert process.returncode == 0, log
    assert "resuming" in log and len(read_csv(tmp_path / "runs/job/metrics.csv")) == 30 and not (tmp_path / "runs/job-2").exists()

