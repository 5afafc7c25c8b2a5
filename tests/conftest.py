"""Every test runs torch on one thread: on a busy machine more threads wait for each other."""

import os
import sys
from collections.abc import Iterator

import pytest
import torch

torch.set_num_threads(1)

for _name in ("CI", "BUILD_NUMBER"):  # with them pytest prints longer lines than its user at a terminal sees
    os.environ.pop(_name, None)


@pytest.fixture(autouse=True)
def _nothing_is_compiled() -> Iterator[None]:
    """A process that compiles is not traced, so what one test compiles must not be left to the next one."""
    yield
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
