"""From splats to something solid: levelling, the collision proxy, free space and spawn poses."""

from omni_gen3d.mesh.levelling import Levelling as Levelling
from omni_gen3d.mesh.levelling import level_scene as level_scene
from omni_gen3d.mesh.proxy import build_proxy as build_proxy
