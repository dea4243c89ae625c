"""ResidualDroppath in DistributedDataParallel: each process trains on its own part of every mini-batch."""

import timm
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

import rdp

distributed.init_process_group("gloo")  # "nccl" on GPUs
rank = distributed.get_rank()
torch.manual_seed(0)
model = DistributedDataParallel(timm.create_model("test_vit", num_classes=10), find_unused_parameters=True)
schedule = rdp.ResidualDropPath(model, rate=0.5, seed=0)  # the same seed in all processes
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

torch.manual_seed(rank)
for step in range(4):
    x, y = torch.randn(4, 3, 160, 160), torch.randint(10, (4,))  # your data
    with schedule.iteration(step) as iteration:
        torch.nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if rank == 0:
        print(step, iteration.kind)

schedule.close()
distributed.destroy_process_group()
