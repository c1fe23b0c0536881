import pathlib
import sys

import pytest
import torch

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from convae_program import Program  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def program():
    return Program()
