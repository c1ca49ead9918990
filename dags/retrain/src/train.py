"""Trains the model that model.toml describes, after trying it on parts of the training rows."""

import time
import tomllib
from pathlib import Path

import joblib
import pandas as pd
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

import stage

FOLDS = 5


def new_model(settings: dict[str, float], seed: int) -> GradientBoostingClassifier:
    """An untrained model."""
    return GradientBoostingClassifier(
        n_estimators=settings["trees"],
        max_depth=settings["depth"],
        learning_rate=settings["learning_rate"],
        subsample=settings["share_of_rows"],
        random_state=seed,
    )


def main() -> None:
    settings = tomllib.loads(Path("model.toml").read_text())["model"]
    seed = int(stage.param("seed"))
    print("settings:", ", ".join(f"{name} = {value}" for name, value in settings.items()))
    table = pd.read_csv(stage.INPUTS / "train", index_col="specimen")
    features, target = table.drop(columns="malignant"), table["malignant"]

    started = time.monotonic()
    scores = []
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(features, target)
    for number, (seen, unseen) in enumerate(folds, start=1):
        model = new_model(settings, seed).fit(features.iloc[seen], target.iloc[seen])
        probability = model.predict_proba(features.iloc[unseen])[:, 1]
        scores.append(roc_auc_score(target.iloc[unseen], probability))
        print(f"fold {number} of {FOLDS}: auc {scores[-1]:.4f}")
    model = new_model(settings, seed).fit(features, target)
    seconds = time.monotonic() - started
    print(f"trained on all {len(table)} rows")

    joblib.dump(model, stage.OUTPUTS / "model.joblib")
    stage.report_metrics({"cv_auc": float(pd.Series(scores).mean()), "train_seconds": round(seconds, 3)})


if __name__ == "__main__":
    main()
