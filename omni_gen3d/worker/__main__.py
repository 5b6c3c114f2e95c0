"""``python -m omni_gen3d.worker``: answer requests until standard input ends."""

from omni_gen3d.worker.serving import serve

serve()
