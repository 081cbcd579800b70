"""The machinery of one machine: the embedded PostgreSQL server and a local Airflow."""
