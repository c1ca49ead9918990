"""Measures the model on rows that it has not seen. The gate in dags/retrain.yaml judges the numbers."""

import json

import joblib
import pandas as pd
from sklearn.metrics import accuracy_score, precision_score, recall_score, roc_auc_score

import stage


def main() -> None:
    model = joblib.load(stage.INPUTS / "model")
    table = pd.read_csv(stage.INPUTS / "test", index_col="specimen")
    truth = table["malignant"]
    probability = model.predict_proba(table.drop(columns="malignant"))[:, 1]
    verdict = probability >= 0.5
    metrics = {
        "auc": float(roc_auc_score(truth, probability)),
        "accuracy": float(accuracy_score(truth, verdict)),
        "precision": float(precision_score(truth, verdict, zero_division=0)),
        "recall": float(recall_score(truth, verdict)),
        "test_rows": len(table),
    }
    stage.report_metrics(metrics)
    weight = pd.Series(model.feature_importances_, index=model.feature_names_in_)
    strongest = weight.sort_values(ascending=False).head(5).round(4).to_dict()
    (stage.OUTPUTS / "report.json").write_text(json.dumps({"metrics": metrics, "strongest_features": strongest}))


if __name__ == "__main__":
    main()
