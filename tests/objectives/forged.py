"""What the tests of objectives share: a batch of random shapes, and a few steps of training on one."""

from __future__ import annotations

import torch
from torch import nn

from jepa3d.ops.draws import shape_keys
from jepa3d.train.batches import Batch


def forged(count: int, points: int, patches: int, size: int, seed: int = 0) -> Batch:
    """Random clouds, in which the first points are centres and any points their neighbours."""
    random = torch.Generator().manual_seed(seed)
    return Batch(
        torch.randn(count, points, 3, generator=random),
        torch.arange(patches).expand(count, -1),
        torch.randint(0, points, (count, patches, size), generator=random),
        torch.zeros(count, dtype=torch.long),
        shape_keys(0, torch.zeros(count, dtype=torch.long), torch.arange(count)),
    )


def losses(net: nn.Module, given: Batch, steps: int, lr: float) -> list[float]:
    """The loss before each of some steps of AdamW on one batch."""
    optimiser = torch.optim.AdamW([one for one in net.parameters() if one.requires_grad], lr)
    found = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = net(given).total
        loss.backward()
        optimiser.step()
        found.append(loss.item())
    return found
