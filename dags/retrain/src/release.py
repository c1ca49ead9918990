"""Writes the model's card, and enters the model into the warehouse's table of released models where there is one.

Only a model that passed the gate gets here. Entering the same run twice changes nothing, so the stage may
be tried again.
"""

import hashlib
import json
import os

import stage
import warehouse

CARD = """\
# Tumour classifier, {commit:.12}

Trained by run {run} ({cause}). SHA-256 of the model: {sha256}.

| metric | value |
|---|---|
{metrics}

Strongest features: {features}.
"""


def main() -> None:
    report = json.loads((stage.INPUTS / "report").read_text())
    metrics = report["metrics"]
    release = {
        "run": os.environ["TRAINYARD_RUN_ID"],
        "commit": os.environ.get("TRAINYARD_COMMIT") or "work tree",
        "cause": os.environ["TRAINYARD_CAUSE"],
        "auc": metrics["auc"],
        "accuracy": metrics["accuracy"],
        "sha256": hashlib.sha256((stage.INPUTS / "model").read_bytes()).hexdigest(),
    }
    card = CARD.format(
        **{name: release[name] for name in ("run", "commit", "cause", "sha256")},
        metrics="\n".join(f"| {name} | {value:.4g} |" for name, value in metrics.items()),
        features=", ".join(report["strongest_features"]),
    )
    (stage.OUTPUTS / "model-card.md").write_text(card)
    print(card)
    if warehouse.is_there():
        released = warehouse.enter_release(release)
        print(f"released model {release['sha256'][:12]}; {released} released so far")


if __name__ == "__main__":
    main()
