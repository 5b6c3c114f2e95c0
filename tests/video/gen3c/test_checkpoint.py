"""The official checkpoint: names, sizes, every way in, and what is refused at the door."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from omni_gen3d.errors import InputError
from omni_gen3d.video.gen3c.checkpoint import fit_network, load_network, official_name, read_network
from omni_gen3d.video.gen3c.network import Gen3cTransformer, build_network

State = dict[str, torch.Tensor]
# One block of the official network, written down by hand: name and shape at full size.
BLOCK = {
    "blocks.0.block.attn.to_q.0.weight": (4096, 4096),
    "blocks.0.block.attn.to_q.1.weight": (128,),
    "blocks.0.block.attn.to_k.0.weight": (4096, 4096),
    "blocks.0.block.attn.to_k.1.weight": (128,),
    "blocks.0.block.attn.to_v.0.weight": (4096, 4096),
    "blocks.0.block.attn.to_out.0.weight": (4096, 4096),
    "blocks.0.adaLN_modulation.1.weight": (256, 4096),
    "blocks.0.adaLN_modulation.2.weight": (12288, 256),
    "blocks.1.block.attn.to_q.0.weight": (4096, 4096),
    "blocks.1.block.attn.to_q.1.weight": (128,),
    "blocks.1.block.attn.to_k.0.weight": (4096, 1024),
    "blocks.1.block.attn.to_k.1.weight": (128,),
    "blocks.1.block.attn.to_v.0.weight": (4096, 1024),
    "blocks.1.block.attn.to_out.0.weight": (4096, 4096),
    "blocks.1.adaLN_modulation.1.weight": (256, 4096),
    "blocks.1.adaLN_modulation.2.weight": (12288, 256),
    "blocks.2.block.layer1.weight": (16384, 4096),
    "blocks.2.block.layer2.weight": (4096, 16384),
    "blocks.2.adaLN_modulation.1.weight": (256, 4096),
    "blocks.2.adaLN_modulation.2.weight": (12288, 256),
}
OUTSIDE = {
    "x_embedder.proj.1.weight": (4096, 328),
    "extra_pos_embedder.pos_emb_t": (128, 4096),
    "extra_pos_embedder.pos_emb_h": (120, 4096),
    "extra_pos_embedder.pos_emb_w": (120, 4096),
    "t_embedder.1.linear_1.weight": (4096, 4096),
    "t_embedder.1.linear_2.weight": (12288, 4096),
    "affline_norm.weight": (4096,),
    "final_layer.adaLN_modulation.1.weight": (256, 4096),
    "final_layer.adaLN_modulation.2.weight": (8192, 256),
    "final_layer.linear.weight": (64, 4096),
}


def full_state() -> State:
    """A checkpoint with the official keys at full size, on the meta device."""
    shapes = {f"net.{name}": shape for name, shape in OUTSIDE.items()}
    shapes |= {f"net.blocks.block{i}.{name}": shape for i in range(28) for name, shape in BLOCK.items()}
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


@pytest.fixture
def state(network: Gen3cTransformer) -> State:
    """The tiny network's weights under official names, with what a trainer leaves beside them."""
    state = {official_name(name): value.clone() for name, value in network.state_dict().items()}
    leftovers = {"logvar.0.freqs": torch.ones(4), "net.pos_embedder.seq": torch.arange(4)}
    return state | leftovers | {"net.blocks.block0.blocks.0.block.attn.to_q.1._extra_state": torch.tensor([])}


def save(state: State, path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_network(path, dtype=torch.float32)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1200
    return str(caught.value)


def test_a_full_size_checkpoint_round_trips_on_the_meta_device() -> None:
    """570 tensors, 7,237,257,216 numbers: every official name has one parameter of ours, and the sizes are found."""
    state = full_state()
    network = fit_network(Path("model.pt"), state)
    assert {official_name(name): tuple(value.shape) for name, value in network.named_parameters()} == {
        name: tuple(value.shape) for name, value in state.items()
    }
    assert len(state) == 570 and sum(value.numel() for value in state.values()) == 7_237_257_216
    assert dict(network.config) == dict(build_network().config)


@pytest.mark.parametrize("file", ["model.pt", "model.safetensors"])
@pytest.mark.parametrize("wrap", [lambda state: {"model": state}, lambda state: state])
def test_weights_arrive_where_they_belong(
    network: Gen3cTransformer, state: State, tmp_path: Path, file: str, wrap: Callable[[State], State]
) -> None:
    """From both kinds of file, flat or wrapped, the loaded network is the one that was saved."""
    path = save(state if file.endswith("safetensors") else wrap(state), tmp_path / file)
    loaded = load_network(path, dtype=torch.float32)
    assert dict(loaded.config) == dict(network.config)
    for name, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert all(value.is_meta for value in read_network(path).parameters())
    half = load_network(path, dtype=torch.bfloat16)
    assert half.proj_out.weight.dtype == torch.bfloat16
    assert half.state_dict()["learnable_pos_embed.pos_emb_t"].dtype == torch.float32


def test_first_differences_are_named(state: State, tmp_path: Path) -> None:
    """Missing, superfluous, of another shape, not finite: the message says which tensors."""
    name = "net.blocks.block1.blocks.2.block.layer2.weight"
    path = tmp_path / "model.pt"
    assert f"{name} is missing" in refused(save({k: v for k, v in state.items() if k != name}, path))
    assert "net.extra.weight is superfluous" in refused(save(state | {"net.extra.weight": torch.ones(2)}, path))
    assert f"{name} is (3, 3) instead of" in refused(save(state | {name: torch.ones(3, 3)}, path))
    assert f"{name} holds NaN" in refused(save(state | {name: state[name] * torch.nan}, path))
    plain = {key: value for key, value in state.items() if "x_embedder" not in key}
    assert "net.x_embedder.proj.1.weight is missing" in refused(save(plain, path))
    assert "is missing" in refused(save({"a": torch.ones(2)}, path))


def test_a_truncated_file_is_one_clear_error(state: State, tmp_path: Path) -> None:
    """Cut anywhere, a file of either kind is refused in one line."""
    for file in ("model.pt", "model.safetensors"):
        path = save(state, tmp_path / file)
        whole = path.read_bytes()
        for share in (0.0, 0.3, 0.9):
            path.write_bytes(whole[: int(share * len(whole))])
            assert "again" in refused(path)
    assert "no such file" in refused(tmp_path / "nothing.pt")


class Payload:
    """What runs when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.target),)


def test_a_pickle_that_would_run_code_is_refused(state: State, tmp_path: Path) -> None:
    """Nothing of it runs."""
    target = tmp_path / "ran"
    path = tmp_path / "model.pt"
    torch.save({**state, "payload": Payload(target)}, path)
    assert "would run code" in refused(path)
    assert not target.exists()
