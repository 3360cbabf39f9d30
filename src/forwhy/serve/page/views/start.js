// The first view: what this is, and whom to look at.
import { html, useState } from "../vendor/htm-preact.js";
import { get } from "../api.js";
import { counted, Empty, Loaded, Mistake, number, Page, Search, Section, useLoad, useShared } from "../parts.js";
import { go, href } from "../router.js";

const LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789";

/** Somebody by chance: people are listed by id, so a letter is drawn first. */
async function somebody(run) {
  for (let tries = 0; tries < 4; tries++) {
    const letter = tries < 3 ? LETTERS[Math.floor(Math.random() * LETTERS.length)] : "";
    const { users } = await get("/v1/users", { run, q: letter, limit: 200 });
    if (users.length) return users[Math.floor(Math.random() * users.length)].id;
  }
  return null;
}

function Steps({ words }) {
  const steps = [
    words ? ["In words", "What people took and wrote becomes a few words about each of them."]
      : ["What they took", "What people took, one after the other, tells who they are."],
    ["What suits", words ? "The same words rank everything there is." : "It ranks everything there is."],
    ["And why", "So each suggestion comes with its reason, and with what backs it."],
  ];
  return html`<ol class="steps">${steps.map(([title, text]) => html`<li key=${title}><strong>${title}</strong><span>${text}</span></li>`)}</ol>`;
}

function People({ list, q }) {
  if (!list.length) {
    return html`<${Empty} title=${q ? "Nobody’s name begins so" : "Nobody is known yet"}>${q
      ? "Names are searched from their beginning."
      : html`Send a first event on <a href=${href(["events"])}>Events</a>: whoever took something is known at once.`}</${Empty}>`;
  }
  return html`<ul class="people" data-list>${list.map((one) => html`<li key=${one.id}>
    <a class="row" data-row href=${href(["people", one.id])}><span class="row-name">${one.id}</span>
    <span class="row-note">${one.taken === null ? "new here" : counted(one.taken, "thing")}</span></a></li>`)}</ul>`;
}

export function Start({ query }) {
  const { run, words, status } = useShared();
  const [q, search] = useState(query.get("q") ?? "");
  const [problem, fail] = useState(null);
  const found = useLoad((signal) => get("/v1/users", { run, q, limit: 24 }, signal), [run, q]);
  const first = status.runs.find((one) => one.name === run) ?? status.runs[0];
  const anybody = () => somebody(run).then((id) => id && go(href(["people", id])), fail);
  return html`<${Page} title="Recommendations with a because" name="People"
    lead=${`Pick a person. See ${words ? "who they are in a few words" : "what they took"}, what would suit them, and why.`}>
    <${Steps} words=${words} />
    <${Section} title="People" note=${`${number(first.users)} people and ${number(first.items)} things to take are known here.`}
      aside=${html`<button class="quiet" onClick=${anybody}>Somebody by chance</button>`}>
      <${Search} label="Find a person" hint="the beginning of a name" value=${q} onSearch=${search} />
      ${problem && html`<${Mistake} problem=${problem} />`}
      <${Loaded} of=${found} lines=${8}>${({ users, next }) => html`<${People} list=${users} q=${q} />
        ${next && html`<p class="note">More are there; search to narrow them down.</p>`}`}</${Loaded}>
    </${Section}>
    <p class="note">Not in the list? <a href=${href(["test"])}>Test it</a> with ${words && "a few sentences or "}a history of your own.</p>
  </${Page}>`;
}
