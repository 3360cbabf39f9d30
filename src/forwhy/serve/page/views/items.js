// What can be taken: a list to search, and one item with its words and its likes.
import { html } from "../vendor/htm-preact.js";
import { get } from "../api.js";
import { called, Chips } from "../chips.js";
import { counted, Empty, Loaded, Page, Search, Section, useLoad, useShared } from "../parts.js";
import { go, href, wordPath } from "../router.js";

function List({ items, q }) {
  if (!items.length) return html`<${Empty} title="No item is called so">${q ? "Search for a part of a title or of an id." : "Send items with PUT /v1/items/{id}."}</${Empty}>`;
  return html`<ul class="people" data-list>${items.map((one) => html`<li key=${one.id}><a class="row" data-row href=${href(["items", one.id])}>
    <span class="row-name">${one.title || one.id}</span>${!one.available && html`<span class="row-note">not available</span>`}</a></li>`)}</ul>`;
}

export function Items({ query }) {
  const { run } = useShared();
  const q = query.get("q") ?? "", limit = Number(query.get("limit")) || 60;
  const set = (change) => go(href(["items"], { q, limit: limit === 60 ? "" : limit, ...change }), { replace: true });
  const found = useLoad((signal) => get("/v1/items", { run, q, limit }, signal), [run, q, limit]);
  return html`<${Page} title="Items" lead="Everything that can be suggested here.">
    <${Search} label="Find an item" hint="a part of its title" value=${q} onSearch=${(text) => set({ q: text })} />
    <${Loaded} of=${found} lines=${10}>${({ items, next }) => html`<${List} items=${items} q=${q} />
      ${next && limit < 1000 && html`<button class="quiet" onClick=${() => set({ limit: Math.min(1000, limit * 4) })}>More</button>`}`}</${Loaded}>
  </${Page}>`;
}

function Similar({ id, words }) {
  const { run } = useShared();
  const found = useLoad((signal) => get(`/v1/items/${encodeURIComponent(id)}/similar`, { run, k: 8 }, signal), [id, run]);
  const names = new Map(words.map((word) => [word.token, word]));
  const shared = (one) => one.shared.map((token) => names.get(token)).filter(Boolean);
  return html`<${Section} title="Most like it" note="By the words they share.">
    <${Loaded} of=${found} lines=${6}>${({ items }) => html`<ul class="similar" data-list>${items.map((one) => html`<li key=${one.item_id}>
      <a data-row href=${href(["items", one.item_id])}>${one.title || one.item_id}</a>
      <span class="note">${shared(one).length ? html`both ${shared(one).map((word, place) => html`${place > 0 && ", "}<a key=${word.token} href=${wordPath(word.token)}>${called(word)}</a>`)}` : "near, without a word in common"}</span></li>`)}</ul>`}</${Loaded}>
  </${Section}>`;
}

function Shown({ item }) {
  const { words } = useShared();
  return html`${item.text && html`<p class="item-text">${item.text}</p>`}
    ${!item.available && html`<p class="note">Not available at the moment, so no list holds it.</p>`}
    ${item.tokens.length > 0 ? html`<${Section} title="In words" note="The words that rank it."><${Chips} words=${item.tokens} /></${Section}><${Similar} id=${item.id} words=${item.tokens} />`
      : words && html`<${Empty} title="No words yet">It came after training. Its text makes it listed; training again gives it words of its own.</${Empty}>`}`;
}

export function Item({ id }) {
  const { run } = useShared();
  const item = useLoad((signal) => get(`/v1/items/${encodeURIComponent(id)}`, { run }, signal), [id, run]);
  const lead = item.data && (item.data.trained ? `Taken by ${counted(item.data.takers, "person", "people")}.` : "New since training.");
  return html`<${Page} title=${item.data?.title || id} kicker=${html`<a href=${href(["items"])}>Items</a>`} lead=${lead}>
    <${Loaded} of=${item} lines=${8}>${(data) => html`<${Shown} item=${data} />`}</${Loaded}>
  </${Page}>`;
}
