"""Where data sets come from: one file per format, one function per source."""

from collections.abc import Callable, Mapping

from forwhy.data.dataset import Dataset
from forwhy.data.sources.papers import import_lcrec, import_nlg4rs, import_xrec
from forwhy.data.sources.published import import_amazon, import_google, import_yelp
from forwhy.data.sources.recbole import import_recbole
from forwhy.data.sources.sql import import_sql
from forwhy.data.sources.tables import import_tables

__all__ = [
    "SOURCES", "import_amazon", "import_google", "import_lcrec", "import_nlg4rs", "import_recbole", "import_sql",
    "import_tables", "import_xrec", "import_yelp",
]  # fmt: skip

SOURCES: Mapping[str, Callable[..., Dataset]] = {
    "amazon": import_amazon,
    "yelp": import_yelp,
    "google": import_google,
    "recbole": import_recbole,
    "xrec": import_xrec,
    "nlg4rs": import_nlg4rs,
    "lcrec": import_lcrec,
    "tables": import_tables,
    "sql": import_sql,
}
"""Importers by the name that ``forwhy data import`` takes."""
