"""GEN3C, the video model of the official Lyra release, on diffusers' own classes (method: arXiv 2503.03751)."""
