"""The cuda backend: many cameras over many environments in a few kernels of our own, compiled at first use."""
