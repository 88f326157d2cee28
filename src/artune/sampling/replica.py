"""Replicas of a policy for decoding only: matrices packed for the CPU's kernels, or weights in another dtype."""

import copy

import torch
from torch import Tensor, nn

from artune.models.policies.policy import Policy

PACKED = 2**19  # least number of weights of a matrix that is packed; smaller matrices fit into the CPU's caches


class PackedLinear(nn.Module):
    """A frozen linear layer with its weights in the block layout of oneDNN's kernels.

    Cached decoding on a CPU otherwise spends its time reading row-major matrices for a few rows of input.
    """

    def __init__(self, linear: nn.Linear, rows: int):
        super().__init__()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), rows)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this build of PyTorch has the packed kernels and the processor supports ``dtype``."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def share_weights(policy: Policy) -> Policy:
    """A copy of the policy's modules that shares its parameters and buffers."""
    tensors = [*policy.parameters(), *policy.buffers()]
    return copy.deepcopy(policy, {id(tensor): tensor for tensor in tensors})


@torch.no_grad()
def pack(policy: Policy, rows: int) -> Policy:
    """The policy itself, or a replica with its large matrices packed, which does not follow later updates.

    Args:
        policy: a policy on the CPU.
        rows: sequences per step, for which the kernels choose a layout.
    """
    large = [
        name
        for name, module in policy.named_modules()
        if isinstance(module, nn.Linear) and module.weight.numel() >= PACKED and can_pack(module.weight.dtype)
    ]
    if not large:
        return policy
    replica = share_weights(policy)
    for name in large:
        parent, _, child = name.rpartition(".")
        setattr(replica.get_submodule(parent), child, PackedLinear(policy.get_submodule(name), rows))
    return replica


@torch.no_grad()
def cast_replica(policy: Policy, dtype: torch.dtype) -> Policy:
    """A frozen replica in ``dtype``; :func:`refresh` brings it up to date without moving its tensors."""
    memo: dict[int, Tensor] = {id(t): t.to(dtype, copy=True) for t in policy.buffers()}
    for weight in policy.parameters():
        memo[id(weight)] = nn.Parameter(weight.detach().to(dtype, copy=True), requires_grad=False)
    return copy.deepcopy(policy, memo)


@torch.no_grad()
def refresh(replica: Policy, policy: Policy) -> None:
    """Copy the policy's present weights into a replica of :func:`cast_replica`, in place."""
    torch._foreach_copy_(list(replica.parameters()), list(policy.parameters()))
