"""What things are made of: the named colours and materials of floors, walls and furniture."""

from __future__ import annotations

from dataclasses import dataclass

RGB = tuple[float, float, float]

MATERIALS = ("plain", "wood", "tile", "concrete", "metal", "cardboard", "fabric", "brick", "books", "corrugated")


@dataclass(frozen=True)
class Look:
    """A name people use, a linear albedo and a material.

    Attributes:
        name: The word a caption uses.
        rgb: Albedo in [0, 1].
        material: One of ``MATERIALS``.
    """

    name: str
    rgb: RGB
    material: str

    @property
    def material_index(self) -> int:
        return MATERIALS.index(self.material)


FLOORS = (
    Look("concrete", (0.53, 0.52, 0.49), "concrete"),
    Look("light wood", (0.68, 0.48, 0.28), "wood"),
    Look("dark wood", (0.25, 0.14, 0.08), "wood"),
    Look("white tile", (0.86, 0.86, 0.84), "tile"),
    Look("grey carpet", (0.20, 0.21, 0.24), "fabric"),
    Look("green epoxy", (0.16, 0.42, 0.27), "plain"),
    Look("terracotta tile", (0.64, 0.29, 0.17), "tile"),
)
WALLS = (
    Look("white", (0.90, 0.90, 0.88), "plain"),
    Look("beige", (0.82, 0.67, 0.44), "plain"),
    Look("blue", (0.28, 0.47, 0.70), "plain"),
    Look("green", (0.40, 0.60, 0.36), "plain"),
    Look("brick", (0.52, 0.22, 0.15), "brick"),
    Look("grey", (0.35, 0.35, 0.345), "concrete"),
)
CEILINGS = (
    Look("white", (0.90, 0.90, 0.89), "plain"),
    Look("panelled", (0.86, 0.87, 0.87), "tile"),
    Look("sheet metal", (0.36, 0.38, 0.41), "corrugated"),
)

# A finish of material "plain" takes the material of the furniture it covers: a red sofa is red fabric.
FINISHES = (
    Look("wooden", (0.66, 0.45, 0.25), "wood"),
    Look("dark wooden", (0.30, 0.17, 0.09), "wood"),
    Look("white", (0.87, 0.87, 0.85), "plain"),
    Look("grey", (0.44, 0.45, 0.48), "plain"),
    Look("black", (0.07, 0.07, 0.08), "plain"),
    Look("steel", (0.60, 0.63, 0.67), "metal"),
    Look("blue", (0.10, 0.24, 0.60), "plain"),
    Look("red", (0.66, 0.08, 0.07), "plain"),
    Look("green", (0.12, 0.42, 0.18), "plain"),
    Look("yellow", (0.88, 0.64, 0.06), "plain"),
    Look("orange", (0.86, 0.32, 0.05), "plain"),
    Look("beige", (0.78, 0.67, 0.48), "plain"),
    Look("brown", (0.34, 0.19, 0.10), "plain"),
    Look("cardboard", (0.68, 0.49, 0.29), "cardboard"),
)
FINISH_NAMES = tuple(look.name for look in FINISHES)
FLOOR_NAMES = tuple(look.name for look in FLOORS)
WALL_NAMES = tuple(look.name for look in WALLS)

LIGHT_TONES: tuple[tuple[str, RGB], ...] = (
    ("warm", (1.07, 0.99, 0.86)),
    ("neutral", (1.0, 1.0, 1.0)),
    ("cool", (0.94, 1.0, 1.06)),
)
LIGHT_LEVELS: tuple[tuple[str, float], ...] = (("dim", 0.76), ("even", 1.0), ("bright", 1.28))
