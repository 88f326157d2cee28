"""FLOPs of a call, counted by PyTorch."""

import torch
from torch.utils.flop_counter import FlopCounterMode


def count_flops(call):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    return counter.get_total_flops()
