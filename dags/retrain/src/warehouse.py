"""The SQL warehouse: the measurements, and the models that were good enough to be released."""

import os

import psycopg

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


def connect() -> psycopg.Connection:
    """Opens the warehouse that the secret WAREHOUSE_DSN names, with its tables in place."""
    connection = psycopg.connect(os.environ["WAREHOUSE_DSN"], connect_timeout=10)
    connection.execute("SELECT pg_advisory_xact_lock(hashtext('retrain schema'))")
    connection.execute(SCHEMA)
    connection.commit()
    return connection
