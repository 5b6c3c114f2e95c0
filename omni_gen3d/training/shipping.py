"""From the float16 of a training to the weights that are shipped: eight bits a value, and six where nobody sees it."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKLCosmos, CosmosTransformer3DModel

from omni_gen3d.checkpoints import load_network, save_network
from omni_gen3d.decoder.mini import MiniDecoder
from omni_gen3d.errors import InputError
from omni_gen3d.motion.body_network import BodyNetwork
from omni_gen3d.video.depth import DepthNetwork

# The mini model's networks, and the parts of names by which those of their weights are known that take six bits.
NETWORKS: dict[str, tuple[type[torch.nn.Module], tuple[str, ...]]] = {
    "tokenizer": (AutoencoderKLCosmos, ()),
    "depth": (DepthNetwork, ("attention.",)),
    "diffusion": (CosmosTransformer3DModel, (".attn1.", ".attn2.")),
    "decoder": (MiniDecoder, ("blocks.",)),
    "bodies": (BodyNetwork, ()),
}


def ship_weights(trained: Path, out: Path) -> dict[str, int]:
    """Write trained networks as they are shipped; shipped ones stay as they are, to the bit.

    Args:
        trained: Folder with some or all of ``NETWORKS``.
        out: Gets these, in folders of the same names; may be the same folder.

    Returns:
        Bytes in the folder of each network that was written.

    Raises:
        InputError: There is none, or one is broken.
    """
    names = [name for name in NETWORKS if (trained / name).is_dir()]
    if not names:
        raise InputError(f"{trained} holds none of {', '.join(NETWORKS)}; name the folder above them.")
    for name in names:
        kind, six_bits = NETWORKS[name]
        save_network(load_network(kind, trained / name), out / name, "int8", six_bits=six_bits)
    return {name: sum(file.stat().st_size for file in (out / name).iterdir()) for name in names}
