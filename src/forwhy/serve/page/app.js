// The page: who is asked for, where we are, and what stands around every view.
import { html, render, useEffect, useErrorBoundary, useState } from "./vendor/htm-preact.js";
import { get, key, whenKeyIsNeeded } from "./api.js";
import { listenToKeys } from "./keys.js";
import { Mistake, Page, Shared, useLoad, Waiting } from "./parts.js";
import { followLinks, go, href, partsOf, useRoute } from "./router.js";
import { Docs } from "./views/docs.js";
import { Events } from "./views/events.js";
import { Experiments } from "./views/experiments.js";
import { Item, Items } from "./views/items.js";
import { Person } from "./views/person.js";
import { Runs } from "./views/runs.js";
import { Start } from "./views/start.js";
import { Test } from "./views/test.js";
import { Word } from "./views/word.js";
import { Words } from "./views/words.js";

const VIEWS = [
  ["people", "People", Start, Person], ["words", "Words", Words, Word], ["test", "Test it", Test],
  ["items", "Items", Items, Item], ["runs", "Runs", Runs], ["experiments", "Experiments", Experiments], ["events", "Events", Events],
];
const ROLES = ["read", "write", "admin"];

function viewOf(path) {
  const [first, ...rest] = partsOf(path);
  if (first === "docs") return { View: Docs };
  if (!first) return { View: Start };
  const [, , All, One] = VIEWS.find(([name]) => name === first) ?? [];
  if (rest.length && One) return { View: One, id: rest.join("/") };
  return { View: rest.length ? Nowhere : All ?? Nowhere };
}

function Nowhere() {
  return html`<${Page} title="There is nothing here" lead="This address leads nowhere."><p><a href=${href([])}>Begin with a person</a></p></${Page}>`;
}

function Nav({ path, words }) {
  const [here] = partsOf(path);
  const shown = VIEWS.filter(([name]) => words || name !== "words" || here === name);
  return html`<nav aria-label="Views"><ul>${shown.map(([name, label]) => html`<li key=${name}>
    <a href=${href([name])} aria-current=${here === name || (!here && name === "people") ? "page" : undefined}>${label}</a></li>`)}</ul></nav>`;
}

const THEMES = { "": ["dark", "as your system"], dark: ["light", "dark"], light: ["", "light"] };

function Theme() {
  const [theme, set] = useState(document.documentElement.dataset.theme ?? "");
  const [next, label] = THEMES[theme] ?? THEMES[""];
  const change = () => {
    if (next) document.documentElement.dataset.theme = next; else delete document.documentElement.dataset.theme;
    try { if (next) localStorage.setItem("forwhy-theme", next); else localStorage.removeItem("forwhy-theme"); } catch { /* not kept */ }
    set(next);
  };
  return html`<button class="quiet small theme" onClick=${change} title="Change the colours">Colours: ${label}</button>`;
}

function RunPicker({ runs, run }) {
  if (runs.length < 2) return null;
  const pick = (event) => {
    const query = new URLSearchParams({ run: event.target.value });
    go(`${location.pathname}?${query}`);
  };
  return html`<label class="picker"><span class="unseen">Run</span><select value=${run ?? runs[0].name} onChange=${pick}>
    ${runs.map((one) => html`<option key=${one.name} value=${one.name}>${one.name}</option>`)}</select></label>`;
}

/** Asked for when the service wants a key; kept until the tab is closed. */
function KeyForm({ done }) {
  const [text, set] = useState("");
  const refused = Boolean(key.get());
  const keep = (event) => { event.preventDefault(); key.set(text.trim()); done(); };
  return html`<${Page} title="A key, please" lead="This service answers only those who have a key.">
    <form class="card narrow" onSubmit=${keep}>
      ${refused && html`<p class="mistake" role="alert">The key that was given is unknown or revoked.</p>`}
      <label class="field"><span class="label">Key</span>
        <input type="password" autocomplete="off" required placeholder="fw_…" value=${text} onInput=${(event) => set(event.target.value)} data-search /></label>
      <button class="strong">Go on</button>
      <p class="note">Whoever runs the service makes one with <code>forwhy serve keys add NAME --role read</code>. It is kept in this tab alone and forgotten when the tab is closed.</p>
    </form></${Page}>`;
}

function Footer({ status }) {
  return html`<footer class="wide foot">
    <p><strong>forwhy</strong> ${status?.version ?? ""} · an old English word for both “why?” and “because” · <a href="/docs">interface</a></p>
    <p class="keys"><kbd>/</kbd> search <kbd>↑</kbd><kbd>↓</kbd> move <kbd>Enter</kbd> open</p>
  </footer>`;
}

function Inside({ state, path, query, key: _ }) {
  const [error, reset] = useErrorBoundary();
  useEffect(() => { if (error) reset(); }, [path]);
  if (error) return html`<${Page} title="This view failed"><${Mistake} again=${reset}
    problem=${{ title: "A mistake of the page, not yours", detail: String(error.message ?? error), remedy: "Load the page again; if it comes back, tell us what you did." }} /></${Page}>`;
  if (state.problem) return html`<${Page} title="forwhy"><${Mistake} problem=${state.problem} again=${state.again} /></${Page}>`;
  if (!state.data) return html`<main id="main" class="wide"><${Waiting} lines=${6} /></main>`;
  const { View, id } = viewOf(path);
  return html`<${View} key=${path} id=${id} query=${query} />`;
}

function App() {
  const { path, query } = useRoute();
  const [locked, lock] = useState(false);
  const state = useLoad((signal) => get("/v1/status", {}, signal), []);
  useEffect(() => whenKeyIsNeeded(() => lock(true)), []);
  // A run that is named takes part in no experiment: whoever looks around here is not counted as a customer.
  const status = state.data, run = query.get("run") ?? status?.runs[0]?.name;
  const can = (role) => ROLES.indexOf(status?.role ?? "read") >= ROLES.indexOf(role);
  const words = status?.runs.find((one) => one.name === run)?.words ?? true;
  const unlock = () => { lock(false); state.again(); };
  return html`<${Shared.Provider} value=${{ status, run, words, can }}>
    <a class="skip" href="#main">Skip to the content</a>
    <header class="top"><div class="wide">
      <a class="brand" href=${href([])}><img src="/page/mark.svg" alt="" width="28" height="28" />forwhy</a>
      <${Nav} path=${path} words=${words} />
      <div class="top-end"><${RunPicker} runs=${status?.runs ?? []} run=${run} /><${Theme} /></div>
    </div></header>
    ${locked ? html`<${KeyForm} done=${unlock} />` : html`<${Inside} state=${state} path=${path} query=${query} />`}
    <${Footer} status=${status} />
  </${Shared.Provider}>`;
}

followLinks();
listenToKeys();
const root = document.getElementById("app");
root.textContent = "";
render(html`<${App} />`, root);
