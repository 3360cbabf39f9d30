// Steering: a word left out or swapped, and the list, the shares and the sentence beside what they were.
import { html, useState } from "../vendor/htm-preact.js";
import { get, post } from "../api.js";
import { Bar, bare, barColour, breadth, called, Carried, Label, phrases } from "../chips.js";
import { Loaded, Search, Section, useLoad, useShared } from "../parts.js";
import { Claims, Written } from "../reason.js";
import { go, href, wordPath } from "../router.js";

const TO = "~";

/** What the address says of changes: {without: [token], swap: {old: new}}. */
export function changesOf(query) {
  const pairs = query.getAll("swap").map((pair) => pair.split(TO)).filter((pair) => pair.length === 2);
  return { without: query.getAll("without"), swap: Object.fromEntries(pairs) };
}

export const isChanged = ({ without, swap }) => without.length > 0 || Object.keys(swap).length > 0;

function address(id, { without, swap }, item) {
  return href(["people", id], { without, swap: Object.entries(swap).map((pair) => pair.join(TO)), item });
}

const left = (swap, token) => Object.fromEntries(Object.entries(swap).filter(([old]) => old !== token));

/** Changes with one word changed: `to` is another word, null to leave it out, undefined to put it back. */
function changed(changes, token, to) {
  const without = changes.without.filter((one) => one !== token), swap = left(changes.swap, token);
  if (to === null) return { without: [...without, token], swap };
  return { without, swap: to ? { ...swap, [token]: to } : swap };
}

/** The person's words as switches. */
export function Words({ id, tokens, changes }) {
  const [swapping, swapFor] = useState(null);
  const set = (token, to) => { swapFor(null); go(address(id, changed(changes, token, to))); };
  return html`<ul class="chips">${tokens.map((word, place) => html`<li key=${word.token}><${Switch} word=${word} colour=${`w${place % 8}`}
      changes=${changes} set=${set} swapping=${swapping === word.token} swapFor=${swapFor} /></li>`)}</ul>
    ${swapping && html`<${Neighbours} key=${swapping} word=${tokens.find((one) => one.token === swapping)} pick=${(to) => set(swapping, to)} close=${() => swapFor(null)} />`}`;
}

function Switch({ word, colour, changes, set, swapping, swapFor }) {
  const off = changes.without.includes(word.token), to = changes.swap[word.token];
  return html`<div class=${`chip ${colour} ${off ? "off" : ""} ${to ? "swapped" : ""}`}>
    <button class="chip-main" aria-pressed=${!off && !to} onClick=${() => set(word.token, off || to ? undefined : null)}
      title=${off || to ? "Put it back" : "Leave it out"}>
      <${Label} word=${word} />
      <span class="chip-state">${off ? "left out — put it back" : to ? html`now: <${Named} token=${to} />` : "leave it out"}</span>
    </button>
    <span class="chip-foot"><a class="token" href=${wordPath(word.token)} aria-label=${`About the word ${bare(word.token)}`}>${bare(word.token)}</a>
      <button class="link" aria-expanded=${swapping} aria-label=${`Swap ${called(word)}`} onClick=${() => swapFor(swapping ? null : word.token)}>swap</button></span>
  </div>`;
}

const wordOf = (token, run, signal) => get(`/v1/words/${encodeURIComponent(token)}`, { run }, signal);

function Named({ token }) {
  const { run } = useShared();
  const word = useLoad((signal) => wordOf(token, run, signal), [token, run]);
  return word.data ? called(word.data) : bare(token);
}

/** What a word could be swapped for: its neighbours, or any other of its kind. */
function Neighbours({ word, pick, close }) {
  const { run } = useShared();
  const [q, search] = useState("");
  const near = useLoad((signal) => wordOf(word.token, run, signal), [word.token, run]);
  const other = useLoad(async (signal) => (q && near.data ? get("/v1/words", { run, q, book: near.data.book, limit: 6 }, signal) : null), [q, run, near.data?.book]);
  const choice = (one) => html`<li key=${one.token}><button class="choice" data-row onClick=${() => pick(one.token)}>
    <span>${called(one)}</span><span class="chip-more">${phrases(one).slice(1, 3).join(" · ")}</span></button></li>`;
  const found = (other.data?.words ?? []).filter((one) => one.token !== word.token);
  return html`<div class="card swap" role="group" aria-label=${`Swap ${called(word)}`}>
    <div class="section-head"><h3>Instead of “${called(word)}”</h3><button class="link" onClick=${close}>Close</button></div>
    <p class="note">Its neighbours, or any other word of the same kind.</p>
    <${Search} main=${false} label="Another taste" hint="film, coffee, quiet …" value=${q} onSearch=${search} />
    ${q && other.data && !found.length && html`<p class="note" role="status">No word of this kind says that.</p>`}
    <${Loaded} of=${near} lines=${2}>${(data) => html`<ul class="choices" data-list>${(found.length ? found : data.nearest).map(choice)}</ul>`}</${Loaded}>
  </div>`;
}

function moved(item, before) {
  const old = before.find((one) => one.item_id === item.item_id);
  if (!old) return { mark: "new", means: "was not in the list" };
  const by = old.rank - item.rank;
  if (!by) return { mark: "same", text: "=", means: "stays" };
  return by > 0 ? { mark: "up", text: `↑${by}`, means: `up by ${by}` } : { mark: "down", text: `↓${-by}`, means: `down by ${-by}` };
}

function titleOf(item, ...sides) {
  const found = sides.flatMap((side) => side.items).find((one) => String(one.item_id) === item);
  return found?.title || item;
}

function Side({ side, other, title, item, pick, after, asked }) {
  const colourOf = barColour(after ? other.tokens : side.tokens);
  const gone = (one) => !after && !other.items.some((it) => it.item_id === one.item_id);
  return html`<section class=${after ? "side after" : "side"}><h2>${title}</h2>
    <ol class="compact" data-list>${side.items.map((one) => {
      const to = after ? moved(one, other.items) : gone(one) ? { mark: "gone", text: "gone", means: "leaves the list" } : null;
      return html`<li key=${one.item_id}><button class="compact-row" data-row aria-pressed=${String(one.item_id) === item} onClick=${() => pick(String(one.item_id))}>
        <span class="rank" aria-hidden="true">${one.rank}</span><span class="compact-title">${one.title || one.item_id}</span>
        ${to && html`<span class=${`moved ${to.mark}`} title=${to.means}>${to.text ?? to.mark}<span class="unseen"> ${to.means}</span></span>`}
        <${Bar} thin shares=${one.because.shares ?? []} colourOf=${colourOf} /></button></li>`;
    })}</ol>
    <${Why} side=${side} asked=${asked} title=${titleOf(item, side, other)} colourOf=${colourOf} /></section>`;
}

/** The sentence and the shares of the item that is looked at, on one side. */
function Why({ side, title, colourOf, asked }) {
  if (!side.reason) return null;
  const { explanation, claims, because } = side.reason;
  return html`<div class="card side-why"><h3>Why ${title}</h3>
    <${Claims} text=${explanation} claims=${claims} />
    ${asked && html`<${Written} asked=${asked} />`}
    <${Carried} because=${because} names=${side.names} colourOf=${colourOf} /></div>`;
}

/** Item words of both sides by name, so that shares can be read. */
async function withNames(found, run, signal) {
  const sides = [found.before, found.after];
  const asked = new Set(sides.flatMap((side) => (side.reason?.because.shares ?? []).flatMap((share) => [share.user, share.item])).filter(Boolean));
  const known = new Map(sides.flatMap((side) => side.tokens).map((word) => [word.token, word]));
  const missing = [...asked].filter((token) => !known.has(token));
  const words = await Promise.all(missing.map((token) => wordOf(token, run, signal).catch(() => null)));
  words.filter(Boolean).forEach((word) => known.set(word.token, word));
  sides.forEach((side) => { side.names = known; });
  return found;
}

/** The best that stays in the list, since there the two reasons differ most; else the best. */
const telling = ({ before, after }) => after.items.find((one) => before.items.some((it) => it.item_id === one.item_id)) ?? after.items[0];

async function compared({ id, run, changes, item }, signal) {
  const asked = { user: id, k: 6, ...changes, ...(run ? { run } : {}) };
  const chosen = item ?? String(telling(await post("/v1/what-if", asked, signal))?.item_id);
  return { ...await withNames(await post("/v1/what-if", { ...asked, item: chosen }, signal), run, signal), chosen };
}

/** Changes in words; two words may share a phrase, so their kind is said, too. */
function spoken(changes, tokens) {
  const names = new Map(tokens.map((word) => [word.token, `“${called(word)}” (${breadth(word.token) || bare(word.token)})`]));
  const name = (token) => names.get(token) ?? bare(token);
  return [...changes.without.map((token) => `without ${name(token)}`),
    ...Object.keys(changes.swap).map((token) => `with another word for ${name(token)}`)].join(", ");
}

/** Both lists, side by side. */
export function Steered({ id, run, changes, query, tokens }) {
  const item = query.get("item");
  const found = useLoad((signal) => compared({ id, run, changes, item }, signal), [id, run, JSON.stringify(changes), item]);
  const [written, write] = useState(false);
  const asks = (chosen, how) => written && { user: id, item: chosen, ...how, ...(run ? { run } : {}) };
  const pick = (one) => go(address(id, changes, one), { replace: true });
  const said = spoken(changes, tokens);
  return html`<${Section} title="What changes" note=${`${id}, ${said}. The address of this page holds the change: send it to somebody.`}
      aside=${html`<button class="strong" onClick=${() => go(href(["people", id]))}>Put everything back</button>`}>
    <${Loaded} of=${found} lines=${10}>${({ before, after, chosen }) => html`<div class="sides" aria-busy=${Boolean(found.waiting)}>
      <${Side} side=${before} other=${after} title="As it is" item=${chosen} pick=${pick} asked=${asks(chosen, {})} />
      <${Side} side=${after} other=${before} title="With the change" item=${chosen} pick=${pick} after asked=${asks(chosen, changes)} /></div>
      ${!written && html`<button class="quiet" onClick=${() => write(true)}>Let the model say it, too</button>`}`}</${Loaded}>
  </${Section}>`;
}
