"""ResidualDroppath in FSDP2: each process holds a part of every parameter."""

import timm
import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import rdp

distributed.init_process_group("gloo")  # "nccl" on GPUs
rank = distributed.get_rank()
torch.manual_seed(0)
model = timm.create_model("test_vit", num_classes=10)
mesh = init_device_mesh("cpu", (distributed.get_world_size(),))  # "cuda" on GPUs
for block in model.blocks:
    fully_shard(block, mesh=mesh)
fully_shard(model, mesh=mesh)
schedule = rdp.ResidualDropPath(model, rate=0.5, seed=0)  # after fully_shard; the same seed in all processes
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

torch.manual_seed(rank)
for step in range(4):
    x, y = torch.randn(4, 3, 160, 160), torch.randint(10, (4,))  # your data
    with schedule.iteration(step) as iteration:
        torch.nn.functional.cross_entropy(model(x), y).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if rank == 0:
        print(step, iteration.kind)

schedule.close()
distributed.destroy_process_group()
