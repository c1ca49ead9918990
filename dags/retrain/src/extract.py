"""Reads all measurements from the warehouse into one CSV file: a row a specimen, a column a feature.

The first run fills the warehouse with the Wisconsin breast cancer data that ships with scikit-learn, so
that the project has something to read. Filling it again changes nothing.
"""

import pandas as pd
import psycopg
from sklearn.datasets import load_breast_cancer

import stage
import warehouse


def fill(connection: psycopg.Connection) -> int:
    """Loads the data set unless it is there. Returns how many specimens were added."""
    (present,) = connection.execute("SELECT count(*) FROM diagnosis").fetchone()
    data = load_breast_cancer(as_frame=True)
    if present >= len(data.frame):
        return 0
    features = [name.replace(" ", "_") for name in data.feature_names]
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute("TRUNCATE measurement, diagnosis")
        with cursor.copy("COPY diagnosis (specimen, malignant) FROM STDIN") as copy:
            for specimen, target in enumerate(data.target):
                copy.write_row((specimen, bool(target == 0)))
        with cursor.copy("COPY measurement (specimen, feature, value) FROM STDIN") as copy:
            for specimen, values in enumerate(data.data.to_numpy()):
                for feature, value in zip(features, values, strict=True):
                    copy.write_row((specimen, feature, float(value)))
    return len(data.frame)


def read(connection: psycopg.Connection) -> pd.DataFrame:
    """All specimens with their features and their diagnosis."""
    rows = connection.execute(
        """
        SELECT specimen, feature, value, malignant
        FROM measurement JOIN diagnosis USING (specimen)
        ORDER BY specimen, feature
        """
    ).fetchall()
    long = pd.DataFrame(rows, columns=["specimen", "feature", "value", "malignant"])
    wide = long.pivot(index=["specimen", "malignant"], columns="feature", values="value")
    return wide.reset_index()


def main() -> None:
    with warehouse.connect() as connection:
        added = fill(connection)
        print(f"the warehouse had to be filled: {added} specimens" if added else "the warehouse is filled")
        table = read(connection)
    table.to_csv(stage.OUTPUTS / "raw.csv", index=False)
    stage.report_metrics({"rows": len(table), "columns": len(table.columns)})


if __name__ == "__main__":
    main()
