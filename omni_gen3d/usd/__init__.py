"""Environments as OpenUSD folders: write, read, validate. The submodules load when a name is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omni_gen3d.usd.environment import Environment as Environment
    from omni_gen3d.usd.environment import read_environment as read_environment
    from omni_gen3d.usd.environment import write_environment as write_environment
    from omni_gen3d.usd.manifest import Manifest as Manifest
    from omni_gen3d.usd.package import package_usdz as package_usdz
    from omni_gen3d.usd.target import check_target as check_target
    from omni_gen3d.usd.validation import Finding as Finding
    from omni_gen3d.usd.validation import validate as validate

_PUBLIC = {
    "Environment": "omni_gen3d.usd.environment",
    "Finding": "omni_gen3d.usd.validation",
    "Manifest": "omni_gen3d.usd.manifest",
    "check_target": "omni_gen3d.usd.target",
    "package_usdz": "omni_gen3d.usd.package",
    "read_environment": "omni_gen3d.usd.environment",
    "validate": "omni_gen3d.usd.validation",
    "write_environment": "omni_gen3d.usd.environment",
}
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'omni_gen3d.usd' has no attribute '{name}'. Available: {__all__}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
