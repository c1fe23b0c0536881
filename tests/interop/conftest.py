import pathlib
import sys

import pytest
import torch

TESTS = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent / "python")]
from convae_program import Program  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def program():
    return Program()
