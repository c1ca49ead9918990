"""Reads all measurements into one CSV file: a row a specimen, a column a feature.

They come from data/specimens.csv, or from the warehouse where the stage has the secret WAREHOUSE_DSN. An empty
warehouse is filled from the file first, so that there is something to read.
"""

from pathlib import Path

import pandas as pd

import stage
import warehouse

SPECIMENS = Path("data/specimens.csv")


def main() -> None:
    table = pd.read_csv(SPECIMENS)
    if warehouse.is_there():
        table = warehouse.specimens(or_else=table)
    table.to_csv(stage.OUTPUTS / "raw.csv", index=False)
    stage.report_metrics({"rows": len(table), "columns": len(table.columns)})


if __name__ == "__main__":
    main()
