"""What converters copy, and what they share."""

import copy

import torch
from torch import nn

from cocorrrec_export.export.memory import LARGE, one_copy_of_tables


def test_tables_are_shared_and_all_else_is_copied() -> None:
    module = nn.Module()
    module.register_buffer("table", torch.zeros(LARGE, dtype=torch.int8))
    module.register_buffer("small", torch.zeros(3))
    module.weight = nn.Parameter(torch.zeros(LARGE))
    with one_copy_of_tables():
        made = copy.deepcopy(module)
    assert made.table is module.table
    assert made.small is not module.small
    assert made.weight is not module.weight
    assert copy.deepcopy(module).table is not module.table
