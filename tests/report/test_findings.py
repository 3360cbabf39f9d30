"""The words follow from the numbers: who wins, and what chance may have made."""

from dataclasses import replace

from forwhy.evaluate.compare import Comparison
from forwhy.evaluate.document import Examined
from forwhy.evaluate.significance import Interval
from forwhy.report import findings
from forwhy.report.findings import metric_list
from forwhy.report.writing import joined


def control(value: float, low: float, high: float) -> dict:
    return {"rougeL": value, "margin": {"rougeL": 0.5 - value, "intervals": {"rougeL": [low, high]}}}


def run(*controls: dict, name: str = "ours") -> Examined:
    text = {"rougeL": 0.5, "length": 9.0, "pairs": 30, "intervals": {"rougeL": [0.4, 0.6]}, "std": {}}
    named = {f"control {place}": found | {"length": 99.0} for place, found in enumerate(controls)}
    return Examined(name, {"text": text, "controls": named})


def comparison(difference: float, p_holm: float, metric: str = "rougeL") -> Comparison:
    ends = Interval(difference, difference - 0.01, difference + 0.01)
    return Comparison("a", "b", metric, ends, 0.4, p_holm / 2, p_holm, 30, (0, 0))


BELOW, LEVEL, ABOVE = control(0.3, 0.1, 0.3), control(0.51, -0.1, 0.1), control(0.7, -0.3, -0.1)


def test_a_metric_is_won_against_every_control_or_not_at_all() -> None:
    assert (
        findings.text_heading([run(BELOW, BELOW)]) == "1 of 1 text metrics beats every control beyond chance"
    )
    for other in (LEVEL, ABOVE):
        assert findings.text_heading([run(BELOW, other)]).startswith("None of 1 text metrics")
        assert "beats every control" not in str(findings.findings([run(BELOW, other)], [])["sure"])


def test_controls_that_win_are_said_with_their_strength() -> None:
    [lines] = findings.findings([run(BELOW, LEVEL, ABOVE)], [])["warning"].values()
    assert lines == [
        "control 1 cannot be told from it by rougeL.",
        "control 2 is better by rougeL.",
    ]


def test_no_control_wins_by_a_neutral_metric() -> None:
    assert findings.findings([run(BELOW)], [])["warning"] == {}


def test_differences_are_beyond_chance_after_correction_only() -> None:
    found = findings.findings([], [comparison(-0.2, 0.04), comparison(0.2, 0.06, "bleu1")])
    assert found["sure"] == {"b above a": ["By rougeL (+0.200)."]}
    assert found["unsure"] == {"a and b": ["No difference can be shown by bleu1."]}
    heading = findings.comparison_heading([comparison(-0.2, 0.04), comparison(0.2, 0.06)])
    assert heading == "1 of 2 differences between runs is beyond chance"


def test_more_of_a_neutral_metric_is_no_finding() -> None:
    found = findings.findings([], [comparison(3.0, 0.001, "length")])
    assert found == {"warning": {}, "sure": {}, "unsure": {}}


def test_a_baseline_that_ranks_as_well_is_a_warning() -> None:
    ranking = {"recall@20": 0.2, "intervals": {"recall@20": [0.1, 0.3]}, "users": 9}
    lower = {"recall@20": 0.05, "intervals": {"recall@20": [0.04, 0.06]}}
    for baseline, kind in ((ranking, "warning"), (lower, "sure")):
        examined = Examined("ours", {"ranking": ranking, "baselines": {"popularity": baseline}})
        found = findings.findings([examined], [])
        assert "popularity" in found[kind]["ours"][0]
        assert sum(map(len, found.values())) == 1


def test_what_is_read_follows_from_the_intervals() -> None:
    gain = {"item": 0.1, "user": 0.0, "intervals": {"item": [0.05, 0.15], "user": [-0.01, 0.01]}}
    examined = Examined("ours", {"information_gain": gain})
    assert findings.gain_heading([examined]) == "Information gain: the item is read, the user is not"
    found = findings.findings([examined], [])
    assert "reads the item" in found["sure"]["ours"][0]
    assert "right user" in found["unsure"]["ours"][0]


def test_what_is_particular_without_the_name_is_held_against_chance() -> None:
    found = {"mrr": 0.2, "intervals": {"mrr": [0.15, 0.25]}, "among": 100.0, "chance": {"mrr": 0.052}}
    [line] = findings.findings([Examined("ours", {"specificity": found})], [])["sure"]["ours"]
    assert line.endswith("mean of 1 / rank among 100 references 0.200 [0.150, 0.250], 0.052 by chance.")
    found["intervals"] = {"mrr": [0.05, 0.25]}
    [line] = findings.findings([Examined("ours", {"specificity": found})], [])["warning"]["ours"]
    assert "say nothing particular" in line
    assert findings.findings([Examined("ours", {"specificity": {"tfidf": 0.1}})], [])["sure"] == {}


def test_evidence_that_is_shown_is_held_against_another_text() -> None:
    grounding = {
        "supported": 0.9,
        "intervals": {"supported": [0.8, 0.95]},
        "controls": {"dealt": {"supported": 0.2}},
    }
    [line] = findings.findings([Examined("ours", {"grounding": grounding})], [])["sure"]["ours"]
    assert line.startswith(
        "The evidence shown beside a text supports 90% of its claims (20% of those of another"
    )
    grounding["controls"] = {"dealt": {"supported": 0.85}}
    assert findings.findings([Examined("ours", {"grounding": grounding})], [])["warning"]["ours"]


def test_two_choices_are_held_against_chance() -> None:
    found = {
        "text by model": 0.6, "like by history": 0.55, "choices": {"text by model": 31, "like by history": 700},
        "intervals": {"text by model": [0.4, 0.8], "like by history": [0.52, 0.58]},
    }  # fmt: skip
    said = findings.findings([Examined("ours", {"two_choice": found})], [])
    assert "(text by model), cannot be told beyond chance" in said["unsure"]["ours"][0]
    assert said["sure"]["ours"][0].endswith("right in 0.550 [0.520, 0.580] of 700 choices; by chance .5.")
    heading = findings.choice_heading([Examined("ours", {"two_choice": found})])
    assert heading == "Whose is it, of two people: 60% right (text by model; by chance 50%)"


def test_runs_alike_are_introduced_together() -> None:
    ours = run()
    [said] = findings.subject([ours, replace(ours, name="theirs")])
    assert said == (["ours", "theirs"], "30 texts against references.")


def test_lists_of_metrics_are_short_and_complete() -> None:
    of = ["a", "b", "c", "d", "e", "f"]
    assert metric_list(of, of) == "all 6 metrics"
    assert metric_list(of[:5], of) == "5 of 6 metrics, all but f"
    assert metric_list(of[:3], of) == "a, b and c"
    assert joined(["a"]) == "a"
    assert joined([]) == ""
