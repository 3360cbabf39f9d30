// The vocabulary to browse: as a table, as maps, by search, by saved questions, or by chance.
import { html, useState } from "../vendor/htm-preact.js";
import { get } from "../api.js";
import { bare, bookName, called, fitOf, phrases } from "../chips.js";
import { counted, Empty, Loaded, number, Page, Search, Section, useLoad, useShared } from "../parts.js";
import { go, href, wordPath } from "../router.js";
import { Maps, OneMap } from "./map.js";

const FEW = 60;
const QUESTIONS = { stock: "No item in stock answers", unused: "Nobody has it", named: "Named by hand" };
const ANSWERS = {
  stock: (word) => word.in_stock === false,
  unused: (word) => !word.usage,
  named: (word) => Boolean(word.renamed),
};

function Row({ word, most, fits }) {
  const [first = called(word), ...more] = phrases(word);
  return html`<tr><th scope="row"><a data-row href=${wordPath(word.token)}>${first}</a>
      <span class="chip-more">${more.slice(0, 3).join(" · ")}</span></th>
    <td class="book">${bookName(word.book)}</td>
    <td class="use"><svg class="use-bar" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true"><rect class="w0" width=${Math.max(1, (100 * word.usage) / most)} height="6" /></svg>${number(word.usage)}</td>
    ${fits && html`<td class="fit">${fitOf(word.fit)}</td>`}
    <td class="token">${bare(word.token)}</td></tr>`;
}

function Table({ words, q }) {
  const [all, showAll] = useState(false);
  if (!words.length) {
    return html`<${Empty} title="No word says that">${q ? "Search for a part of a phrase, such as a dish or a mood." : "All words are in order: this question has no answer, which is good."}</${Empty}>`;
  }
  const most = Math.max(...words.map((word) => word.usage), 1);
  const fits = words.some((word) => typeof word.fit === "number");
  const shown = all ? words : words.slice(0, FEW);
  return html`<table class="words"><caption class="unseen">Words, the most used first</caption>
    <thead><tr><th scope="col">What it stands for</th><th scope="col" class="book">Of</th><th scope="col">Used by</th>${fits && html`<th scope="col" class="fit">Fit</th>`}<th scope="col" class="token">Token</th></tr></thead>
    <tbody data-list>${shown.map((word) => html`<${Row} key=${word.token} word=${word} most=${most} fits=${fits} />`)}</tbody></table>
    ${words.length > shown.length && html`<button class="quiet" onClick=${() => showAll(true)}>All ${number(words.length)}</button>`}
    <p class="note">${fits ? "Fit: how much better a phrase that was held out finds its word than a word by chance." : "How well the phrases fit their words was not measured in this run."}</p>`;
}

/** All words of a search: the service gives a thousand at a time. */
async function everyWord(query, signal) {
  const found = { books: [], words: [] };
  let cursor;
  do {
    const page = await get("/v1/words", { ...query, limit: 1000, cursor }, signal);
    found.books = page.books;
    found.words.push(...page.words);
    cursor = page.next;
  } while (cursor && found.words.length < 20_000);
  return found;
}

function Controls({ state, set, books, words }) {
  const anyWord = () => words.length && go(wordPath(words[Math.floor(Math.random() * words.length)].token));
  return html`<div class="controls">
    <${Search} label="Find a word" hint="a dish, a mood, a place …" value=${state.q} onSearch=${(q) => set({ q })} />
    <label class="field"><span class="label">Kind</span><select value=${state.book} onChange=${(event) => set({ book: event.target.value })}>
      <option value="">All kinds</option>${books.map((book) => html`<option key=${book} value=${book}>${bookName(book)}</option>`)}</select></label>
    <label class="field"><span class="label">Question</span><select value=${state.only} onChange=${(event) => set({ only: event.target.value })}>
      <option value="">All words</option>${Object.entries(QUESTIONS).map(([name, label]) => html`<option key=${name} value=${name}>${label}</option>`)}</select></label>
    <div class="switch" role="group" aria-label="Shown as">${["table", "map"].map((view) => html`<button key=${view} class="quiet" aria-pressed=${state.view === view} onClick=${() => set({ view })}>${view === "map" ? "Map" : "Table"}</button>`)}</div>
    <button class="quiet" onClick=${anyWord}>A word by chance</button></div>`;
}

export function Words({ query }) {
  const { run } = useShared();
  const state = { q: query.get("q") ?? "", book: query.get("book") ?? "", only: query.get("only") ?? "", view: query.get("view") ?? "table" };
  const set = (change) => {
    const next = { ...state, ...change };
    go(href(["words"], { ...next, view: next.view === "table" ? "" : next.view }), { replace: true });
  };
  const found = useLoad((signal) => everyWord({ run, q: state.q, book: state.book }, signal), [run, state.q, state.book]);
  const words = (found.data?.words ?? []).filter(ANSWERS[state.only] ?? (() => true));
  return html`<${Page} title="Words" lead="The vocabulary that was learned from what people took and wrote. People and things are written in it, and it ranks.">
    <${Controls} state=${state} set=${set} books=${found.data?.books ?? []} words=${words} />
    <${Loaded} of=${found} lines=${12}>${() => (state.view === "map"
      ? html`<${Map} state=${state} set=${set} words=${words} />`
      : html`<p class="note" role="status">${counted(words.length, "word")}</p><${Table} key=${JSON.stringify(state)} words=${words} q=${state.q} />`)}</${Loaded}>
  </${Page}>`;
}

function Map({ state, set, words }) {
  const { run } = useShared();
  const map = useLoad((signal) => get("/v1/words/map", { run }, signal), [run]);
  const lit = new Set(words.map((word) => word.token));
  const filtered = Boolean(state.q || state.only);
  const note = state.book ? "Near words are alike; a larger point has more owners. Scroll or use the buttons to come nearer, drag to move." : "Each kind of word has a map of its own. Pick one to come nearer.";
  return html`<${Section} title=${state.book ? upperBook(state.book) : "Maps"} note=${note}
      aside=${state.book && html`<button class="quiet" onClick=${() => set({ book: "" })}>All maps</button>`}>
    <${Loaded} of=${map} lines=${10}>${({ points }) => (state.book
      ? html`<${OneMap} key=${state.book} points=${points.filter((point) => point.book === state.book)} lit=${filtered ? lit : null} q=${state.q} />`
      : html`<${Maps} points=${points} lit=${filtered ? lit : null} pick=${(book) => set({ book })} />`)}</${Loaded}>
  </${Section}>`;
}

const upperBook = (book) => `Words of ${bookName(book)}`;
