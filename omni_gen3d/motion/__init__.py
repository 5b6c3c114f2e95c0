"""A sequence of Gaussians taken apart: what stands still, what moves as a rigid part, and the rest."""
