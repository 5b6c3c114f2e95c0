"""The small layer that everybody opens: kinds, payloads and the three variant sets of an environment.

``collision`` (mesh | convex | none) brings one payload of colliders, ``appearance`` two numbers on the splats,
``lighting`` (none | dome) a light for the meshes beside them: splats shine by themselves. A scene that moves in parts
has a fourth, ``motion`` (play | frozen | none).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pxr import Kind, Usd, UsdGeom, UsdLux

from omni_gen3d.errors import InputError
from omni_gen3d.request import Collision
from omni_gen3d.types import DynamicScene
from omni_gen3d.usd.appearance import APPEARANCES, author_gain
from omni_gen3d.usd.motion_variants import RESIDUAL, author_motions
from omni_gen3d.usd.stage import new_stage, save_stage
from omni_gen3d.usd.target import CAMERAS_NAME, MOVING_COLLISION_NAME, MOVING_NAME, SPLATS_NAME

ENVIRONMENT_PATH = "/World/Environment"
SPLATS_PATH = f"{ENVIRONMENT_PATH}/Splats"
COLLISION_PATH = f"{ENVIRONMENT_PATH}/Collision"
CAMERAS_PATH = f"{ENVIRONMENT_PATH}/Cameras"
MOVING_PATH = f"{ENVIRONMENT_PATH}/Moving"
DOME_PATH = f"{ENVIRONMENT_PATH}/Dome"
# From the splats to what stands for them in a collision.
COLLIDER_RELATION = "omni_gen3d:collider"
# In the unit of a DomeLight; what the default lights of Isaac Sim's stages have.
_DOME_INTENSITY = 1000.0


def write_root(
    path: Path,
    colliders: Mapping[Collision, str],
    collision: Collision,
    frames_per_second: float | None = None,
    num_frames: int | None = None,
    moving: DynamicScene | None = None,
) -> None:
    """Write the root layer.

    Args:
        path: Where to.
        colliders: Name of the layer of each variant of ``collision`` that has colliders.
        collision: The variant that is selected.
        frames_per_second: Time codes in a second, None for a scene that stands still.
        num_frames: Of a scene that moves.
        moving: What moves, where it is written as parts.
    """
    stage = new_stage("World", frames_per_second=frames_per_second, num_frames=num_frames)
    Usd.ModelAPI(stage.GetDefaultPrim()).SetKind(Kind.Tokens.assembly)
    environment = UsdGeom.Xform.Define(stage, ENVIRONMENT_PATH).GetPrim()
    Usd.ModelAPI(environment).SetKind(Kind.Tokens.component)
    splats = stage.DefinePrim(SPLATS_PATH, "ParticleField3DGaussianSplat")
    splats.GetPayloads().AddPayload(f"./{SPLATS_NAME}")
    stage.DefinePrim(CAMERAS_PATH, "Xform").GetPayloads().AddPayload(f"./{CAMERAS_NAME}")
    if moving is not None:
        stage.DefinePrim(MOVING_PATH, "Xform").GetPayloads().AddPayload(f"./{MOVING_NAME}")
    bodies = moving is not None and any(part.hulls for part in moving.parts)
    _author_collision_variants(stage, environment, colliders, collision, bodies)
    _author_appearances(stage, environment, [SPLATS_PATH, *(_moving_splats(moving) if moving else ())])
    if moving is not None:
        author_motions(stage, environment, MOVING_PATH, moving)
    _author_lighting(stage, environment)
    save_stage(stage, path)


def select_variants(stage: Usd.Stage, **selections: str | None) -> None:
    """Select variants of the environment on ``stage`` without changing a file; None leaves what is selected.

    Raises:
        InputError: The environment has no such variant.
    """
    environment = stage.GetPrimAtPath(ENVIRONMENT_PATH)
    with Usd.EditContext(stage, stage.GetSessionLayer()):
        for name, wanted in selections.items():
            if wanted is None:
                continue
            allowed = variants_of(stage, name)
            if wanted not in allowed:
                raise InputError(
                    f"the variant '{wanted}' of {name} does not exist in this environment; "
                    f"it has {', '.join(allowed) or 'none'}."
                )
            environment.GetVariantSets().SetSelection(name, wanted)


def variants_of(stage: Usd.Stage, name: str) -> list[str]:
    """Names in a variant set of the environment, empty where there is no such set."""
    environment = stage.GetPrimAtPath(ENVIRONMENT_PATH)
    return list(environment.GetVariantSet(name).GetVariantNames()) if environment else []


def _author_collision_variants(
    stage: Usd.Stage,
    environment: Usd.Prim,
    colliders: Mapping[Collision, str],
    selected: Collision,
    bodies: bool,
) -> None:
    variants = environment.GetVariantSets().AddVariantSet("collision")
    for name in (*colliders, "none"):
        variants.AddVariant(name)
        variants.SetVariantSelection(name)
        if name == "none":
            continue
        with variants.GetVariantEditContext():
            stage.DefinePrim(COLLISION_PATH, "Xform").GetPayloads().AddPayload(f"./{colliders[name]}")
            # Stated in here, so that it names a collider exactly where there is one.
            stage.GetPrimAtPath(SPLATS_PATH).CreateRelationship(COLLIDER_RELATION).SetTargets([COLLISION_PATH])
            if bodies:
                stage.GetPrimAtPath(MOVING_PATH).GetPayloads().AddPayload(f"./{MOVING_COLLISION_NAME}")
    variants.SetVariantSelection(selected)


def _moving_splats(moving: DynamicScene) -> list[str]:
    rest = [] if moving.residual is None else [f"{MOVING_PATH}/{RESIDUAL}"]
    return [*(f"{MOVING_PATH}/{part.name}/Splats" for part in moving.parts), *rest]


def _author_appearances(stage: Usd.Stage, environment: Usd.Prim, splats: Sequence[str]) -> None:
    variants = environment.GetVariantSets().AddVariantSet("appearance")
    for name, gain in APPEARANCES.items():
        variants.AddVariant(name)
        variants.SetVariantSelection(name)
        with variants.GetVariantEditContext():
            for path in splats:
                author_gain(stage.OverridePrim(path), gain)
    variants.SetVariantSelection("neutral")


def _author_lighting(stage: Usd.Stage, environment: Usd.Prim) -> None:
    variants = environment.GetVariantSets().AddVariantSet("lighting")
    variants.AddVariant("none")
    variants.AddVariant("dome")
    variants.SetVariantSelection("dome")
    with variants.GetVariantEditContext():
        UsdLux.DomeLight.Define(stage, DOME_PATH).CreateIntensityAttr(_DOME_INTENSITY)
    variants.SetVariantSelection("none")
