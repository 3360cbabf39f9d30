"""Text metrics that a neural model gives: BERTScore, BARTScore, BLEURT. Each is a `forwhy.evaluate.text.Measure`.

Unlike in the reference implementations the name of a special token in a text is plain characters, as texts are
hostile. What is longer than the model reads is cut, and such pairs are counted.
"""

from forwhy.evaluate.neural.bartscore import BartScore, Bleurt
from forwhy.evaluate.neural.bertscore import Baseline, BertScore

__all__ = ["BartScore", "Baseline", "BertScore", "Bleurt"]
