"""The adapter for Replicator in a real Kit, which has no Replicator: it says so, and its series works without."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SH_DC = 0.28209479177387814


def test_kit_without_replicator_is_told_and_served(tmp_path: Path) -> None:
    """``register`` names the missing extension; four samples of a series change the splats on a stage in Kit."""
    script = Path(__file__).parent / "replicator_in_kit.py"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-P", str(script), str(tmp_path)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    refused = [line for line in lines if line.startswith("refused:")]
    assert len(refused) == 1 and "enable the extension omni.replicator.core" in refused[0]
    shown = [line.split()[1:] for line in lines if line.startswith("shown:")]
    assert len(shown) == 4 and len({environment for environment, _, _ in shown}) == 2
    for _, exposure, harmonic in shown:
        # A colour c = 0.5 + SH_DC h becomes 2^e c.
        expected = (2 ** float(exposure) * (0.5 + SH_DC) - 0.5) / SH_DC
        assert math.isclose(float(harmonic), expected, abs_tol=2e-3)
