"""Every leak and oddity that can be found in a data set, with counts: ``forwhy data audit``."""

from forwhy.data.audit import interactions, texts
from forwhy.data.audit.finding import SEVERITIES, Finding, Severity
from forwhy.data.dataset import Dataset

__all__ = ["SEVERITIES", "Finding", "Severity", "audit"]

CHECKS = (
    interactions.pairs,
    texts.copied,
    interactions.repeats,
    interactions.cold,
    interactions.order,
    interactions.times,
    texts.profiles,
    texts.explanations,
    texts.spread,
    texts.doubles,
    texts.poor,
    texts.dirt,
    interactions.ids,
    interactions.popularity,
)


def audit(dataset: Dataset) -> list[Finding]:
    """What was found, leaks first, then warnings, then notes; what was not found is absent.

    Reads held-out text, for counting only. O(E log E + words of all texts): some 7 s for a million
    interactions with timestamps, 10 s for 25 MB of text.
    """
    findings = [finding for check in CHECKS for finding in check(dataset) if finding.count]
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
