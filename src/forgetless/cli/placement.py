"""Options of the verbs that load a model: where it computes, and in which precision."""

from __future__ import annotations

from typing import Annotated

import typer

Device = Annotated[str, typer.Option("--device", help="auto (a GPU if there is one), cpu, cuda or cuda:1.")]
Dtype = Annotated[str, typer.Option("--dtype", help="Precision of the weights: float32 or bfloat16.")]
