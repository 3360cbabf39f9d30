"""The loop closed: people of the little town click what suits them, and the run learns from it.

    python -m benchmarks.serve_loop [--seed 0] [--rounds 2]

A vocabulary is learned from few visits and served, without a language model. Everybody asks for lists and clicks what
they would go to: only the town knows how much each place suits them. Then `POST /v1/jobs/retrain` learns again from the
database, and an experiment gives half of the people the old run's list and half the new one's. Besides, the recall of
held-out truth: of the places that suit each person most, a third that nobody clicks before the experiment, both runs
ranked over the same places, those without what was visited or clicked. Prints JSON; ends with 1 where recall does not
rise.
"""

import argparse
import http.client
import json
import shutil
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.serving import Server
from numpy.typing import NDArray

import forwhy
from forwhy.data.sample import CHANCE, little_town, town_truth
from forwhy.recipe import RunFolder, load_recipe, run

RECIPE = """
name = "town"
system = "because"
data.path = "{data}"
intents.training_explanations = false
vocabulary = {{ codes = 64, batch_size = 2048, text_batch = 128, epochs = 10, patience = 3 }}
"""
SUITS, HELD, PLACES = 30, 10, 20
"""Places that suit each person most; of these, ones that nobody clicks; places of a list whose recall is told."""
VISITS = 5
LOOKED, COMPARED = 40, 5
"""Places of a list that people look through, and of one of the experiment. From lists of ten nothing is learned: what
such lists lack is not clicked (docs/log.md)."""


@dataclass
class Town:
    """What only the town knows, by internal numbers."""

    users: tuple[str, ...]
    items: dict[str, int]
    wish_UI: NDArray[np.float32]
    visited_UI: NDArray[np.bool_]
    """What lists leave out: visits of the data set and clicks."""
    held_UI: NDArray[np.bool_]
    enough_U: NDArray[np.float32]
    """From which wish on somebody goes."""
    chance: np.random.Generator

    @classmethod
    def of(cls, data: Any, seed: int) -> "Town":  # noqa: ANN401 - a data set
        """From a generated data set."""
        wish_UI = town_truth(data).affinity()
        visited_UI = np.zeros(wish_UI.shape, bool)
        table = data.tables["interactions"]
        visited_UI[data.users.numbers(table["user_id"]), data.items.numbers(table["item_id"])] = True
        chance = np.random.default_rng(seed)
        open_UI = np.where(visited_UI, -np.inf, wish_UI)
        best_US = np.argsort(-open_UI, axis=1, kind="stable")[:, :SUITS]
        held_UI = np.zeros(wish_UI.shape, bool)
        np.put_along_axis(held_UI, chance.permuted(best_US, axis=1)[:, :HELD], values=True, axis=1)
        enough_U = np.take_along_axis(open_UI, best_US[:, -1:], axis=1)[:, 0]
        items = {item: number for number, item in enumerate(data.items.values)}
        return cls(data.users.values, items, wish_UI, visited_UI, held_UI, enough_U, chance)

    def clicks(self, user: int, shown: list[str], all_of_it: bool) -> list[str]:
        """What somebody would go to of a list, by taste and chance; of what is held out only if `all_of_it`."""
        numbers = [self.items[item] for item in shown]
        wish = self.wish_UI[user, numbers] + CHANCE * self.chance.gumbel(size=len(shown))
        goes = (wish >= self.enough_U[user]) & (all_of_it | ~self.held_UI[user, numbers])
        return [item for item, it in zip(shown, goes, strict=True) if it]

    def recall(self, folder: Path) -> NDArray[np.float64]:
        """[U] of the held-out truth, how much is among the best places that are neither visited nor clicked."""
        scores_UI = forwhy.open(folder).recommender.scores(np.arange(len(self.users)))
        scores_UI[self.visited_UI] = -np.inf
        best_UP = np.argsort(-scores_UI, axis=1, kind="stable")[:, :PLACES]
        return np.take_along_axis(self.held_UI, best_UP, axis=1).sum(1) / HELD


class Asks:
    """One connection to the service."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def __call__(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - what JSON holds
        """The document that answers."""
        self.connection.request(method, f"/v1/{path}", json.dumps(body), {"content-type": "application/json"})
        answer = self.connection.getresponse()
        read = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {read.decode()}")
        return json.loads(read) if read else None


def lived(ask: Asks, town: Town, k: int, takes: bool) -> tuple[int, int]:
    """Everybody asks once, in random order, and clicks; lists shown, and lists with a click."""
    hit = 0
    for user in town.chance.permutation(len(town.users)).tolist():
        name = town.users[user]
        shown = ask("POST", "recommend", {"user": name, "k": k})
        clicked = town.clicks(user, [row["item_id"] for row in shown["items"]], all_of_it=not takes)
        said = {"impression": shown["impression"], "kind": "clicked", "user": name}
        if clicked:
            hit += 1
            ask("POST", "feedback", {**said, "item": clicked[0]})
        if clicked and takes:
            events = [{"key": uuid.uuid4().hex, "user": name, "item": item} for item in clicked]
            ask("POST", "events", {"events": events})
            town.visited_UI[user, [town.items[item] for item in clicked]] = True
    return len(town.users), hit


def retrained(ask: Asks, name: str) -> dict[str, Any]:
    """Learns again from the database; how that ended."""
    job = ask("POST", "jobs/retrain", {"run": name})["id"]
    while (found := ask("GET", f"jobs/{job}"))["state"] in ("waiting", "running"):
        time.sleep(1)
    if found["state"] != "done" or not found["detail"]["taken"]:
        raise RuntimeError(f"retraining: {found}")
    detail: dict[str, Any] = found["detail"]
    while (
        next(one for one in ask("GET", "runs")["runs"] if one["name"] == name)["identity"]
        != detail["identity"]
    ):
        time.sleep(0.2)  # it is swapped in beside requests
    return detail


def closed(folder: Path, seed: int, rounds: int) -> dict[str, Any]:
    """The whole loop in a folder."""
    data = little_town(seed, visits=VISITS, explanations=(0, 0, 0))
    data.save(folder / "data")
    (folder / "town.toml").write_text(RECIPE.format(data=folder / "data"))
    run(load_recipe(folder / "town.toml"), folder / "town", dataset=data)
    shutil.copytree(folder / "town", folder / "before")
    town, begun = Town.of(data, seed), time.monotonic()
    server = Server(folder / "town", f"sqlite:///{folder}/serve.db", also=[folder / "before"])
    try:
        ask = Asks(server.port)
        shares = [hit / shown for shown, hit in (lived(ask, town, LOOKED, takes=True) for _ in range(rounds))]
        clicks = int(town.visited_UI.sum()) - data.tables["interactions"].height
        detail = retrained(ask, "town")
        arms = {"before": {"run": "before", "share": 0.5}, "after": {"run": "town", "share": 0.5}}
        ask("PUT", "experiments/loop", {"arms": arms})
        lived(ask, town, COMPARED, takes=False)
        (experiment,) = ask("GET", "experiments")["experiments"]
    finally:
        server.close()
    before, after = (town.recall(folder / name) for name in ("before", "town"))
    gain = after - before
    error = 1.96 * gain.std() / len(gain) ** 0.5
    return {
        "seed": seed,
        "visits, clicks": [data.tables["interactions"].height, clicks],
        "share of lists with a click, by round": np.round(shares, 3).tolist(),
        "validation": {name: detail[name] for name in ("metric", "before", "after")},
        f"recall@{PLACES} of held-out truth": [round(float(it.mean()), 4) for it in (before, after)],
        "gain": [round(float(it), 4) for it in (gain.mean(), gain.mean() - error, gain.mean() + error)],
        "learned from": RunFolder.open(folder / "town").dataset().tables["interactions"].height,
        "experiment": experiment,
        "seconds of serving": round(time.monotonic() - begun),
    }


def main() -> None:
    """Run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--rounds", type=int, default=2, help="lists that everybody asks for before it learns again"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = closed(Path(folder), given.seed, given.rounds)
    print(json.dumps(found))
    sys.exit(found["gain"][1] <= 0)


if __name__ == "__main__":
    main()
