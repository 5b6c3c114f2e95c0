"""Generation in a process of its own, for hosts that must keep drawing: ``python -m omni_gen3d.worker``.

The host and the worker exchange lines of JSON over the worker's standard input and output, see ``protocol``. Starting
the worker loads no heavy library; a task loads what it needs.
"""
