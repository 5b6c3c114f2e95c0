"""Environments varied by Omniverse Replicator: a randomizer that shows the next sample of a series at every trigger.

A ``Series`` needs a stage and no Kit. ``register`` makes it a node of Replicator's graph; it was written after the
published sources of Replicator and never run in one, see docs/envs.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from omni_gen3d.envs.randomize import draw_among, eligible, pool_of
from omni_gen3d.envs.ranges import Randomization
from omni_gen3d.errors import InputError

if TYPE_CHECKING:
    from omni_gen3d.envs.clutter import Pool
    from omni_gen3d.envs.entry import Entry
    from omni_gen3d.envs.sample import Sample

NODE_TYPE = "omni_gen3d.VaryEnvironment"
_NODE_VERSION = 1
# What nodes of the graph refer to by name.
_series: dict[str, Series] = {}


class Series:
    """Samples shown on a stage, one after the other: another environment, look, material, place, light, clutter.

    Attributes:
        samples: What was shown, the latest last; each can be stored and shown again.
    """

    def __init__(
        self,
        environments: Sequence[Entry],
        ranges: Randomization | None = None,
        *,
        seed: int = 0,
        path: str = "/World/Environment",
        pool: Pool | None = None,
    ) -> None:
        """Nothing is shown yet.

        Args:
            environments: What may be shown.
            ranges: What varies; the environment alone where None.
            seed: Of the series.
            path: The prim that refers to an environment; it is made where there is none.
            pool: Of the clutter, where ``ranges`` want any without naming one.

        Raises:
            InputError: ``ranges`` want none of the environments, or clutter without a pool.
        """
        self._ranges = Randomization() if ranges is None else ranges
        self._wanted: list[Entry] = eligible(self._ranges, environments)
        self._seed, self._path, self._pool = seed, path, pool_of(self._ranges, pool)
        self._next = 0
        self.samples: list[Sample] = []

    def advance(self, stage: Any) -> Sample:
        """Draw the next sample and show it.

        Args:
            stage: A ``Usd.Stage``, Z-up, in metres; its session layer is edited.

        Raises:
            InputError: The stage has other units or axes, or the sample cannot be drawn or shown.
        """
        sample = draw_among(self._ranges, self._wanted, seed=self._seed, index=self._next, pool=self._pool)
        self._next += 1
        self.show(stage, sample)
        return sample

    def show(self, stage: Any, sample: Sample) -> None:
        """Show a sample of these environments, whatever was shown before.

        Raises:
            InputError: As ``advance``; or the sample's environment is not among these.
        """
        from omni_gen3d.envs.applying import apply_to_stage
        from omni_gen3d.usd.overrides import override_environment

        entry = next((e for e in self._wanted if (e.id, e.digest) == (sample.environment, sample.digest)), None)
        if entry is None:
            raise InputError(f"{sample.environment} is not among the {len(self._wanted)} environments of the series.")
        override_environment(stage, self._path, entry.usd)
        apply_to_stage(stage, sample, self._path, self._pool)
        self.samples.append(sample)


def register(
    environments: Sequence[Entry],
    ranges: Randomization | None = None,
    *,
    seed: int = 0,
    path: str = "/World/Environment",
    pool: Pool | None = None,
    name: str = "gen3d_environment",
) -> Series:
    """Offer a series as ``rep.randomizer.NAME()`` in the Kit that this runs in::

        series = register(Registry().entries(), ranges)
        with rep.trigger.on_frame():
            rep.randomizer.gen3d_environment()
        rep.orchestrator.run_until_complete(num_frames=100)

    Every trigger advances the series on the stage of the application, before the frame is drawn. Samples are drawn in
    this process: Kit's Python needs numpy and torch, and for clutter what the package needs for meshes.

    Args:
        environments, ranges, seed, path, pool: As of ``Series``.
        name: Of the randomizer; a Python identifier. Registering it again replaces the series.

    Raises:
        InputError: This is no Kit with Replicator, the name is no identifier, or ``ranges`` wants none of the
            environments.
    """
    if not name.isidentifier():
        raise InputError(f"the name is '{name}'; it must be a Python identifier, such as gen3d_environment.")
    series = Series(environments, ranges, seed=seed, path=path, pool=pool)
    try:
        import omni.graph.core
        import omni.replicator.core
        import omni.usd
        from omni.replicator.core.utils import create_node
    except ImportError as error:
        raise InputError(
            f"this application has no Replicator ({error}); enable the extension omni.replicator.core, or advance a "
            "Series on a stage yourself: omni_gen3d.envs.replicator.Series(environments, ranges).advance(stage)."
        ) from error
    if not _series:
        omni.graph.core.register_node_type(_VaryEnvironment, _NODE_VERSION)
    _series[name] = series

    def vary() -> Any:
        return create_node(NODE_TYPE, series=name)

    omni.replicator.core.randomizer.register(vary, override=True, fn_name=name)
    return series


class _VaryEnvironment:
    """The node type; OmniGraph calls these by name. An error that ``compute`` raises is in Kit's log."""

    @staticmethod
    def get_node_type() -> str:
        return NODE_TYPE

    @staticmethod
    def initialize_type(node_type: Any) -> None:
        node_type.add_input("inputs:execIn", "execution", True)
        node_type.add_input("inputs:series", "token", True)
        node_type.add_output("outputs:execOut", "execution", True)

    @staticmethod
    def compute(context: Any, node: Any) -> bool:
        import omni.graph.core
        import omni.usd

        series = _series[node.get_attribute("inputs:series").get()]
        series.advance(omni.usd.get_context().get_stage())
        node.get_attribute("outputs:execOut").set(omni.graph.core.ExecutionAttributeState.ENABLED)
        return True
