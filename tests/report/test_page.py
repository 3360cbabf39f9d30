"""The page holds all that was measured, lets nothing of a stranger's through, and loads nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from forwhy import errors
from forwhy.errors import UserError
from forwhy.evaluate.compare import Comparison, Scored
from forwhy.evaluate.document import Examined, Sample
from forwhy.evaluate.registry import METRICS
from forwhy.report import write_report
from forwhy.report.people import Offered, People, Person, Word
from forwhy.report.samples import passage
from forwhy.report.writing import clean

Two = tuple[Examined, Scored]
Compared = tuple[list[Comparison], set[tuple[str, str]]]
PARTS = ("people", "findings", "numbers", "samples", "protocol")
FOLDS = (
    "text", "ranking", "gain", "grounding", "choices", "comparisons", "training", "usage",
)  # fmt: skip
VOID = {"meta", "input", "img", "br", "link", "hr"}


class Page(HTMLParser):
    """Elements in order with their attributes, ancestors and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[dict[str, Any]] = []
        self._open: list[dict[str, Any]] = []
        self.feed(text)
        assert [element["tag"] for element in self._open] == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = {"tag": tag, "text": "", "inside": list(self._open), **dict(attrs)}
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append({"tag": tag, "text": "", "inside": list(self._open), **dict(attrs)})

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1]["tag"] == tag, f"</{tag}> closes <{self._open[-1]['tag']}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element["text"] += data

    def all(self, tag: str, **attributes: str) -> list[dict[str, Any]]:
        """Elements of a tag with these attributes (`class_` for class)."""
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [
            element
            for element in self.elements
            if element["tag"] == tag and all(element.get(name) == value for name, value in wanted.items())
        ]

    def section(self, name: str) -> str:
        """The text of a section or a fold of it."""
        [found] = self.all("section", id=name) + self.all("details", id=name)
        return str(found["text"])


def written(
    path: Path,
    runs: list[Examined],
    comparisons: list[Comparison] | None = None,
    bold: set[tuple[str, str]] | None = None,
    title: str = "a report",
    command: str | None = None,
) -> tuple[Page, str]:
    write_report(path, runs, comparisons or [], bold or set(), title, command)
    text = path.read_text(encoding="utf-8")
    return Page(text), text


@pytest.fixture(scope="module")
def both(
    good: Two, bad: Two, compared: Compared, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Page, str]:
    path = tmp_path_factory.mktemp("report") / "report.html"
    return written(path, [good[0], bad[0]], *compared, title="</title><script>", command="forwhy <x>")


def test_runs_controls_and_metrics_all_appear(both: tuple[Page, str], good: Two) -> None:
    page, _ = both
    headers = [element["text"] for element in page.all("th", scope="row")]
    document = good[0].document
    for name in ("all right", *document["controls"], "popularity", "unseen users", "chance"):
        assert any(header.startswith(name) for header in headers), name
    rows = [element["text"] for element in page.all("tr")]
    assert any(row.startswith("unseen users5") for row in rows), "with its pairs"
    columns = {element["text"].split(" ")[0] for element in page.all("th", scope="col")}
    measured = {name for name, value in document["text"].items() if isinstance(value, float)}
    ranked = {name for name in document["ranking"] if "@" in name}
    assert len(measured) > 15
    assert len(ranked) > 15
    for metric in measured | ranked | {"precision", "NLL", "median_rank"}:
        assert any(column.startswith(metric) for column in columns), metric


def test_values_stand_with_interval_and_deviation(both: tuple[Page, str], good: Two) -> None:
    text = good[0].document["text"]
    low, high = text["intervals"]["length"]
    cell = f"{text['length']:.1f} ({text['std']['length']:.1f})[{low:.1f}, {high:.1f}]"
    assert cell in both[0].section("text")


def test_every_part_is_there(both: tuple[Page, str]) -> None:
    page, text = both
    assert [section["id"] for section in page.all("section")] == list(PARTS)
    assert [fold["id"] for fold in page.all("details") if "id" in fold] == list(FOLDS)
    links = {link["href"] for link in page.all("a")}
    assert links == {f"#{part}" for part in PARTS}
    for heading in page.all("h2"):
        assert len(heading["text"].strip()) > 5
    assert "from 13.0 to 3.2 over 8 steps" in text
    assert "3 of 4 words in use" in text
    assert "misses 41% of the claims that are right and accepts 40%" in page.section("grounding")
    assert "2 (empty prediction)" in page.section("findings")
    assert "f00d" * 16 in page.section("protocol")
    assert "forwhy <x>" in page.section("protocol")
    assert "cost tokens" in page.section("protocol")
    assert len(text) < 500_000


def test_nothing_is_loaded_and_the_policy_forbids_it(both: tuple[Page, str]) -> None:
    page, text = both
    [policy] = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'")
    assert page.all("link") == page.all("img") == page.all("iframe") == []
    for element in page.elements:
        for name in ("src", "href", "xlink:href", "action", "style", "clip-path", "data", "poster"):
            value = element.get(name) or ""
            assert "//" not in value
            assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)", value))
    assert all(element["href"].startswith("#") for element in page.elements if element.get("href"))
    [style] = page.all("style")
    assert "url(" not in style["text"]
    assert "@import" not in style["text"]


def test_nothing_runs_and_the_policy_forbids_it(both: tuple[Page, str]) -> None:
    page, text = both
    [policy] = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert "script" not in policy["content"]
    assert page.all("script") == page.all("form") == page.all("button") == []


def test_strangers_words_are_words(both: tuple[Page, str]) -> None:
    page, text = both
    assert "alert(1)" in page.section("samples"), "shown as it is"
    assert not any(name.startswith("on") for element in page.elements for name in element)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
    assert "😀 שלום" in page.section("samples")
    [title] = page.all("title")
    assert title["text"] == "</title><script>"


def test_svg_holds_strangers_words_as_text(both: tuple[Page, str]) -> None:
    page, text = both
    assert len(page.all("svg")) > 5
    labels = [element["text"] for element in page.all("text")]
    assert "all right" in labels
    assert any(label.startswith("wrong <script>") for label in labels)
    inside = {
        element["tag"] for element in page.elements if any(e["tag"] == "svg" for e in element["inside"])
    }
    assert inside <= {"g", "path", "text", "use", "defs", "clippath", "rect"}


def test_ids_are_unique(both: tuple[Page, str]) -> None:
    ids = [element["id"] for element in both[0].elements if "id" in element]
    assert len(ids) == len(set(ids))


def test_same_input_same_bytes(good: Two, compared: Compared, tmp_path: Path) -> None:
    first = written(tmp_path / "a.html", [good[0]], *compared)[1]
    assert written(tmp_path / "b.html", [good[0]], *compared)[1] == first


def test_a_control_that_wins_is_marked(both: tuple[Page, str], bad: Two) -> None:
    document = bad[0].document
    assert document["controls"]["constant"]["bleu1"] > document["text"]["bleu1"]
    assert both[0].all("td", class_="above")


def test_no_metric_is_named_before_the_folds(both: tuple[Page, str]) -> None:
    page, _ = both
    metrics = (set(METRICS) - {"empty"}) | {"f00d", "recall@", "ndcg", "nll", "nats", "protocol"}
    words = (page.section("people") + page.section("findings")).lower()
    assert not [name for name in metrics if re.search(rf"\b{re.escape(name)}", words)]
    assert 1 < len([item for item in page.all("li") if item.get("class") in {"good", "bad", "open"}]) <= 5
    closed = [fold for fold in page.all("details", class_="part")]
    assert len(closed) == len(FOLDS) + 1
    assert not [fold for fold in closed if "open" in fold]


def marked(page: Page, run: str) -> set[str]:
    """Values of marked cells under a run in the main text table."""
    table = page.all("table")[0]
    rows = [e for e in page.all("tr") if table in e["inside"] and e["text"].strip()]
    starts = [i for i, row in enumerate(rows) if row.get("class") == "run"]
    start = next(i for i in starts if run in rows[i]["text"])
    end = next((i for i in starts if i > start), len(rows))
    cells = [e for e in page.all("td") if e.get("class") in {"above", "level"}]
    return {cell["text"] for cell in cells if any(row in cell["inside"] for row in rows[start:end])}


def test_marks_stand_under_the_run_that_loses(both: tuple[Page, str]) -> None:
    assert marked(both[0], "all right") == set()
    assert marked(both[0], "wrong")


def test_bold_is_only_what_may_be(good: Two, bad: Two, compared: Compared, tmp_path: Path) -> None:
    comparisons, _ = compared
    runs = [good[0], bad[0]]

    def bold(allowed: set[tuple[str, str]]) -> list[str]:
        page, _ = written(tmp_path / "report.html", runs, comparisons, allowed)
        return [
            cell["text"]
            for cell in page.all("b")
            if any(element["tag"] == "td" for element in cell["inside"])
        ]

    assert bold(set()) == []
    assert bold({("all right", "bleu1"), ("all right", "rougeL")}) == ["1.000", "1.000"]


def test_each_part_can_be_absent(good: Two, tmp_path: Path) -> None:
    bare = Examined("bare", {})
    page, text = written(tmp_path / "bare.html", [bare])
    assert [section["id"] for section in page.all("section")] == ["findings", "protocol"]
    assert page.all("svg") == page.all("table") == []
    document = good[0].document
    for part, section in {
        "text": "text", "ranking": "ranking", "information_gain": "gain", "grounding": "grounding",
    }.items():  # fmt: skip
        only = Examined(
            "run",
            {
                **document,
                "text_retrieval": None,
                "words": None,
                part: None,
                "controls": None,
                "baselines": {},
            },
        )
        page, text = written(tmp_path / "part.html", [only])
        assert section not in {found.get("id") for found in page.all("details")}
        assert 'href="#' + section not in text
        assert "None" not in text


def test_published_outputs_without_ids_or_scores(tmp_path: Path) -> None:
    samples = [Sample((row, row), "right", f"said {row}") for row in range(3)]
    page, _ = written(tmp_path / "report.html", [Examined("published", {}, samples)])
    assert "said 2" in page.section("samples")
    assert "In order of" not in page.section("samples")


def test_people_stand_first_with_all_that_is_known_of_them(good: Two, bad: Two, tmp_path: Path) -> None:
    words = bad[0].name
    word = Word("<u.macro_1>", [f"gloss {words}"], 7, [f"owner {words}"], [f"takes {words}"])
    offered = Offered(
        f"title {words}",
        passage(f"text {words}", [])[0],
        [("claim", [(f"said {words}", "a review")]), ("bare", [])],
        "they took x",
    )
    one = Person(
        f"name {words}",
        [offered, offered],
        [f"took {words}"],
        1200,
        [word] * 5,
        {f"run {words}": [f"other {words}"]},
    )
    path = tmp_path / "report.html"
    write_report(path, [good[0]], [], set(), people=People("all right", [one], {"user": [word]}))
    page = Page(path.read_text(encoding="utf-8"))
    assert [section["id"] for section in page.all("section")][:3] == ["people", "words", "findings"]
    people, shown = page.section("people"), clean(words)
    for kind in ("name", "took", "gloss", "title", "text", "said", "run", "other"):
        assert f"{kind} {shown}" in people, kind
    assert "and 1,200 more before" in people
    assert "2 further words" in people
    assert people.count("1 of 2 claims supported") == people.count("nothing known supports this") == 2
    assert [("open" in fold) for fold in page.all("details", class_="claims")] == [True, False]
    assert f"7 users, such as owner {shown}; they take takes {shown}" in page.section("words")
    assert page.all("script") == page.all("img") == []


def test_cards_go_by_the_run_that_has_texts(tmp_path: Path) -> None:
    samples = [Sample((row, 0), "r", "p", scores={"rougeL": row / 9}) for row in range(9)]
    runs = [Examined("lists only", {}), Examined("writer", {}, samples)]
    page, _ = written(tmp_path / "report.html", runs)
    assert "In order of rougeL of writer" in page.section("samples")
    assert [card["text"].split()[0] for card in page.all("article", class_="pair")] == [
        str(n) for n in range(8, -1, -1)
    ]


def test_pairs_of_several_runs_share_a_card(good: Two, bad: Two, both: tuple[Page, str]) -> None:
    cards = both[0].all("article", class_="pair")
    assert len(cards) == len(good[0].samples)
    assert all("all right" in card["text"] and "wrong" in card["text"] for card in cards)


def test_long_texts_are_folded_and_cut(both: tuple[Page, str]) -> None:
    folds = [element for element in both[0].all("details", class_="more") if "wording" in element["text"]]
    assert len(folds) == 2, "as an output and dealt to another pair"
    assert all("69,999 further characters are not on this page" in fold["text"] for fold in folds)


def test_a_sample_of_many_pairs_goes_from_best_to_worst(tmp_path: Path) -> None:
    samples = [Sample((row, 0), "r", "p", scores={"rougeL": row / 999}) for row in range(1000)]
    page, _ = written(tmp_path / "report.html", [Examined("many", {}, samples)])
    cards = page.all("article", class_="pair")
    users = [int(card["text"].split()[0]) for card in cards]
    assert len(users) == 300
    assert users == sorted(users, reverse=True)
    assert (users[0], users[-1]) == (999, 0)
    assert "Of 1,000, evenly spaced" in page.section("samples")


@pytest.mark.parametrize("names", [[], ["a", "a"]])
def test_no_runs_and_equal_names_are_refused(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(UserError, match="each its own name"):
        write_report(tmp_path / "report.html", [Examined(name, {}) for name in names], [], set())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", ["matplotlib", "jinja2"])
def test_a_missing_library_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    found = errors.find_spec
    monkeypatch.setattr(errors, "find_spec", lambda name: None if name == module else found(name))
    with pytest.raises(UserError, match=rf"{module} is not installed; `pip install 'forwhy\[report\]'`"):
        write_report(tmp_path / "report.html", [Examined("bare", {})], [], set())
    assert list(tmp_path.iterdir()) == []


def test_more_runs_than_colours(good: Two, tmp_path: Path) -> None:
    runs = [replace(good[0], name=f"run {number}", samples=()) for number in range(8)]
    page, _ = written(tmp_path / "report.html", runs)
    assert {f"run {number}" for number in range(8)} <= {e["text"].split(" (")[0] for e in page.all("bdi")}
