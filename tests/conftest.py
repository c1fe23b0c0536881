"""For all tests: where their files are, and the program."""

import os
import shutil

import pytest

from convae_program import Program

# Runs save often, and a disk is slow to confirm it. The files of all tests take about 1 GB.
MEMORY, ROOM = "/dev/shm", 4 << 30
if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)


@pytest.fixture(scope="session")
def program():
    return Program()
