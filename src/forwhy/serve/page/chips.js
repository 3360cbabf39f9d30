// Words as a person reads them, and what they carried: chips, bars and their legends.
import { html } from "./vendor/htm-preact.js";
import { percent } from "./parts.js";
import { href, wordPath } from "./router.js";

/** What a word is called: the name somebody gave it, else what its owners share. */
export const phrases = (word) => [word?.renamed?.gloss, ...(word?.gloss ?? [])].filter(Boolean);
export const called = (word) => phrases(word)[0] ?? "a word without a phrase yet";
export const bare = (token) => token.replace(/^<|>$/g, "");


/** A book by a name that can be read: `user_text2` -> "people, from texts 2". */
export function bookName(book) {
  const [, side, layer, place] = /^(user|item)_([a-z]+)(\d*)$/.exec(book) ?? [];
  return side ? `${side === "user" ? "people" : "things"}, ${TASTES[layer] ?? layer}${place && ` ${place}`}` : book;
}

/** How well a phrase that was held out finds its word, where that was measured. */
export const fitOf = (fit) => (typeof fit === "number" ? fit.toFixed(2) : "not measured");

/** Token -> class of its colour: the place it has among the person's words. */
export const colours = (tokens) => new Map(tokens.map((word, place) => [word.token, `w${place % 8}`]));

function whence(origins) {
  const [first, ...others] = origins ?? [];
  if (!first) return null;
  if (first.kind === "text") return "from the sentences";
  const more = others.length ? ` and ${others.length} more` : "";
  return first.kind === "history" ? `from ${first.id}${more}` : `from people like ${first.id}${more}`;
}

const TASTES = { macro: "broad", micro: "fine", text: "from texts" };
/** How broad a word is, by its name: two words may share their first phrase. */
export const breadth = (token) => TASTES[/^<?[ui]\.([a-z]+)/.exec(token)?.[1]] ?? "";

/** What is said of a word on a chip. */
export function Label({ word }) {
  const [first = called(word), ...more] = phrases(word);
  return html`${breadth(word.token) && html`<span class="chip-kind">${breadth(word.token)}</span>`}
    <span class="chip-name">${first}</span>
    ${more.length > 0 && html`<span class="chip-more">${more.slice(0, 2).join(" · ")}</span>`}`;
}

/** A word that can be looked up. */
export function Chip({ word, colour = "w0", lit }) {
  return html`<a class=${`chip ${colour} ${lit ? "lit" : ""}`} href=${wordPath(word.token)}>
    <${Label} word=${word} />
    ${whence(word.origins) && html`<span class="chip-origin">${whence(word.origins)}</span>`}
    <span class="token">${bare(word.token)}</span>
  </a>`;
}

export function Chips({ words, lit }) {
  return html`<ul class="chips">${words.map((word, place) => html`<li key=${word.token}>
    <${Chip} word=${word} colour=${`w${place % 8}`} lit=${lit} /></li>`)}</ul>`;
}

/** Whether shares read well as percent: as `tells_in_percent` of forwhy.data.because. */
const readable = (shares) => Math.max(...shares) <= 1.0001 && shares.reduce((sum, one) => sum + Math.abs(one), 0) <= 3;

/** One row of shares, drawn: what speaks for it side by side; what stays empty speaks against it. */
export function Bar({ shares, colourOf, thin }) {
  const ahead = shares.map((one) => Math.max(0, one.contribution));
  const whole = shares.reduce((sum, one) => sum + Math.abs(one.contribution), 0) || 1;
  let at = 0;
  return html`<svg class=${thin ? "bar thin" : "bar"} viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true">
    <rect class="bar-ground" width="1000" height="10" />
    ${ahead.map((share, place) => {
      const width = (share / whole) * 1000;
      const drawn = html`<rect key=${place} class=${colourOf(shares[place], place)} x=${at} width=${Math.max(0, width - 3)} height="10" />`;
      at += width;
      return width > 2 && drawn;
    })}</svg>`;
}

const isWords = (because) => because.kind === "words";
export const barColour = (tokens) => {
  const known = colours(tokens);
  return (share, place) => known.get(share.user) ?? `w${place % 8}`;
};

const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;
const few = (count) => (count === 1 ? "One more adds" : `${count} more add`);

const NOTES = {
  words: "A score is a sum: each of the person’s words meets a word of this. These are all its parts.",
  history: "A score is a sum over what the person took.",
  "leave-one-out": "How much of the score is lost without each of these.",
};

const EXPERTS = {
  sasrec: "the order of what they took", "item-knn": "what is taken together", "content-knn": "what is said of things",
  "llm-bs": "a language model that writes the next one",
};

/** Which experts of a mixture spoke for it, and how much. */
function Experts({ experts }) {
  const rows = Object.entries(experts ?? {}).filter(([, share]) => share >= 0.005).sort(([, one], [, other]) => other - one);
  if (!rows.length) return null;
  return html`<p class="note experts">Chosen by ${rows.map(([name, share], place) => html`${place > 0 && ", "}${EXPERTS[name] ?? name} <span class="legend-number">${percent(share)}</span>`)}.</p>`;
}

/** What carried a score, in words first and numbers second. `names`: token -> word. */
export function Carried({ because, names, colourOf }) {
  if (!because?.shares?.length) return html`<p class="note">Nothing about the person carried this: it is what most people take.</p>`;
  const told = because.score > 0 && readable(because.shares.map((one) => one.share));
  const rows = because.shares.map((share, place) => ({ share, place })).sort((one, other) => other.share.contribution - one.share.contribution);
  const shown = rows.filter(({ share }) => (told ? Math.abs(share.share) >= 0.01 : Math.abs(share.contribution) >= 0.005));
  return html`<div class="carried">
    <${Bar} shares=${because.shares} colourOf=${colourOf} />
    <ul class="legend">${shown.map(({ share, place }) => html`<li key=${place}>
      <span class=${`dot ${colourOf(share, place)}`} aria-hidden="true"></span>
      <span class="legend-text">${isWords(because) ? html`<${Meeting} share=${share} names=${names} />` : html`<a href=${href(["items", share.item_id])}>${share.title || share.item_id}</a>`}
      ${share.contribution < 0 && html` <em class="against">speaks against it</em>`}</span>
      <span class="legend-number">${told ? percent(share.share) : signed(share.contribution)}</span>
    </li>`)}</ul>
    ${rows.length > shown.length && html`<p class="note">${few(rows.length - shown.length)} next to nothing.</p>`}
    ${because.score < 0 && because.kind !== "leave-one-out" && html`<p class="note">All in all, they speak against it.</p>`}
    <p class="note">${NOTES[because.kind] ?? ""}</p>
    <${Experts} experts=${because.experts} />
  </div>`;
}

function Meeting({ share, names }) {
  const word = (token) => html`<a href=${wordPath(token)}>${called(names.get(token) ?? { gloss: [bare(token)] })}</a>`;
  return html`${word(share.user)} <span class="meets">meets</span> ${word(share.item)}`;
}

/** What of the history spoke for it. */
export function Alike({ because }) {
  const items = (because?.items ?? []).filter((one) => one.share >= 0.01).slice(0, 4);
  if (!items.length || !isWords(because)) return null;
  return html`<p class="alike">These have the same words: ${items.map((one, place) => html`${place > 0 && ", "}<a key=${one.item_id} href=${href(["items", one.item_id])}>${one.title || one.item_id}</a>`)}.</p>`;
}
