"""Enters the model into the warehouse's table of released models and writes its card.

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

Trained by run {run} ({cause}).

| metric | value |
|---|---|
{metrics}

Strongest features: {features}.
"""


def main() -> None:
    report = json.loads((stage.INPUTS / "report").read_text())
    metrics = report["metrics"]
    digest = hashlib.sha256((stage.INPUTS / "model").read_bytes()).hexdigest()
    run = os.environ["TRAINYARD_RUN_ID"]
    commit = os.environ.get("TRAINYARD_COMMIT") or "work tree"
    cause = os.environ["TRAINYARD_CAUSE"]
    with warehouse.connect() as connection:
        connection.execute(
            """
            INSERT INTO released_model (run_id, commit_hash, cause, auc, accuracy, sha256)
            VALUES (%s, %s, %s, %s, %s, %s)
            ON CONFLICT (run_id) DO NOTHING
            """,
            (run, commit, cause, metrics["auc"], metrics["accuracy"], digest),
        )
        (released,) = connection.execute("SELECT count(*) FROM released_model").fetchone()
    card = CARD.format(
        commit=commit,
        run=run,
        cause=cause,
        metrics="\n".join(f"| {name} | {value:.4g} |" for name, value in metrics.items()),
        features=", ".join(report["strongest_features"]),
    )
    (stage.OUTPUTS / "model-card.md").write_text(card)
    print(f"released model {digest[:12]} of commit {commit[:12]}; {released} released so far")


if __name__ == "__main__":
    main()
