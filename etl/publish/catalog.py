"""The Iceberg side of a release: tables `curated.<table>` over the lake's data files, tagged with each release.

The catalog (pyiceberg SqlCatalog) lives in the warehouse database. Bound to an open connection, its commits become
part of that connection's transaction, so that catalog and warehouse switch together or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io.pyarrow import parquet_file_to_data_file
from pyiceberg.schema import Schema
from pyiceberg.table import Table, Transaction
from pyiceberg.table.update.snapshot import ManageSnapshots
from pyiceberg.types import (
    BooleanType,
    DateType,
    DecimalType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
)
from sqlalchemy import Connection

from etl.contract.model import Contract
from etl.publish.lake import DataFile, columns_of

CATALOG = "creditvillage"
NAMESPACE = "curated"
RELEASE_PROPERTY = "creditvillage.release"
_NAME_MAPPING = "schema.name-mapping.default"
_TYPES: dict[str, type[IcebergType]] = {
    "text": StringType,
    "integer": IntegerType,
    "bigint": LongType,
    "boolean": BooleanType,
    "date": DateType,
}


def open_catalog(url: str, lake: Path) -> SqlCatalog:
    """The catalog for readers: `open_catalog(...).load_table("curated.core_loans").scan().to_arrow()`."""
    return SqlCatalog(CATALOG, uri=url, warehouse=_address(lake / "iceberg"), init_catalog_tables="false")


def prepare_catalog(url: str, lake: Path) -> None:
    """Create the catalog's own tables and the namespace, once and before any transaction over them."""
    (lake / "iceberg").mkdir(parents=True, exist_ok=True)
    catalog = SqlCatalog(CATALOG, uri=url, warehouse=_address(lake / "iceberg"), init_catalog_tables="true")
    if not catalog.namespace_exists(NAMESPACE):
        catalog.create_namespace(NAMESPACE)
    catalog.engine.dispose()


def bind_catalog(url: str, lake: Path, connection: Connection) -> SqlCatalog:
    """The catalog working inside the connection's open transaction."""
    catalog = open_catalog(url, lake)
    catalog.engine.dispose()
    catalog.engine = connection
    return catalog


def register_release(
    catalog: SqlCatalog, lake: Path, contracts: Mapping[str, Contract], files: Iterable[DataFile], release_id: str
) -> None:
    """Make every table hold exactly these files and tag it with the release.

    Files already held are left alone; a table whose set does not change is only tagged. Files without rows are not
    registered: they add nothing, and their missing statistics match every filter.
    """
    wanted: dict[str, set[str]] = {table: set() for table in contracts}
    for file in files:
        addresses = wanted.setdefault(file.table, set())
        if file.rows:
            addresses.add(_address(lake / file.path))
    for table in sorted(wanted):
        _register(_table(catalog, contracts, table), contracts.get(table), wanted[table], release_id)


def iceberg_schema(contract: Contract) -> Schema:
    """The contract's published columns; all optional, because files of earlier months may lack a newer column."""
    return Schema(
        *(
            NestedField(number, name, _iceberg_type(kind), required=False)
            for number, (name, kind) in enumerate(columns_of(contract).items(), start=1)
        )
    )


def _table(catalog: SqlCatalog, contracts: Mapping[str, Contract], name: str) -> Table:
    place = (NAMESPACE, name)
    if catalog.table_exists(place):
        return catalog.load_table(place)
    schema = iceberg_schema(contracts[name])
    properties = {_NAME_MAPPING: schema.name_mapping.model_dump_json(), "format-version": "2"}
    return catalog.create_table(place, schema=schema, properties=properties)


def _register(table: Table, contract: Contract | None, wanted: set[str], release_id: str) -> None:
    transaction = table.transaction()
    if contract is not None:
        _evolve(transaction, table, contract)
    held = {task.file.file_path: task.file for task in table.scan().plan_files()}
    if held.keys() != wanted or table.current_snapshot() is None:
        _replace_files(transaction, table, held, wanted, release_id)
    if release_id not in table.refs():
        snapshot = transaction.table_metadata.current_snapshot()
        ManageSnapshots(transaction).create_tag(snapshot.snapshot_id, release_id).commit()
    transaction.commit_transaction()


def _evolve(transaction: Transaction, table: Table, contract: Contract) -> None:
    """Add columns the contract has gained; pyiceberg refuses every change that would lose data."""
    known = set(table.schema().column_names)
    if not set(columns_of(contract)) <= known:
        with transaction.update_schema() as update:
            update.union_by_name(iceberg_schema(contract))


def _replace_files(
    transaction: Transaction, table: Table, held: Mapping[str, Any], wanted: set[str], release_id: str
) -> None:
    """One snapshot that drops files by name and adds others.

    By name, not by a filter on period: the bounds of a file's texts are cut at 16 characters, so a filter on a longer
    bank code cannot prove a whole-file match and would rewrite data.
    """
    with transaction.update_snapshot(snapshot_properties={RELEASE_PROPERTY: release_id}).overwrite() as snapshot:
        for address in sorted(held.keys() - wanted):
            snapshot.delete_data_file(held[address])
        for address in sorted(wanted - held.keys()):
            snapshot.append_data_file(
                parquet_file_to_data_file(io=table.io, table_metadata=transaction.table_metadata, file_path=address)
            )


def _iceberg_type(kind: str) -> IcebergType:
    if kind.startswith("decimal("):
        precision, scale = kind.removeprefix("decimal(").removesuffix(")").split(",")
        return DecimalType(int(precision), int(scale))
    return _TYPES[kind]()


def _address(path: Path) -> str:
    return f"file://{path.resolve()}"
