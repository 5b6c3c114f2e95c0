"""Show sample after sample of the library's environments: by Replicator in an application that has it, else in a loop.

python docs/examples/replicator_worlds.py       # those of $OMNI_GEN3D_HOME; in Isaac Sim: Window > Script Editor
"""

from omni_gen3d.envs.ranges import AppearanceRanges, ContactRanges, LightRanges, Randomization, Range
from omni_gen3d.envs.registry import Registry
from omni_gen3d.envs.replicator import Series, register
from omni_gen3d.errors import InputError
from omni_gen3d.usd.stage import new_stage

RANGES = Randomization(
    appearance=AppearanceRanges(exposure=Range(-1, 0.5), warmth=Range(-0.5, 0.5)),
    contact=ContactRanges(static_friction=Range(0.4, 1.0)),
    light=LightRanges(sun=Range(500, 2000), azimuth=Range(-3, 3)),
)
FRAMES = 4


def main() -> None:
    environments = Registry().entries()
    try:
        series = register(environments, RANGES, seed=3)
    except InputError as error:
        print(error)
        series, stage = Series(environments, RANGES, seed=3), new_stage("World")
        for _ in range(FRAMES):
            series.advance(stage)
    else:
        import omni.replicator.core as rep

        with rep.trigger.on_frame():
            rep.randomizer.gen3d_environment()
        rep.orchestrator.run_until_complete(num_frames=FRAMES)
    for sample in series.samples:
        print(f"{sample.environment}: exposure {sample.appearance.exposure:+.2f}")


if __name__ == "__main__":
    main()
