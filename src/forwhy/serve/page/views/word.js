// One word: what it stands for, who has it, what lies near it, and its name.
import { html, useState } from "../vendor/htm-preact.js";
import { ask, get, key, put } from "../api.js";
import { bare, bookName, called, Chips, fitOf, phrases } from "../chips.js";
import { counted, Empty, Loaded, Mistake, Page, Section, upper, useLoad, useShared, when } from "../parts.js";
import { href, tokenOf, wordPath } from "../router.js";

function Owners({ title, note, list, side }) {
  if (!list.length) return null;
  const kind = side === "user" ? "people" : "items";
  return html`<${Section} title=${title} note=${note}><ul class="history" data-list>${list.map((one) => html`<li key=${one.id}>
    <a data-row href=${href([kind, one.id])}>${one.title || one.id}</a></li>`)}</ul></${Section}>`;
}

/** Owners as a table; with a key the file is fetched, since a link sends none. */
function Download({ token, run }) {
  const path = `/v1/words/${encodeURIComponent(token)}/owners.csv`;
  const name = `${bare(token)}.csv`;
  const fetched = async (event) => {
    if (!key.get()) return;
    event.preventDefault();
    const file = URL.createObjectURL(await (await ask("GET", path, { query: { run } })).blob());
    Object.assign(document.createElement("a"), { href: file, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(file), 10_000);
  };
  return html`<a class="button quiet" href=${run ? `${path}?run=${encodeURIComponent(run)}` : path} download=${name} onClick=${fetched}>Owners as CSV</a>`;
}

function Rename({ word, run, again }) {
  const { can } = useShared();
  const [text, set] = useState(""), [problem, fail] = useState(null);
  if (!can("write")) return null;
  const keep = (event) => {
    event.preventDefault();
    put(`/v1/words/${encodeURIComponent(word.token)}/gloss`, { gloss: text, ...(run ? { run } : {}) }).then(() => { set(""); fail(null); again(); }, fail);
  };
  return html`<form class="card inline" onSubmit=${keep}>
    <label class="field"><span class="label">A better name</span><input required maxlength="200" value=${text} placeholder=${called(word)} onInput=${(event) => set(event.target.value)} /></label>
    <button class="quiet">Rename</button>
    <p class="note">Kept with your name and the time; what was measured stays beside it.</p>
    ${problem && html`<${Mistake} problem=${problem} />`}</form>`;
}

function Facts({ word }) {
  const facts = [
    ["Kind", bookName(word.book)],
    ["Has it", word.side === "user" ? counted(word.owners, "person", "people") : counted(word.owners, "thing")],
    ["Fit of its phrases", fitOf(word.fit)],
    ...(word.side === "item" ? [["In stock", word.in_stock ? "yes" : "no item in stock has it"]] : []),
    ["Token", bare(word.token)],
  ];
  return html`<dl class="facts">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

function Meaning({ word, run, again }) {
  return html`<${Section} title="What it stands for" aside=${html`<${Download} token=${word.token} run=${run} />`}>
    ${word.gloss.length ? html`<ul class="phrases">${word.gloss.map((phrase) => html`<li key=${phrase}>${phrase}</li>`)}</ul>`
      : html`<${Empty} title="No phrase yet">Its owners share no phrase. Give it a name below if you know better.</${Empty}>`}
    ${word.keywords.length > 0 && html`<p class="note">Often said by them: ${word.keywords.join(", ")}.</p>`}
    <${Facts} word=${word} />
    ${word.renamed && html`<p class="note renamed">Named “${word.renamed.gloss}” by ${word.renamed.who}, ${when(word.renamed.at)}.</p>`}
    <${Rename} word=${word} run=${run} again=${again} />
  </${Section}>`;
}

function Shown({ word, run, again }) {
  const near = "Those whose other words are most like those of all who have it.";
  return html`<div class="beside"><div>
      <${Meaning} word=${word} run=${run} again=${again} />
      <${Section} title="Neighbours" note="The nearest words of the same kind."><${Chips} words=${word.nearest} /></${Section}>
    </div><div>
      <${Owners} title="Typical" note=${near} list=${word.typical} side=${word.side} />
      <${Owners} title="At the border" note="They have it, and are otherwise least like the rest." list=${word.borderline} side=${word.side} />
      ${!word.typical.length && html`<${Section} title="Typical"><${Empty} title="Nobody has it">No ${word.side === "user" ? "person" : "item"} is written with this word.</${Empty}></${Section}>`}
    </div></div>`;
}

export function Word({ id }) {
  const { run } = useShared();
  const token = tokenOf(id);
  const word = useLoad((signal) => get(`/v1/words/${encodeURIComponent(token)}`, { run }, signal), [token, run]);
  const [first, ...more] = phrases(word.data);
  const title = word.data ? upper(first ?? bare(token)) : bare(token);
  return html`<${Page} title=${title} kicker=${html`<a href=${href(["words"], { book: word.data?.book })}>Words</a>`} lead=${more.slice(0, 2).join(" · ")}>
    <${Loaded} of=${word} lines=${10}>${(data) => html`<${Shown} word=${data} run=${run} again=${word.again} />`}</${Loaded}>
  </${Page}>`;
}
