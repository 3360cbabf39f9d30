"use strict";
(() => {
  const tools = document.querySelector("#samples .tools");
  const place = document.querySelector("#samples .pairs");
  const next = document.querySelector("#samples .next");
  const { scores } = JSON.parse(document.getElementById("scores").textContent);
  const cards = [...place.querySelectorAll(".pair")];
  const words = new Map(cards.map((card) => [card, card.textContent.toLowerCase()]));
  const STEP = 20;
  let limit = STEP;

  const at = (card) => Number(card.dataset.at);
  const matches = (card) =>
    tools.words.value.toLowerCase().split(/\s+/).every((word) => words.get(card).includes(word)) &&
    (!tools.unsupported.checked || Number(card.dataset.unsupported) > 0);

  function sorted(found) {
    if (!tools.by) return found;
    const [run, metric] = tools.by.value.split(":").map(Number);
    const sign = Number(tools.order.value);
    const value = (card) => scores[run][metric][at(card)];
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === null || y === null) return (x === null) - (y === null) || at(a) - at(b);
      return sign * (x - y) || at(a) - at(b);
    };
    return [...found].sort(compare);
  }

  function show() {
    const found = sorted(cards.filter(matches));
    const shown = found.slice(0, limit);
    place.replaceChildren(...shown);
    next.hidden = shown.length === found.length;
    tools.querySelector("output").textContent = `${shown.length} of ${found.length} shown`;
  }

  function restart() {
    limit = STEP;
    show();
  }

  next.addEventListener("click", () => {
    const first = limit;
    limit += STEP;
    show();
    const card = place.children[first];
    card.tabIndex = -1;
    card.focus();
  });
  tools.addEventListener("input", restart);
  tools.addEventListener("submit", (event) => event.preventDefault());
  tools.hidden = false;
  show();
})();
