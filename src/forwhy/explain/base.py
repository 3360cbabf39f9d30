"""The contract that every explainer keeps, and what all do alike. No torch is imported before a model is loaded."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self, TypeVar, Unpack, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.artifact import CONFIG, Artifact, Content, Saved, card
from forwhy.columns import SIDES, Side
from forwhy.data.dataset import Dataset, Pairs
from forwhy.errors import UserError
from forwhy.explain.asking import Asked, AskedPairs, Explains, Person, Who, asked_about, refuse_new
from forwhy.explain.evidence import (
    Attention,
    Evidence,
    Explanation,
    ExternalPair,
    NllResult,
    Subject,
    TokenEvidence,
    best_phrases,
    nearest,
)
from forwhy.explain.options import RUN_BY, SERVED, ExplainerConfig, ExplainerOptions
from forwhy.graph.representations import Representations
from forwhy.models import DType
from forwhy.options import checked

if TYPE_CHECKING:
    from forwhy.bridge.backbone import Backbone
    from forwhy.bridge.reader import PairReader

log = logging.getLogger(__name__)

KnownT = TypeVar("KnownT", bound=Representations)
RowT = TypeVar("RowT")
PartT = TypeVar("PartT")
Numbers = NDArray[np.int64] | None
"""[n] internal numbers that are read in place of the pairs' own."""
_DTYPES: Mapping[str, DType] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


class Explainer(Explains, Saved, Generic[KnownT, RowT]):
    """Says in words why a user would like an item, and what that rests on.

    A new explainer begins with :class:`SoftExplainer`, whose model reads vectors, or :class:`SpokenExplainer`, whose
    model reads words; they leave it a handful of methods.
    """

    kind = "explainer"
    can_score: bool = True
    """Whether it tells how probable a given text is: NLL, information gain, worth of tokens."""
    system: ClassVar[str]
    """Name in recipes and saved folders."""
    title: ClassVar[str]
    part: ClassVar[str]
    """The stage, and the part of the saved folder, that knows users and items."""
    known_by: ClassVar[str] = ""
    """What alone it knows users by, such as "number": then nobody new is explained. "" where a history will do."""
    config_type: ClassVar[type[ExplainerOptions]]
    known_type: ClassVar[type[Representations]]
    described: frozenset[int] = frozenset()
    """Users, as internal numbers, of whom the training read who they are."""

    def __init__(self, config: ExplainerOptions | None = None) -> None:
        self.config = config or self.config_type()
        self.metrics: Mapping[str, float] = {}
        """Of the best state on validation pairs; empty where nothing is trained."""
        self.profiles: dict[Side, dict[int, str]] = {"user": {}, "item": {}}
        """Side -> internal number -> who they are in words; empty unless the prompt shows profiles."""
        self._known: KnownT | None = None

    def _shown(self) -> Mapping[str, int | str]:
        known = {"fitted": "not yet"} if self._known is None else self._known._shown()
        return {"model": self.config.base_model or "none", **known}

    @property
    def shows_profiles(self) -> bool:
        """Whether profiles stand in the prompts."""
        return "profiles" in self.config.shows

    @property
    def known(self) -> KnownT:
        """Users, items and what is known of them."""
        return self._fitted(self._known)

    def _fitted(self, part: PartT | None) -> PartT:
        """A part that `fit` makes; refused where there is none yet."""
        if part is None:
            raise UserError(
                f"explainer: not fitted yet; call fit(dataset, {self.part}, folder) or from_pretrained"
            )
        return part

    # --- what each kind does in its own way

    @abstractmethod
    def fit(self, dataset: Dataset, known: KnownT, folder: Path) -> Self:
        """Learn from explained training pairs; begins with :meth:`_take_up`.

        `folder` is for metrics.jsonl and the checkpoint: run again with it, a killed training continues.

        Raises:
            UserError: Other users or items than those known, no explanations, or no model.
        """

    @property
    @abstractmethod
    def reader(self) -> PairReader[RowT]:
        """The model, which reads pairs and writes."""

    @abstractmethod
    def _row(self, subject: Subject) -> RowT:
        """A pair as the reader reads it."""

    def _rows(self, subjects: Iterable[Subject]) -> list[RowT]:
        return [self._row(subject) for subject in subjects]

    @abstractmethod
    def _worth(self, subjects: Sequence[Subject]) -> Sequence[NDArray[np.float64] | None]:
        """Per text [tokens] nats by which it gets less likely without each token, the user's first; None: not told."""

    @abstractmethod
    def _tokens(self, subject: Subject) -> list[TokenEvidence]:
        """What the text is conditioned on, the user's tokens first, without their worth."""

    @abstractmethod
    def _reopen(self, stored: Artifact) -> None:
        """Take back the rest of what :meth:`content` saved, and load the model."""

    def _take_up(self, dataset: Dataset, known: KnownT) -> None:
        """Keep what is known and the profiles that are shown, after checking that both speak of the same people."""
        for side, ours in (("user", dataset.users), ("item", dataset.items)):
            if ours.values != (theirs := known.catalogue.ids(side)).values:
                raise UserError(
                    f"explainer: the {side}s of data set '{dataset.name}' ({len(ours):,}) are not those of the "
                    f"{self.part} ({len(theirs):,}); use the data set that it was learned on"
                )
        self._known = known
        if self.shows_profiles:
            self.profiles = {side: dataset.profiles(side) for side in SIDES}

    def _usable(self, dataset: Dataset, split: Literal["train", "valid"], wanted: int) -> Pairs:
        """At most `wanted` supported pairs of a split, drawn by the seed, in their order; 0 = all."""
        pairs = dataset.pairs(split)
        pairs = pairs.select(np.flatnonzero(self.supported(pairs)))
        if split == "valid" and not len(pairs):
            log.warning(
                "data set '%s' has no validation explanations; training ones choose the state", dataset.name
            )
            return self._usable(dataset, "train", wanted)
        if not len(pairs):
            raise UserError(
                f"data set '{dataset.name}': no usable explanations in split '{split}'; add some or re-split"
            )
        if not wanted or wanted >= len(pairs):
            return pairs
        drawn = np.random.default_rng(self.config.seed).choice(len(pairs), wanted, replace=False)
        return pairs.select(np.sort(drawn))

    def _scored(
        self, pairs: Pairs, user_rows: Numbers = None, item_rows: Numbers = None, titled: bool = False
    ) -> list[Subject]:
        """Pairs with their texts; see :meth:`nll`."""
        users = pairs.users if user_rows is None else user_rows
        items = pairs.items if item_rows is None else item_rows
        named, titles = (items if titled else pairs.items).tolist(), self.known.catalogue.titles
        read = zip(users.tolist(), items.tolist(), named, pairs.texts, strict=True)
        return [Subject(user, item, titles[own], text=text) for user, item, own, text in read]

    def _profiles(self, subject: Subject) -> dict[Side, str]:
        """Who they are in words; "" where nothing is known, as of a newcomer."""
        sides = zip(SIDES, (subject.user, subject.item), strict=True)
        return {side: "" if number is None else self.profiles[side].get(number, "") for side, number in sides}

    def supported(self, pairs: Pairs) -> NDArray[np.bool_]:
        """[n] Whether both sides of a pair have training interactions, so that :meth:`explain` takes it."""
        users, items = self.known.seen.T
        return np.isin(pairs.users, users) & np.isin(pairs.items, items)

    def _subjects(self, pairs: AskedPairs | None, who: Who) -> tuple[Self, list[Subject]]:
        """What is asked about, with the history behind it, and who knows it."""
        host, asked = self._asked(pairs, who)
        return host, host._about(asked)

    def _about(self, asked: Sequence[Person]) -> list[Subject]:
        """What is read of those asked about; nobody new where a history says nothing."""
        if self.known_by:
            refuse_new(self.known, f"{self.title} knows users by {self.known_by} alone", asked)
        return asked_about(self.known, self.stands, asked)

    def _answers(self, asked: Sequence[Person], how: Asked) -> list[Explanation]:
        subjects = self._about(asked)
        return self._changed(subjects, how)._told(subjects, how["contributions"])

    def _changed(self, subjects: Sequence[Subject], how: Asked) -> Self:
        """This explainer as it reads these users with tokens taken out or exchanged; itself without any."""
        if how["without"] or how["swap"]:
            raise UserError(
                f"{self.stands} are no tokens to take out or to swap; ask a run of beat, which has tokens"
            )
        return self

    def _write(self, subjects: Sequence[Subject]) -> list[str]:
        """A text for each."""
        return self.reader.write(self._rows(subjects), self.config.generation)

    def _told(self, subjects: Sequence[Subject], contributions: bool) -> list[Explanation]:
        texts = self._write(subjects)
        told = [replace(subject, text=text) for subject, text in zip(subjects, texts, strict=True)]
        worth = self._worth(told) if contributions else [None] * len(told)
        return [self._explained(*parts) for parts in zip(told, texts, worth, strict=True)]

    def _explained(self, subject: Subject, text: str, worth: NDArray[np.float64] | None) -> Explanation:
        """A text with its tokens and their worth, what carried the score, the items most like it, and phrases."""
        tokens = self._tokens(subject)
        if worth is not None:
            tokens = [replace(token, contribution=float(w)) for token, w in zip(tokens, worth, strict=True)]
        tokens = [token for token in tokens if token.token]  # one that was taken out has no name
        because = self.known.because(subject.user, subject.item, subject.seen)
        evidence = Evidence(nearest(self.known, subject), best_phrases(tokens))
        return Explanation(text, tokens, evidence, because)

    def stream(
        self,
        pair: ExternalPair | None = None,
        *,
        without: Sequence[str] = (),
        swap: Mapping[str, str] | None = None,
        **who: Unpack[Who],
    ) -> Iterator[str]:
        """The text of one pair in pieces as they come; joined they equal the text of :meth:`explain`."""
        host, subjects = self._subjects(pair, who)
        return host._changed(subjects, Asked(without=without, swap=swap))._streamed(subjects[0])

    def unsaid(
        self,
        pair: ExternalPair | None = None,
        *,
        said: str = "",
        contributions: bool = False,
        **who: Unpack[Who],
    ) -> Explanation:
        """What an explanation of one pair rests on, writing nothing; `said`: the text that :meth:`stream` gave."""
        host, (subject,) = self._subjects(pair, who)
        worth = host._worth([replace(subject, text=said)])[0] if contributions and said else None
        return host._explained(subject, said, worth)

    def _streamed(self, subject: Subject) -> Iterator[str]:
        return self.reader.stream(self._row(subject), self.config.generation)

    def describe(self, users: Sequence[str | int]) -> list[str]:
        """What kind of person each user is, written from their tokens alone (BEAT, Fig. 5a).

        Raises:
            UserError: Unknown users, one without a training interaction, or an explainer that read no descriptions.
        """
        raise UserError(
            f"{self.title} explainer: only a run of system because writes who a user is; run recipes/because.toml"
        )

    def attention(self, pair: ExternalPair) -> Attention:
        """What the model looks at while it writes why; cost: as `explain` with contributions, and one more reading.

        Raises:
            UserError: As `explain`; a model that reads words in place of tokens; an empty text.
        """
        raise UserError(f"{self.title} explainer: it has no tokens to look at; ask a run of beat or because")

    def nll(
        self, pairs: Pairs, user_rows: Numbers = None, item_rows: Numbers = None, titled: bool = False
    ) -> NllResult:
        """NLL of the pairs' texts, also of pairs that :meth:`explain` refuses. Cost: one reading of each text.

        `user_rows` and `item_rows` stand in the prompts, profiles and all, in place of the pairs' own; a title stays
        the pair's own unless `titled`.

        Raises:
            UserError: The model tells no probabilities (`can_score`).
        """
        return NllResult(*self.reader.nll(self._rows(self._scored(pairs, user_rows, item_rows, titled))))

    def prompt_length(self, pairs: Pairs) -> float | None:
        """Mean tokens of the pairs' prompts; of a model that is asked, of those it was asked so far."""
        return self.reader.prompt_length(self._rows(self._scored(pairs)))

    def content(self) -> Content:
        """What is known, profiles, options and the name of the model; never the model's weights."""
        rows = [(side, number, text) for side in SIDES for number, text in self.profiles[side].items()]
        schema = {"side": pl.String, "entity": pl.Int64, "text": pl.String}
        base = self.reader.identity()
        profiles = pl.DataFrame(rows, schema=schema, orient="row")
        config: dict[str, Any] = {
            "system": self.system,
            "options": self.config.model_dump(mode="json", exclude=set(RUN_BY)),
        }
        config |= {"base_model": base, "metrics": self.metrics}
        parts = {self.part: self.known}
        return Content(config, tables={"profiles": profiles}, card=self._card(base), parts=parts)

    @classmethod
    def restore(
        cls,
        stored: Artifact,
        *,
        model: str | None = None,
        device: str | None = None,
        run_by: Mapping[str, Any] | None = None,
        **_: Any,  # noqa: ANN401
    ) -> Self:
        """Make it again from its folder, with the frozen model that it was trained with.

        `model`: the folder where that model lies, when not where it was; `device`: when not where it was trained;
        `run_by`: options `engine`, `baked` and `served`, where another engine runs a baked model.

        Raises:
            UserError: Another system's explainer; a base model that is missing or another one.
        """
        if (system := stored.config.get("system")) != getattr(cls, "system", None):
            raise UserError(
                f"{stored.folder}: holds an explainer of system {system!r}, not a {cls.__name__}; load it with that "
                "system's class, or open its run with forwhy.open"
            )
        wanted, place = stored.config["base_model"], str(stored.folder / CONFIG)
        if model and not wanted["id"]:
            raise UserError(
                f"{stored.folder}: reads with no language model; load it without model = {model!r}"
            )
        where = {"model": model or wanted["id"], "revision": None if model else wanted["revision"]}
        update = where if wanted["id"] else {}
        values = (
            stored.config["options"] | update | ({"device": device} if device else {}) | dict(run_by or {})
        )
        explainer = cls(checked(cls.config_type, values, place, remedy="fit it again"))
        explainer.metrics = stored.config["metrics"]
        explainer._known = cast("KnownT", cls.known_type.from_pretrained(stored.part(cls.part)))
        for side, entity, text in stored.tables["profiles"].iter_rows():
            explainer.profiles[side][entity] = text
        explainer._reopen(stored)
        return explainer

    def _backbone(self, stored: Artifact | None = None) -> Backbone:
        """The frozen model. With `stored`, tokenizer and embeddings must be the saved ones, wherever the model lies."""
        from forwhy.bridge.backbone import Backbone

        config = cast("ExplainerConfig", self.config)
        dtype: DType = "int8" if config.quantization else _DTYPES[config.precision]
        engine = "torch" if config.engine in SERVED else config.engine
        backbone = Backbone.load(config.model, config.revision, dtype, config.device, engine)
        if stored is None:
            return backbone
        wanted, found = stored.config["base_model"], backbone.identity()
        if differ := [key for key in ("tokenizer", "embeddings", "width") if wanted[key] != found[key]]:
            raise UserError(
                f"{stored.folder}: trained with base model '{wanted['id']}', not for '{found['id']}' (another "
                f"{', '.join(differ)}); load it with its own model, or fit an explainer for the other"
            )
        return backbone

    @property
    def _weights_told(self) -> str:
        """What the card says of the model's weights."""
        return "Weights of the base model are not included; it is fetched under its own licence."

    def _card(self, base: Mapping[str, Any]) -> str:
        known, name = self.known, f"{self.title} explainer"
        text = f"Says from {self.stands} why a user would like an item, in words of its training texts.\n\n"
        if base["id"]:
            name += f" for {base['id']}"
            text = (
                f"Lets a language model read {self.stands} and say why a user would like an item.\n"
                f"{self._weights_told}\n\n"
                f"- base model: {base['id']}, revision {base['revision']}\n"
            )
        text += (
            f"- users {len(known.catalogue.users):,}, items {len(known.catalogue.items):,}\n"
            f"- preset: {self.config.preset}\n\n"
            "Texts are generated and can be wrong about an item. They speak of users and items of the training data; "
            "validation numbers picked the state and are no test."
        )
        measured = {f"validation {name}": f"{value:.4f}" for name, value in self.metrics.items()}
        return card(name, text, measured, "explainable")
