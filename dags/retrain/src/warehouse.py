"""The SQL warehouse, where there is one: the measurements, and the models that were good enough to be released."""

import os

import pandas as pd

SCHEMA = """
CREATE TABLE IF NOT EXISTS measurement (
    specimen   integer          NOT NULL,
    feature    text             NOT NULL,
    value      double precision NOT NULL,
    PRIMARY KEY (specimen, feature)
);
CREATE TABLE IF NOT EXISTS diagnosis (
    specimen   integer PRIMARY KEY,
    malignant  boolean NOT NULL
);
CREATE TABLE IF NOT EXISTS released_model (
    run_id       text PRIMARY KEY,
    commit_hash  text NOT NULL,
    cause        text NOT NULL,
    auc          double precision NOT NULL,
    accuracy     double precision NOT NULL,
    sha256       text NOT NULL,
    released_at  timestamptz NOT NULL DEFAULT now()
);
"""


def is_there() -> bool:
    """Whether the stage has the secret that names the warehouse."""
    return "WAREHOUSE_DSN" in os.environ


def connect():
    """Opens the warehouse, with its tables in place."""
    import psycopg

    connection = psycopg.connect(os.environ["WAREHOUSE_DSN"], connect_timeout=10)
    connection.execute("SELECT pg_advisory_xact_lock(hashtext('retrain schema'))")
    connection.execute(SCHEMA)
    connection.commit()
    return connection


def specimens(or_else: pd.DataFrame) -> pd.DataFrame:
    """All specimens with their features and their diagnosis. An empty warehouse gets those of `or_else` first."""
    with connect() as connection:
        added = fill(connection, or_else)
        print(f"the warehouse had to be filled: {added} specimens" if added else "the warehouse is filled")
        return read(connection)


def fill(connection, table: pd.DataFrame) -> int:
    """Loads the table unless its specimens are there. Returns how many were added."""
    (present,) = connection.execute("SELECT count(*) FROM diagnosis").fetchone()
    if present >= len(table):
        return 0
    long = table.melt(id_vars=["specimen", "malignant"], var_name="feature")
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute("TRUNCATE measurement, diagnosis")
        with cursor.copy("COPY diagnosis (specimen, malignant) FROM STDIN") as copy:
            for row in table.itertuples():
                copy.write_row((row.specimen, bool(row.malignant)))
        with cursor.copy("COPY measurement (specimen, feature, value) FROM STDIN") as copy:
            for row in long.itertuples():
                copy.write_row((row.specimen, row.feature, float(row.value)))
    return len(table)


def read(connection) -> pd.DataFrame:
    """The warehouse's measurements as one table."""
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


def enter_release(release: dict) -> int:
    """Enters a released model, once for each run. Returns how many there are."""
    with connect() as connection:
        connection.execute(
            """
            INSERT INTO released_model (run_id, commit_hash, cause, auc, accuracy, sha256)
            VALUES (%(run)s, %(commit)s, %(cause)s, %(auc)s, %(accuracy)s, %(sha256)s)
            ON CONFLICT (run_id) DO NOTHING
            """,
            release,
        )
        (released,) = connection.execute("SELECT count(*) FROM released_model").fetchone()
    return released
