"""Cleans the table, adds what the measurements say together, and splits it into training and test rows."""

import pandas as pd
from sklearn.model_selection import train_test_split

import stage


def clean(table: pd.DataFrame) -> pd.DataFrame:
    """Without incomplete or repeated rows, and with the target as a number."""
    table = table.dropna().drop_duplicates(subset="specimen").set_index("specimen")
    return table.assign(malignant=table["malignant"].astype(int))


def add_features(table: pd.DataFrame) -> pd.DataFrame:
    """How far the worst cell nucleus is from the mean one, for each kind of measurement."""
    means = [name for name in table.columns if name.startswith("mean_")]
    contrast = {
        "contrast_" + name.removeprefix("mean_"): table["worst_" + name.removeprefix("mean_")] / table[name].clip(1e-9)
        for name in means
    }
    return table.assign(**contrast)


def main() -> None:
    raw = pd.read_csv(stage.INPUTS / "raw")
    table = add_features(clean(raw))
    train, test = train_test_split(
        table,
        test_size=float(stage.param("test_share")),
        random_state=int(stage.param("seed")),
        stratify=table["malignant"],
    )
    train.to_csv(stage.OUTPUTS / "train.csv")
    test.to_csv(stage.OUTPUTS / "test.csv")
    stage.report_metrics(
        {
            "dropped": len(raw) - len(table),
            "features": len(table.columns) - 1,
            "train_rows": len(train),
            "test_rows": len(test),
            "malignant_share": float(table["malignant"].mean()),
        }
    )


if __name__ == "__main__":
    main()
