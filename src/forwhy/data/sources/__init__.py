"""Where data sets come from: one file per format, one function per source."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from forwhy.data.dataset import Dataset
from forwhy.data.sources.lcrec import import_lcrec
from forwhy.data.sources.tables import import_tables
from forwhy.data.sources.xrec import import_xrec

__all__ = ["SOURCES", "import_lcrec", "import_tables", "import_xrec"]

SOURCES: Mapping[str, Callable[..., Dataset]] = MappingProxyType(
    {"xrec": import_xrec, "lcrec": import_lcrec, "tables": import_tables}
)
"""Importers by the name that ``forwhy data import`` takes."""
