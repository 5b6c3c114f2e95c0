"""Camera trajectories, 3D cache and video diffusion: a prompt or a picture becomes video latents."""
