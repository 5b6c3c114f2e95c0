"""Latent 3DGS decoders: video latents in, Gaussians out. The official model's decoder is public here, loaded lazily."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omni_gen3d.decoder.lyra import LatentGaussianDecoder as LatentGaussianDecoder

__all__ = ["LatentGaussianDecoder"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'omni_gen3d.decoder' has no attribute '{name}'. Available: {__all__}")
    from omni_gen3d.decoder.lyra import LatentGaussianDecoder

    return LatentGaussianDecoder
