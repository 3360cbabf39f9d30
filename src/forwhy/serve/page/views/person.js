// A person: their words, what would suit them and why, and what they took.
import { html, useState } from "../vendor/htm-preact.js";
import { get, post } from "../api.js";
import { Bar, barColour } from "../chips.js";
import { counted, Empty, Feedback, Loaded, Page, Section, useLoad, useShared } from "../parts.js";
import { Reason } from "../reason.js";
import { go, href } from "../router.js";
import { changesOf, isChanged, Steered, Words } from "./steer.js";

const KNOWN = {
  behaviour: (person) => `Known since training by the ${counted(person.history.length, "thing")} they took.`,
  history: (person, words) => `New since training; ${words ? "their words come from" : "known by"} the ${counted(person.history.length, "thing")} they took since.`,
  text: () => "Known by what was said about them.",
  popular: (person, words) => `Nothing is known of them yet, so they see what most people take. One event is enough to give them ${words ? "words" : "a list of their own"}.`,
};

/** Suggestions with the reason in words; one is open and says more. `who`: {user} or {history, about}. */
export function Suggestions({ list, who, open, onOpen }) {
  const { run } = useShared();
  const { items, tokens, impression } = list;
  if (!items.length) return html`<${Empty} title="Nothing is left to suggest">Everything that is available was taken already. Add items, or make some available again.</${Empty}>`;
  return html`<ol class="suggestions" data-list>${items.map((item) => html`<${Suggestion} key=${item.item_id} item=${item}
    open=${open === String(item.item_id)} onOpen=${onOpen} rest=${{ who, run, tokens, impression }} />`)}</ol>`;
}

const firstOf = (item) => item.claims?.[0]?.text ?? item.explanation ?? "";

function Suggestion({ item, open, onOpen, rest }) {
  const { who, run, tokens, impression } = rest;
  const id = String(item.item_id);
  return html`<li class=${open ? "suggestion open" : "suggestion"}>
    <h3><button class="suggestion-head" data-row aria-expanded=${open} onClick=${() => onOpen(open ? "none" : id)}>
      <span class="rank" aria-hidden="true">${item.rank}</span><span class="suggestion-title">${item.title || id}</span>
      <span class="why">${open ? "Close" : "Why?"}</span></button></h3>
    ${!open && html`<p class="because">${firstOf(item)}</p>
      ${item.because?.shares?.length > 0 && html`<${Bar} thin shares=${item.because.shares} colourOf=${barColour(tokens)} />`}`}
    ${open && html`<${Reason} who=${who} item=${id} run=${run} tokens=${tokens} plain=${firstOf(item)} counted=${item.explanation} impression=${impression} />
      <div class="suggestion-foot"><${Feedback} about=${{ impression, item: id, user: who.user }} kinds=${["clicked", "not_me"]} label="This suggestion" />
        <a href=${href(["items", id])}>About ${item.title || id}</a></div>`}
  </li>`;
}

function History({ history }) {
  const [all, showAll] = useState(false);
  const shown = all ? history : history.slice(-14);
  if (!history.length) return html`<${Empty} title="Nothing taken yet">Their first event appears here at once.</${Empty}>`;
  return html`<ul class="history" data-list>${shown.map((one) => html`<li key=${one.item_id}>
      <a data-row href=${href(["items", one.item_id])}>${one.title || one.item_id}</a></li>`)}</ul>
    ${history.length > shown.length && html`<p class="note">The latest ${shown.length}.</p><button class="quiet small" onClick=${() => showAll(true)}>All ${history.length}</button>`}`;
}

const lacks = (list, item) => item && item !== "none" && !list.items.some((one) => String(one.item_id) === item);

/** A list, and before it the item that the address asks about where the list lacks it. */
function Answered({ list, item, ...rest }) {
  const { run } = useShared();
  const missing = lacks(list, item) ? item : null;
  const other = useLoad(async (signal) => missing && get(`/v1/items/${encodeURIComponent(missing)}`, { run }, signal).catch(() => null), [missing, run]);
  const items = missing ? [{ item_id: missing, title: other.data?.title, rank: "–" }, ...list.items] : list.items;
  return html`<${Suggestions} list=${{ ...list, items }} open=${item ?? String(items[0]?.item_id)} ...${rest} />`;
}

function Asked({ id, query, person }) {
  const { run } = useShared();
  const list = useLoad((signal) => post("/v1/recommend", { user: id, k: 10, explain: true, ...(run ? { run } : {}) }, signal), [id, run]);
  const asked = query.get("item");
  const onOpen = (item) => go(href(["people", id], { item }), { replace: true });
  return html`<div class="beside">
    <${Section} title=${`What would suit ${id}`} note="Open one to read why, and what the reason rests on.">
      <${Loaded} of=${list} lines=${10}>${(found) => html`<${Answered} list=${found} item=${asked} who=${{ user: id }} onOpen=${onOpen} />`}</${Loaded}>
    </${Section}>
    <${Section} title="Took before"><${History} history=${person.history} /></${Section}>
  </div>`;
}

function Known({ id, query, person }) {
  const { run } = useShared();
  const changes = changesOf(query);
  return html`
    ${person.tokens.length > 0 && html`<${Section} title="In words"
      note="Each word stands for a taste that many people share. Click one to leave it out and see what changes, or swap it for another.">
      <${Words} id=${id} tokens=${person.tokens} changes=${changes} /></${Section}>`}
    ${isChanged(changes) ? html`<${Steered} id=${id} run=${run} changes=${changes} query=${query} tokens=${person.tokens} />`
      : html`<${Asked} id=${id} query=${query} person=${person} />`}`;
}

export function Person({ id, query }) {
  const { run, words } = useShared();
  const person = useLoad((signal) => get(`/v1/users/${encodeURIComponent(id)}`, { run }, signal), [id, run]);
  const lead = person.data && KNOWN[person.data.source]?.(person.data, words);
  return html`<${Page} title=${id} kicker=${html`<a href=${href([])}>People</a>`} lead=${lead}>
    <${Loaded} of=${person} lines=${12}>${(found) => html`<${Known} id=${id} query=${query} person=${found} />`}</${Loaded}>
  </${Page}>`;
}
