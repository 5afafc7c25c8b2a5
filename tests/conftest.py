"""Every test runs torch on one thread: on a busy machine more threads wait for each other."""

import torch

torch.set_num_threads(1)
