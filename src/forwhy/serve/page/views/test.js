// Test it: a history or a few sentences, whose words light up, and then the list.
import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { get, post } from "../api.js";
import { Chips } from "../chips.js";
import { Empty, Loaded, Page, Section, useLoad, useShared } from "../parts.js";
import { go, href } from "../router.js";
import { Suggestions } from "./person.js";

const same = (one, other) => one.toLowerCase() === other.toLowerCase();

/** What a line means: an item by its id or its title, or what could have been meant. */
async function itemOf(line, run, signal) {
  const { items } = await get("/v1/items", { run, q: line, limit: 20 }, signal);
  const exact = items.find((item) => same(item.id, line) || same(item.title, line));
  return { line, item: exact ?? (items.length === 1 ? items[0] : null), meant: items.slice(0, 3) };
}

const linesOf = (text) => [...new Set(text.split("\n").map((line) => line.trim()).filter(Boolean))].slice(0, 200);

/** A text, as it was when the hand last rested. */
function useRested(text, wait = 450) {
  const [rested, set] = useState(text);
  useEffect(() => {
    const timer = setTimeout(() => set(text), wait);
    return () => clearTimeout(timer);
  }, [text]);
  return rested;
}

function Unsure({ lines, replace }) {
  if (!lines.length) return null;
  return html`<ul class="unsure" role="status">${lines.map(({ line, meant }) => html`<li key=${line}>
    ${meant.length ? html`“${line}” could be ${meant.map((item) => html`<button key=${item.id} class="link" onClick=${() => replace(line, item.title || item.id)}>${item.title || item.id}</button> `)}`
      : html`Nothing here is called “${line}”; <a href=${href(["items"], { q: line.split(" ")[0] })}>look for it</a>.`}</li>`)}</ul>`;
}

/** An example of what somebody could say, made of phrases that are known here. */
async function example(run) {
  const { words } = await get("/v1/words", { run, limit: 120 });
  const spoken = words.filter((word) => word.book.startsWith("user") && word.gloss.length);
  const drawn = [0, 1, 2].map(() => spoken[Math.floor(Math.random() * spoken.length)]?.gloss[0]).filter(Boolean);
  return drawn.length ? `I like ${drawn.join(", and ")}.` : "";
}

function Fields({ text, history, setText, setHistory, unsure }) {
  const { run, words } = useShared();
  const replace = (line, title) => setHistory(history.split("\n").map((one) => (one.trim() === line ? title : one)).join("\n"));
  return html`<div class="fields">
    ${words && html`<label class="field"><span class="label">In their own words</span>
      <textarea rows="5" maxlength="20000" value=${text} data-search placeholder="A few sentences about what somebody likes." onInput=${(event) => setText(event.target.value)}></textarea></label>`}
    <div><label class="field"><span class="label">What they took, one a line</span>
      <textarea rows="5" value=${history} data-search=${!words} placeholder="Titles or ids of items." onInput=${(event) => setHistory(event.target.value)}></textarea></label>
      <${Unsure} lines=${unsure} replace=${replace} /></div>
    ${words && html`<p class="note">One of both is enough. <button class="link" onClick=${() => example(run).then(setText, () => {})}>Try an example</button></p>`}</div>`;
}

function Lit({ who, run }) {
  const at = JSON.stringify([who, run]);
  const light = useLoad((signal) => post("/v1/words/light", { history: who.history, text: who.about, ...(run ? { run } : {}) }, signal), [at]);
  return html`<${Section} title="These words light up" note="Each stands for a taste that many people share.">
      <${Loaded} of=${light} lines=${3}>${({ tokens }) => (tokens.length ? html`<${Chips} key=${at} words=${tokens} lit />`
        : html`<${Empty} title="No word lights up">Say more, or name things that were taken.</${Empty}>`)}</${Loaded}></${Section}>`;
}

function Suited({ who, run, query }) {
  const asked = { ...who, ...(run ? { run } : {}) };
  const at = JSON.stringify(asked);
  const list = useLoad((signal) => post("/v1/recommend", { ...asked, k: 8, explain: true }, signal), [at]);
  const [open, onOpen] = useState(query.get("item") ?? "none");
  return html`<${Section} title="What would suit them" note="Open one to read why."><${Loaded} of=${list} lines=${8}>${(found) => html`<${Suggestions} list=${found} who=${who} open=${open} onOpen=${onOpen} />`}</${Loaded}></${Section}>`;
}

/** Who is meant, as the service is asked; null: nobody yet. */
function whoOf(text, lines) {
  const history = lines.filter((line) => line.item).map((line) => line.item.id);
  if (!text.trim() && !history.length) return null;
  return { ...(history.length ? { history } : {}), ...(text.trim() ? { about: text.trim() } : {}) };
}

export function Test({ query }) {
  const { run, words } = useShared();
  const [text, setText] = useState(query.get("text") ?? "");
  const [history, setHistory] = useState(query.getAll("history").join("\n"));
  const said = useRested(text), taken = useRested(history);
  const lines = useLoad((signal) => Promise.all(linesOf(taken).map((line) => itemOf(line, run, signal))), [taken, run]);
  useEffect(() => go(href(["test"], { text: said, history: linesOf(taken) }), { replace: true }), [said, taken]);
  const who = whoOf(words ? said : "", lines.data ?? []);
  const unsure = (lines.data ?? []).filter((line) => !line.item);
  return html`<${Page} title="Test it" lead=${words ? "Say what somebody likes, or what they took. Their words light up, and then what would suit them." : "Name what somebody took, and see what would suit them."}>
    <${Fields} text=${text} history=${history} setText=${setText} setHistory=${setHistory} unsure=${unsure} />
    ${who && words && html`<${Lit} who=${who} run=${run} />`}
    ${who ? html`<${Suited} who=${who} run=${run} query=${query} />` : html`<${Empty} title="Nobody yet">Write above, and this place fills while you write.</${Empty}>`}
  </${Page}>`;
}
