"""The command line: `creditvillage …`. Exit 0 fine, 1 blocking findings, 2 usage or configuration, 3 internal error."""

from etl.cli.app import main

__all__ = ["main"]
