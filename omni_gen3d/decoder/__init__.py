"""Latent 3DGS decoders: video latents in, Gaussians out."""
