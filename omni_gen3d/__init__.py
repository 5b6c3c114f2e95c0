"""omni_gen3d: a sentence, a picture, a video or a splat file becomes an environment that robots can be trained in.

Importing the package loads no heavy library; the public functions load what they need when first called.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from omni_gen3d.conversion import convert as convert
    from omni_gen3d.filming import generate_from_video as generate_from_video
    from omni_gen3d.pipeline import generate as generate
    from omni_gen3d.usd import read_environment as read_environment
    from omni_gen3d.usd import validate as validate

_PUBLIC = {
    "convert": "omni_gen3d.conversion",
    "generate": "omni_gen3d.pipeline",
    "generate_from_video": "omni_gen3d.filming",
    "read_environment": "omni_gen3d.usd",
    "validate": "omni_gen3d.usd",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'omni_gen3d' has no attribute '{name}'. Available: {sorted(__all__)}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
