"""Explainers whose model reads vectors, as of BEAT's tokens or XRec's graph: what they share, from training to saving.

No torch before `fit`. Shapes: n rows, K soft tokens of a pair.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from forwhy.artifact import Artifact, Content
from forwhy.columns import Side
from forwhy.data.dataset import Dataset
from forwhy.errors import UserError
from forwhy.explain.asking import Asked, Question, Who
from forwhy.explain.base import KnownT
from forwhy.explain.evidence import Attention, Explanation, ExternalPair, Subject
from forwhy.explain.learned import LearnedExplainer
from forwhy.explain.options import ExplainerConfig
from forwhy.lazy import torch
from forwhy.options import LoopConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    from forwhy.bridge.backbone import Backbone
    from forwhy.bridge.injection import Injection
    from forwhy.bridge.projectors import PairBridge
    from forwhy.bridge.prompt import Numbers, Prompt, Row
    from forwhy.bridge.reader import Draft, Reader

BridgeT = TypeVar("BridgeT", bound="PairBridge")
_BRIDGE = "bridge."
_HIDDEN_TOGETHER = 39
"""Rows per batch of texts with a token hidden."""


class SoftExplainer(LearnedExplainer[KnownT, "Row"], Generic[KnownT, BridgeT]):
    """Lets a frozen model read vectors that stand for a user and an item; how to read them is learned."""

    def __init__(self, config: ExplainerConfig | None = None) -> None:
        super().__init__(config)
        self._reader: Reader[BridgeT] | None = None

    @property
    def reader(self) -> Reader[BridgeT]:
        """The bridge and the frozen model."""
        return self._fitted(self._reader)

    # --- what each kind does in its own way

    @abstractmethod
    def _build(self, backbone: Backbone) -> Reader[BridgeT]:
        """A reader of what is known, with the bridge at its start, drawn from torch's generator."""

    @abstractmethod
    def _standing(self, subject: Subject) -> tuple[Numbers, Numbers]:
        """What stands for the user and for the item in the prompt."""

    def _bridged(
        self,
        backbone: Backbone,
        networks: Sequence[nn.Module],
        slots: Mapping[Side, int],
        injection: Injection | None = None,
    ) -> Reader[PairBridge]:
        """A reader of these networks' vectors, of the user and of the item; `slots`: how many of each side."""
        from forwhy.bridge.projectors import PairBridge
        from forwhy.bridge.prompt import Prompt
        from forwhy.bridge.reader import Reader

        prompt = Prompt(backbone.tokenizer, cast("ExplainerConfig", self.config).prompt, slots)
        user, item = networks
        return Reader(backbone, prompt, PairBridge.at_start(user, item, prompt, backbone), injection)

    def _begin(self, dataset: Dataset) -> None:
        self._open(self._backbone())

    def _loss(self, rows: list[Row]) -> Mapping[str, Tensor]:
        """The NLL of the explanation's tokens."""
        return {"loss": self.reader.loss(rows)}

    def _loop(self) -> LoopConfig:
        half = cast("ExplainerConfig", self.config).precision == "fp16"  # the bridge's own stays in float32
        return super()._loop().model_copy(update={"precision": "fp16" if half else "fp32"})

    def _open(self, backbone: Backbone) -> None:
        """The reader at its start, from `config.seed`; the caller's random generators are left as they were."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(self.config.seed)
            self._reader = self._build(backbone)
        self._reader.bridge.eval()

    @property
    def learning(self) -> nn.Module:
        """The bridge."""
        return self.reader.bridge

    def _row(self, subject: Subject) -> Row:
        user, item = self._standing(subject)
        return self.reader.prompt.row(user, item, subject.title, subject.text, self._profiles(subject))

    def _draft(self, subject: Subject) -> Draft:
        """What is written for a pair; :meth:`_chosen` makes one text of it."""
        from forwhy.bridge.reader import Draft

        return Draft(self.reader, [self._row(subject)])

    def _chosen(self, subject: Subject, texts: Sequence[str]) -> str:
        return texts[0]

    def flow(
        self, questions: Iterator[Question | None], together: int
    ) -> Iterator[tuple[Question, str | Explanation | UserError]]:
        """As of all; a text begins when a slot gets free, whatever is being written beside it."""
        begun: dict[Draft, tuple[Question, Any, Subject]] = {}
        refused: list[tuple[Question, UserError]] = []

        def drafts() -> Iterator[Draft | None]:
            for question in questions:
                if question is None:
                    yield None
                    continue
                try:
                    host, subject = self._host_of(question)
                    draft = host._draft(subject)
                except UserError as error:
                    refused.append((question, error))
                    continue
                draft.watched = question.watched and len(draft.rows) == 1
                draft.wanted = partial(_is_wanted, question)
                begun[draft] = question, host, subject
                yield draft

        for draft, texts in self.reader.flow(drafts(), self.config.generation, together):
            question, host, subject = begun[draft]
            if not draft.over:
                yield question, texts[0]
                continue
            del begun[draft]
            text = host._chosen(subject, texts) if draft.wanted() else texts[0]
            yield question, host._explained(replace(subject, text=text), text, None)
            while refused:
                yield refused.pop()
        yield from refused

    def _host_of(self, question: Question) -> tuple[Self, Subject]:
        """What is asked about, and an explainer that knows it with these changes."""
        who = cast("Who", {name: it for name, it in question.asked.items() if name in Who.__annotations__})
        host, subjects = self._subjects(None, who)
        how = Asked(without=question.asked.get("without") or (), swap=question.asked.get("swap"))
        return host._changed(subjects, how), subjects[0]

    def _worth(self, subjects: Sequence[Subject]) -> Sequence[NDArray[np.float64] | None]:
        """What each text loses with a token hidden, whose place stays: K + 1 readings of each text."""
        rows, prompt = self._rows(subjects), self.reader.prompt
        if not rows:
            return []
        sides = prompt.slots(rows[0])
        slots = sum(sides.values())
        hidden = torch.cat([torch.zeros(1, slots, dtype=torch.bool), torch.eye(slots, dtype=torch.bool)])
        variants = [row for row in rows for _ in range(slots + 1)]
        sums, _ = self.reader.nll(variants, _HIDDEN_TOGETHER, hidden.repeat(len(rows), 1))
        sums_nK = sums.reshape(len(rows), slots + 1)
        worth_nK: NDArray[np.float64] = sums_nK[:, 1:] - sums_nK[:, :1]
        if prompt.config.order == "item-user":  # hidden tokens are counted in prompt order
            worth_nK = np.roll(worth_nK, -sides["item"], axis=1)
        return list(worth_nK)

    def attention(self, pair: ExternalPair) -> Attention:
        """As :meth:`Explainer.attention`; XRec's two vectors are its tokens."""
        _, (subject,) = self._subjects(pair, {})
        (told,) = self._told([subject], contributions=True)
        if not told.text.strip():
            who = f"user {pair[0]!r}, item {pair[1]!r}"
            raise UserError(f"{who}: the model writes nothing, so it looks at nothing")
        subject, prompt = replace(subject, text=told.text), self.reader.prompt
        row = self._row(subject)
        shares_NT, soft_K = self.reader.attention(row)
        if prompt.config.order == "item-user":
            soft_K = np.roll(soft_K, -prompt.slots(row)["item"])
        title = len(prompt.row((), (), subject.title).shown)
        said = len(SoftExplainer._row(self, subject).shown)
        counts = {"title": title, "profiles": said - title, "statements": len(row.shown) - said}
        after = len(row.shown) + len(prompt.tail_ids) + len(row.target) - 1
        edges = shares_NT.shape[1] - after + np.cumsum([0, *counts.values()])
        spans = zip(counts, pairwise(edges), strict=True)
        others = {name: shares_NT[:, start:end].sum(1) for name, (start, end) in spans if start < end}
        columns_NC = np.column_stack([shares_NT[:, soft_K], *others.values()])
        columns_NC = np.column_stack([columns_NC, 1 - columns_NC.sum(1)])
        words = _words(prompt, row.target)
        shares_wC = [columns_NC[tokens].mean(0).tolist() for _, tokens in words]
        return Attention(*pair, [word for word, _ in words], told.tokens, [*others, "rest"], shares_wC)

    def content(self) -> Content:
        """The bridge, what is known, profiles, options and the name of the model, not its weights."""
        state = self.reader.bridge.state_dict().items()
        tensors = {f"{_BRIDGE}{name}": value.detach().cpu().numpy() for name, value in state}
        whole = super().content()
        exact = {
            "model": whole.config["base_model"]["id"],
            "revision": whole.config["base_model"]["revision"],
        }
        config = {**whole.config, "options": {**whole.config["options"], **exact}}  # as loading sets them
        return replace(whole, config=config, tensors=tensors)

    def _reopen(self, stored: Artifact) -> None:
        self._open(self._backbone(stored))
        self._load(stored)

    def _load(self, stored: Artifact) -> None:
        """Put what was learned into the bridge."""
        state = {name: torch.from_numpy(value) for name, value in stored.group(_BRIDGE).items()}
        self.reader.bridge.load_state_dict(state)


def _words(prompt: Prompt, target: Sequence[int]) -> list[tuple[str, slice]]:
    """The words of a text, each with its tokens."""
    ids = [number for number in target if number != prompt.end_id]
    begun_N = np.maximum.accumulate([len(prompt.decode(ids[: last + 1]).split()) for last in range(len(ids))])
    first_w = np.searchsorted(begun_N, 1 + np.arange(begun_N[-1]))
    end_w = np.maximum([*first_w[1:], len(ids)], first_w + 1)
    return list(zip(prompt.decode(ids).split(), map(slice, first_w, end_w), strict=False))


def _is_wanted(question: Question) -> bool:
    return not question.dropped
