"""The verbs ``omni-gen3d bench ...``."""

from __future__ import annotations

from typing import Annotated

import typer

bench_app = typer.Typer(no_args_is_help=True, help="Measure speed, memory and accuracy beside others, in one run.")

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
