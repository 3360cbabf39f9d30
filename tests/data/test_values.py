"""Numbers and times as shops write them, against Python's own datetime."""

from datetime import UTC, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwhy.data.values import DATES, date_format, numbers, seconds, terms
from forwhy.errors import UserError

MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(2068, 12, 31)).map(lambda it: it.replace(microsecond=0))


def read(*values: str | None) -> list[int | None]:
    column = pl.Series(values, dtype=pl.String)
    return seconds(column, date_format(column, "x")).to_list()


@settings(max_examples=200, deadline=None)
@given(
    MOMENTS,
    st.sampled_from(DATES),
    st.sampled_from(["", " %H:%M", " %H:%M:%S", " %I:%M:%S %p", "T%H:%M:%SZ"]),
)
def test_what_strftime_writes_is_read(moment: datetime, form: str, clock: str) -> None:
    text = moment.strftime(form + clock)
    wanted = datetime.strptime(text, form + clock).replace(tzinfo=UTC)
    assert seconds(pl.Series([text]), form).to_list() == [int(wanted.timestamp())]


def test_zones() -> None:
    east = datetime(2024, 5, 6, 1, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert read(east.isoformat()) == [int(east.timestamp())]
    assert seconds(pl.Series([east]), None).to_list() == [int(east.timestamp())]


def test_one_row_decides_for_day_or_month_first() -> None:
    assert read("05/01/2024", "13/01/2024") == [1704412800, 1705104000]
    assert read("05/01/2024", "01/13/2024") == [1714521600, 1705104000]
    assert read("01/01/2024", "02/02/2024") == [1704067200, 1706832000]  # either way the same days
    with pytest.raises(UserError, match=r"x: '05/01/2024' is %d/%m/%Y or %m/%d/%Y.*--date-format '%d/%m/%Y'"):
        read("05/01/2024")
    assert date_format(pl.Series(["05/01/2024"]), "x", "%m/%d/%Y") == "%m/%d/%Y"


def test_numbers_of_seconds_milliseconds_and_days() -> None:
    assert read("1700000000", "1700000000000", "3") == [1700000000, 1700000000, 3]
    assert read("20240105", None) == [1704412800, None]
    assert read("2024-01-05", "05.01.2024", "2024-01-06") == [1704412800, None, 1704499200]
    with pytest.raises(UserError, match="x: 'soon' is no time that is known"):
        read("soon")


def test_days_as_excel_counts_them_are_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        assert read("45505", None, "45505.5") == [1722470400, None, 1722513600]
    assert "x: numbers like 45505 are read as days since 1899-12-30" in caplog.text
    assert seconds(pl.Series([45505]), date_format(pl.Series([45505]), "x")).to_list() == [1722470400]
    assert read("45505", "5") == [45505, 5], "then they are seconds"


def test_commas() -> None:
    def of(*values: str) -> list[float | None]:
        return numbers(pl.Series(values)).to_list()

    assert of("4,5", "5", " 1.299,00", "1,234") == [4.5, 5.0, 1299.0, 1.234]
    assert of("4,5", "-4,5", "4.5", ",5") == [4.5, -4.5, None, 0.5], "no 45"
    assert of("1,234", "1,500.5", "-3") == [1234.0, 1500.5, -3.0]
    assert of("€ 5", "") == [None, None]


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("", []),
        (" , ,", []),
        ("a, b ,c", ["a", "b", "c"]),
        ("[not, a list]", ["[not", "a list]"]),
        ("[]", []),
        ("{'a': {'b': 1}}", ["a: b: 1"]),
        ('[{"name": "x"}, null, "", [2, 3.5]]', ["name: x", "2", "3.5"]),
        ("{'wifi': \"{'free': True}\"}", ["wifi: free"]),
        ("{1, 2, 2}", ["1", "2"]),
        ("[" * 50 + "7" + "]" * 50, ["7"]),
        ("[" * 5000 + "7" + "]" * 5000, ["[" * 5000 + "7" + "]" * 5000]),
        ("[0x" + "f" * 9000 + "]", ["[0x" + "f" * 9000 + "]"]),
        ("__import__('os')", ["__import__('os')"]),
        ("[__import__('os')]", ["[__import__('os')]"]),
    ],
)
def test_terms_of_a_cell(cell: str, found: list[str]) -> None:
    assert terms(cell) == found
