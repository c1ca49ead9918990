"""Where a stage's files and settings are. The only module that knows Trainyard's environment."""

import json
import os
from pathlib import Path

INPUTS = Path(os.environ["INPUTS"])
OUTPUTS = Path(os.environ["OUTPUTS"])


def param(name: str) -> str:
    """A parameter of the run, declared under `params` in dags/retrain.yaml."""
    return os.environ[f"TRAINYARD_PARAM_{name.upper()}"]


def report_metrics(metrics: dict[str, float]) -> None:
    """Puts numbers into the run's history."""
    (OUTPUTS / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    for name, value in metrics.items():
        print(f"{name:>20} = {value:g}")
