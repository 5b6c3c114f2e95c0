"""The official decoder against recorded runs of an independent implementation."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from omni_gen3d.decoder import LatentGaussianDecoder
from omni_gen3d.decoder.lyra import Upsampler, prune
from omni_gen3d.errors import InputError
from omni_gen3d.geometry import sh_dc_to_rgb
from omni_gen3d.types import Gaussians

FIXTURES = Path(__file__).parent / "fixtures"
VIEWS = 2
EMBEDS = ("patch_embed", "patch_plucker_embed", "patch_time_embed", "patch_time_embed_tgt")


@pytest.fixture(scope="module")
def decoder() -> LatentGaussianDecoder:
    return LatentGaussianDecoder.from_lyra_checkpoint(FIXTURES / "parity_weights.safetensors", num_attention_heads=4)


@pytest.fixture(scope="module", params=["static", "dynamic"])
def record(request: pytest.FixtureRequest) -> dict[str, torch.Tensor]:
    with np.load(FIXTURES / f"parity_{request.param}.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file}


def run(
    decoder: LatentGaussianDecoder, record: dict[str, torch.Tensor], prune_ratio: float = 0.0, num_views: int = VIEWS
) -> list[Gaussians]:
    return decoder(
        record["latents"],
        record["plucker_latents"],
        record["rays_os"],
        record["rays_ds"],
        num_views=num_views,
        time_latents=record.get("time_latents"),
        prune_ratio=prune_ratio,
    )


def packed(gaussians: Gaussians) -> torch.Tensor:
    """As recorded: centre, opacity, scale, rotation, colour, shape ``(N, 14)``."""
    colours = sh_dc_to_rgb(gaussians.sh[:, 0])
    return torch.cat([gaussians.means, gaussians.opacities[:, None], gaussians.scales, gaussians.quats, colours], -1)


def test_every_stage_gives_what_was_recorded(decoder: LatentGaussianDecoder, record: dict[str, torch.Tensor]) -> None:
    """Embeddings, every block, the last norm and the upsampled maps agree to 1e-4."""
    found: dict[str, list[torch.Tensor]] = {}

    def keep(name: str, output: torch.Tensor) -> None:
        found.setdefault(name, []).append(output)

    parts = {name: getattr(decoder, name) for name in (*EMBEDS, "enc_norm", "deconv")}
    parts |= {f"block{index}": block for index, block in enumerate(decoder.enc_blocks)}
    hooks = [part.register_forward_hook(lambda _m, _i, out, name=name: keep(name, out)) for name, part in parts.items()]
    run(decoder, record)
    for hook in hooks:
        hook.remove()

    recorded = {name.removeprefix("tap_") for name in record if name.startswith("tap_")} - {"gaussians_unpruned"}
    assert recorded == set(found)
    for name in recorded:
        reference = record[f"tap_{name}"]
        ours = torch.stack(found[name]).permute(0, 4, 1, 2, 3) if name == "deconv" else found[name][0]
        if name == "patch_time_embed_tgt":  # recorded once for every latent frame
            ours = ours.repeat(1, reference.shape[1] // ours.shape[1], 1)
        torch.testing.assert_close(ours, reference, atol=1e-4, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


def test_all_gaussians_come_in_order(decoder: LatentGaussianDecoder, record: dict[str, torch.Tensor]) -> None:
    """Without pruning they are recorded in view-time-row-column order: 2e-3 in 500 units, 1e-4 in all else."""
    (found,) = run(decoder, record)
    reference = record["tap_gaussians_unpruned"][0]
    torch.testing.assert_close(found.means, reference[:, :3], atol=2e-3, rtol=0)
    torch.testing.assert_close(packed(found)[:, 3:], reference[:, 3:], atol=1e-4, rtol=0)
    found.validate()


def test_the_same_gaussians_are_kept(decoder: LatentGaussianDecoder, record: dict[str, torch.Tensor]) -> None:
    """Pruning 80 % keeps the recorded set; each has its partner there and here."""
    (found,) = run(decoder, record, prune_ratio=0.8)
    reference = record["gaussians"][0]
    assert len(found) == len(reference) == int(816 * (1 - 0.8))
    distance = torch.cdist(packed(found).double(), reference.double())
    assert float(distance.amin(0).max()) < 2e-3 and float(distance.amin(1).max()) < 2e-3


def test_items_of_a_batch_do_not_meet(decoder: LatentGaussianDecoder, record: dict[str, torch.Tensor]) -> None:
    """A batch of two gives for each what it gives alone."""
    shifted = {name: value.flip(1) if name == "latents" else value for name, value in record.items()}
    both = run(decoder, {name: torch.cat([record[name], shifted[name]]) for name in record if "tap" not in name})
    for found, alone in zip(both, (record, shifted), strict=True):
        torch.testing.assert_close(packed(found), packed(run(decoder, alone)[0]), atol=2e-3, rtol=0)


@pytest.mark.parametrize("everything", [False, True])
def test_bfloat16_changes_little(record: dict[str, torch.Tensor], everything: bool) -> None:
    """Products or all weights in bfloat16 move the normed tokens by a hundredth, and Gaussians stay in float32."""
    decoder = LatentGaussianDecoder.from_lyra_checkpoint(FIXTURES / "parity_weights.safetensors", 4)
    decoder = decoder.bfloat16() if everything else decoder.to_bfloat16()
    tokens = []
    decoder.enc_norm.register_forward_hook(lambda _m, _i, out: tokens.append(out))
    (found,) = run(decoder, record)
    assert found.means.dtype == torch.float32
    difference = tokens[0] - record["tap_enc_norm"]
    assert float(difference.norm() / record["tap_enc_norm"].norm()) < 0.02
    kept = {name for name, value in decoder.state_dict().items() if value.dtype == torch.float32}
    precise = ("A_log", "dt_bias", "norm.weight", "deconv.weight")
    assert everything or all(any(part in name for name in kept) for part in precise)


def test_names_and_shapes_are_the_official_ones() -> None:
    """At full size, the 254 tensors and 32,753,996 parameters of an official checkpoint, name for name."""
    with torch.device("meta"):
        decoder = LatentGaussianDecoder()
    official = json.loads((FIXTURES / "decoder_keys.json").read_text())
    shapes = {name: list(value.shape) for name, value in decoder.state_dict().items()}
    assert shapes == official["params"] and len(shapes) == 254
    assert sum(value.numel() for value in decoder.parameters()) == official["num_params"] == 32_753_996


@pytest.mark.parametrize("count", [1, 2, 5])
def test_upsampler_is_the_transposed_convolution(count: int) -> None:
    """The matrix product with shared frames equals torch's transposed convolution, a single latent frame included."""
    upsampler = Upsampler(6, 5).double()
    torch.nn.init.normal_(upsampler.bias)
    tokens = torch.randn(count, 2, 3, 6, dtype=torch.float64)
    theirs = F.conv_transpose3d(
        tokens.permute(3, 0, 1, 2)[None], upsampler.weight, upsampler.bias, stride=(8, 2, 2), padding=(4, 0, 0)
    )
    torch.testing.assert_close(upsampler(tokens).permute(3, 0, 1, 2)[None], theirs)


def test_pruning_keeps_order_and_drops_later_equals() -> None:
    """Of equal opacities the earlier stay, in their order; the count is cut as the official code cuts it."""
    opacities = torch.tensor([0.1, 0.5, 0.9, 0.5, 0.5, 0.2, 0.0, 0.0, 0.0, 0.0])
    whole = Gaussians(
        torch.arange(30.0).reshape(10, 3), torch.eye(4)[:1].repeat(10, 1), torch.ones(10, 3), opacities,
        torch.zeros(10, 1, 3),
    )  # fmt: skip
    assert torch.equal(prune(whole, 0.7).means, whole.means[[1, 2, 3]])
    assert prune(whole, 0) is whole
    assert len(prune(whole, 0.99)) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latents": torch.zeros(6, 16, 4, 6)}, "latents has shape"),
        ({"latents": torch.zeros(1, 6, 8, 4, 6)}, "latents has shape"),
        ({"latents": torch.zeros(1, 6, 16, 3, 6)}, "even"),
        ({"num_views": 4}, "num_views is 4"),
        ({"num_views": 3}, "ray_origins"),
        ({"prune_ratio": 1.0}, "prune_ratio"),
        ({"plucker_latents": torch.zeros(1, 6, 16, 4, 6)}, "plucker_latents"),
        ({"rays_ds": torch.zeros(1, 33, 3, 4, 6)}, "ray_directions"),
        ({"time_latents": torch.zeros(1, 3, 16, 4, 6)}, "time_latents"),
    ],
)
def test_what_does_not_fit_is_refused(
    decoder: LatentGaussianDecoder, record: dict[str, torch.Tensor], change: dict, message: str
) -> None:
    """Every shape and number is checked before anything runs; the message names the culprit."""
    settings = {name: value for name, value in change.items() if name in ("num_views", "prune_ratio")}
    with pytest.raises(InputError, match=message):
        run(decoder, record | change, **settings)


def test_public_name_loads_late() -> None:
    """The package of the decoders loads torch only when the decoder is asked for."""
    code = "import sys, omni_gen3d.decoder as d; assert 'torch' not in sys.modules; print(d.LatentGaussianDecoder)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "omni_gen3d.decoder.lyra.LatentGaussianDecoder" in shown
