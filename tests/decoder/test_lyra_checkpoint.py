"""Checkpoints of the official decoder: every way in, and what is refused at the door."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from omni_gen3d.decoder import LatentGaussianDecoder
from omni_gen3d.errors import InputError

FIXTURES = Path(__file__).parent / "fixtures"
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    return load_file(FIXTURES / "parity_weights.safetensors")


def load(path: Path) -> LatentGaussianDecoder:
    return LatentGaussianDecoder.from_lyra_checkpoint(path, num_attention_heads=4)


def refused(path: Path, heads: int = 4) -> str:
    with pytest.raises(InputError) as caught:
        LatentGaussianDecoder.from_lyra_checkpoint(path, num_attention_heads=heads)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1200
    return str(caught.value)


@pytest.mark.parametrize("wrap", [lambda state: {"module": state, "epoch": 3}, lambda state: state])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pickles_of_tensors_load(
    tmp_path: Path, state: State, wrap: Callable[[State], dict], dtype: torch.dtype
) -> None:
    """A ``.pt``, flat or under ``module``, in any float type, gives the tensors in float32, apart from the file."""
    torch.save(wrap({name: value.to(dtype) for name, value in state.items()}), tmp_path / "decoder.pt")
    decoder = load(tmp_path / "decoder.pt")
    (tmp_path / "decoder.pt").write_bytes(b"")
    assert not decoder.training and not any(value.requires_grad for value in decoder.parameters())
    for name, value in decoder.state_dict().items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, state[name].to(dtype).float(), atol=0, rtol=0)


def test_sizes_follow_from_the_shapes(state: State) -> None:
    """Depth, kinds of blocks and widths of the small recorded network, which differ from the defaults, are found."""
    decoder = load(FIXTURES / "parity_weights.safetensors")
    assert len(decoder.enc_blocks) == 8 and set(decoder.state_dict()) == set(state)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda s: s.pop("enc_norm.bias"), "enc_norm.bias is missing"),
        (lambda s: s.pop("patch_embed.proj.weight"), "patch_embed.proj.weight is missing"),
        (lambda s: s.update(lora=torch.zeros(2)), "lora is superfluous"),
        (lambda s: s.update({"enc_blocks.9999.mamba.x": torch.zeros(2)}), "enc_blocks.9999.mamba.x"),
        (lambda s: s.update({"deconv.bias": torch.zeros(11)}), r"deconv.bias is \(11,\) instead of \(12,\)"),
        (lambda s: s.update({"deconv.bias": torch.full((12,), torch.nan)}), "deconv.bias holds NaN"),
        (lambda s: s.update({"deconv.bias": torch.zeros(12, dtype=torch.int64)}), "no dense float tensors: deconv.b"),
        (lambda s: s.update({"patch_embed.proj.weight": torch.zeros(1, 1).expand(2**40, 1)}), "instead of"),
        (lambda s: [s.pop(n) for n in list(s) if n.startswith("enc_blocks.3.")], "enc_blocks.3.norm.*is missing"),
        (lambda s: [s.pop(n) for n in list(s)], r"patch_embed.proj.weight is missing.* and 250 more"),
    ],
)
def test_first_differences_are_named(tmp_path: Path, state: State, change: Callable, expected: str) -> None:
    """A tensor that is missing, superfluous, misshapen or holds no finite floats is named in one message."""
    changed = dict(state)
    change(changed)
    torch.save({"module": changed}, tmp_path / "decoder.pt")
    with pytest.raises(InputError, match=expected):
        load(tmp_path / "decoder.pt")


def test_truncated_safetensors_name_what_is_lost(tmp_path: Path, state: State) -> None:
    """A file cut in its data names the first tensors without data; cut in its header it is refused as well."""
    whole = (FIXTURES / "parity_weights.safetensors").read_bytes()
    header = int.from_bytes(whole[:8], "little")
    offsets = {
        name: entry["data_offsets"] for name, entry in json.loads(whole[8 : 8 + header]).items() if name in state
    }
    victim = max(offsets, key=lambda name: offsets[name])
    path = tmp_path / "decoder.safetensors"
    path.write_bytes(whole[: 8 + header + offsets[victim][0]])
    assert f"ends before the data of {victim}." in refused(path)
    for size in (0, 5, 100):
        path.write_bytes(whole[:size])
        assert "cannot be read" in refused(path)


def test_truncated_pickle_is_refused(tmp_path: Path, state: State) -> None:
    """Half of a ``.pt`` is not mistaken for anything."""
    torch.save({"module": state}, tmp_path / "whole.pt")
    (tmp_path / "decoder.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:-50_000])
    assert "cut off" in refused(tmp_path / "decoder.pt")


class Hostile:
    """Makes a folder when unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable, tuple[str]]:
        return os.mkdir, (str(self.marker),)


def test_code_in_a_pickle_does_not_run(tmp_path: Path, state: State) -> None:
    """A pickle that calls a function is refused, and the function is not called."""
    torch.save({"module": state, "extra": Hostile(tmp_path / "ran")}, tmp_path / "decoder.pt")
    assert "would run code" in refused(tmp_path / "decoder.pt")
    assert not (tmp_path / "ran").exists()


def test_bare_pickle_is_refused(tmp_path: Path) -> None:
    """A plain pickle under the right name is not even looked into."""
    (tmp_path / "decoder.pt").write_bytes(pickle.dumps(Hostile(tmp_path / "ran")))
    assert "not written by torch.save" in refused(tmp_path / "decoder.pt")
    assert not (tmp_path / "ran").exists()


def test_compressed_archive_is_refused(tmp_path: Path, state: State) -> None:
    """An archive that would grow when read is refused before it is."""
    torch.save(state, tmp_path / "whole.pt")
    with zipfile.ZipFile(tmp_path / "whole.pt") as whole, zipfile.ZipFile(tmp_path / "decoder.pt", "w", 8) as packed:
        for info in whole.infolist():
            packed.writestr(info.filename, whole.read(info), compress_type=zipfile.ZIP_DEFLATED)
    assert "compressed" in refused(tmp_path / "decoder.pt")


def test_other_files_are_refused(tmp_path: Path, state: State) -> None:
    """No file, an unknown ending, no tensors by name, heads that do not divide: each has its own message."""
    assert "no such file" in refused(tmp_path / "none.pt")
    (tmp_path / "decoder.txt").write_text("hello")
    assert ".safetensors" in refused(tmp_path / "decoder.txt")
    torch.save([1, 2], tmp_path / "list.pt")
    assert "holds a list" in refused(tmp_path / "list.pt")
    with (tmp_path / "large.pt").open("wb") as file:
        file.truncate(5 * 2**30)  # a hole: takes no space
    assert "5.4 GB" in refused(tmp_path / "large.pt")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    assert "is missing" in refused(tmp_path / "other.safetensors", heads=8)
    assert "num_attention_heads is 7" in refused(FIXTURES / "parity_weights.safetensors", heads=7)
    assert "num_attention_heads is 0" in refused(FIXTURES / "parity_weights.safetensors", heads=0)
