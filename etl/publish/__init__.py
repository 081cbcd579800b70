"""Publishing: write-audit-publish of one release over Parquet files, Iceberg tables and the warehouse."""
