"""Text metrics that a neural model gives: BERTScore, BARTScore, BLEURT. Each is a `forwhy.evaluate.text.Measure`.

Texts are hostile: a special token's name inside one is plain characters, otherwise than in the reference
implementations. What is longer than the model reads is cut, and the pairs concerned are counted.
"""

from forwhy.evaluate.neural.bartscore import BartScore, Bleurt
from forwhy.evaluate.neural.bertscore import Baseline, BertScore

__all__ = ["BartScore", "Baseline", "BertScore", "Bleurt"]
