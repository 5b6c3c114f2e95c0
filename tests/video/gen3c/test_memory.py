"""Memory plans: the best that fits, the limit kept or refused with the number needed."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from torch.nn.attention import SDPBackend

from omni_gen3d.errors import InputError
from omni_gen3d.video.gen3c.memory import Workload, available_plans, free_memory, plan_memory
from omni_gen3d.video.gen3c.network import Gen3cTransformer
from omni_gen3d.video.gen3c.placement import place
from omni_gen3d.video.gen3c.sampling import Conditions, sample

FULL = Workload()


def test_the_full_size_is_that_of_the_issue() -> None:
    """56,320 tokens a trajectory."""
    assert FULL.tokens == 16 * 44 * 80 == 56_320


@pytest.mark.parametrize(
    ("card", "host", "limit", "weights", "resident"),
    [
        (80, 64, None, "bfloat16", True),
        (24, 64, None, "bfloat16", True),
        (80, 64, 24, "bfloat16", True),
        (80, 64, 16, "bfloat16", False),
        (16, 64, None, "bfloat16", False),
        (18, 10, None, "float8", True),
        (12, 10, None, "float8", False),
    ],
)
def test_the_best_plan_that_fits(card: float, host: float, limit: float | None, weights: str, resident: bool) -> None:
    """Full precision before half the bytes, on the card before streamed; never beyond what is allowed."""
    plan = plan_memory(FULL, card_gb=card, host_gb=host, limit_gb=limit)
    assert (plan.weights, plan.resident) == (weights, resident)
    assert plan.peak_gb <= min(card, limit or card) and plan.host_gb <= host
    assert f"{plan.peak_gb:.1f} GB" in str(plan)


def test_what_does_not_fit_is_refused_with_the_number_needed() -> None:
    """The number is true: with it there is a plan."""
    least = min(plan.peak_gb for plan in available_plans(FULL))
    with pytest.raises(InputError, match=f"max-memory is 6 GB.* at least {least:.1f} GB"):
        plan_memory(FULL, card_gb=80, host_gb=64, limit_gb=6)
    with pytest.raises(InputError, match=r"8\.0 GB of the card are free"):
        plan_memory(FULL, card_gb=8, host_gb=64)
    assert plan_memory(FULL, card_gb=80, host_gb=64, limit_gb=round(least, 1) + 0.1).peak_gb <= least + 0.15
    with pytest.raises(InputError, match=r"needs \d+\.\d GB of the machine's"):
        plan_memory(FULL, card_gb=12, host_gb=4)


def test_weights_may_be_insisted_on() -> None:
    """float8 where bfloat16 would fit, and no other where it would not."""
    assert plan_memory(FULL, card_gb=80, host_gb=64, weights="float8").weights == "float8"
    with pytest.raises(InputError):
        plan_memory(FULL, card_gb=16, host_gb=10, weights="bfloat16")


def test_free_memory_of_this_machine() -> None:
    """Positive, and the machine's own on a CPU."""
    card, host = free_memory(torch.device("cpu"))
    assert card == host > 0.1


@torch.no_grad()
def test_float8_weights_change_little_and_half_the_bytes(network: Gen3cTransformer) -> None:
    """Blocks are stored in a byte a number, norms and embeddings keep their type; the latents stay close."""
    text = torch.randn(1, 5, 32)
    latents = torch.randn(3, 1, 16, 2, 4, 6)
    conditions = Conditions(latents[0], torch.randn(1, 64, 2, 4, 6), text, text)
    plain = sample(network, conditions, latents[1], latents[2], steps=2, dtype=torch.float32)
    plan = dataclasses.replace(available_plans(FULL)[0], weights="float8")
    place(network, plan, torch.device("cpu"))
    assert network.state_dict()["transformer_blocks.0.ff.net.2.weight"].dtype == torch.float8_e4m3fn
    assert network.patch_embed.proj.weight.dtype == network.proj_out.weight.dtype == torch.float32
    stored = sample(network, conditions, latents[1], latents[2], steps=2, dtype=torch.float32)
    difference = float((stored - plain).norm() / plain.norm())
    assert 0 < difference < 0.1


@torch.no_grad()
def test_kernels_of_attention_are_the_networks_own_choice(network: Gen3cTransformer) -> None:
    """While it runs cuDNN comes first and all others stay allowed; afterwards the process is as it was."""
    text, conditions = torch.randn(1, 5, 32), torch.randn(1, 64, 2, 4, 6)
    asked: list[tuple[int, bool, bool]] = []

    def ask(*_: object) -> None:
        first = torch._C._get_sdp_priority_order()[0]
        asked.append((first, torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.math_sdp_enabled()))

    network.transformer_blocks[0].register_forward_hook(ask)
    ask()
    for network.prefers_cudnn in (False, True):
        latents = torch.zeros(1, 16, 2, 4, 6)
        sample(network, Conditions(latents, conditions, text, text), latents, latents, steps=1, dtype=torch.float32)
    ask()
    before, plain, _, preferred, _, after = asked
    assert preferred == (int(SDPBackend.CUDNN_ATTENTION.value), True, True)
    assert before == plain == after and _AttentionBackendRegistry._active_backend == AttentionBackendName.NATIVE
