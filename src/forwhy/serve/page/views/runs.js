// The runs that answer: what they are, how their words are used, their report.
import { html, useState } from "../vendor/htm-preact.js";
import { ask, get, key } from "../api.js";
import { bookName } from "../chips.js";
import { counted, Loaded, Mistake, number, Page, Section, useLoad, useShared, Waiting, when } from "../parts.js";
import { href } from "../router.js";

function Books({ books }) {
  const rows = Object.entries(books);
  if (!rows.length) return html`<p class="note">This system has no words.</p>`;
  return html`<table class="books"><caption class="unseen">How evenly words are used</caption>
    <thead><tr><th scope="col">Kind of word</th><th scope="col">Used</th><th scope="col">As if evenly used</th></tr></thead>
    <tbody>${rows.map(([book, it], place) => html`<tr key=${book}><th scope="row"><a href=${href(["words"], { book, view: "map" })}>${bookName(book)}</a></th>
      <td>${number(it.used)} of ${number(it.size)}</td>
      <td class="use"><svg class="use-bar wide-bar" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true"><rect class="bar-ground" width="100" height="6" /><rect class=${`w${place % 8}`} width=${(100 * it.perplexity) / it.size} height="6" /></svg>${it.perplexity.toFixed(1)}</td></tr>`)}</tbody></table>
    <p class="note">A book is healthy when most of its words are used and use is even. The last column is the number of words that, all used alike, would tell as much.</p>`;
}

/** A frame sends no key: with one, the report comes as a file. */
async function saved(response, name) {
  const file = URL.createObjectURL(await response.blob());
  Object.assign(document.createElement("a"), { href: file, download: `${name}.html` }).click();
  setTimeout(() => URL.revokeObjectURL(file), 10_000);
  return null;
}

/** The report, once it is known to be there. */
async function reportOf(path, name, signal) {
  const response = await ask("GET", path, { signal });
  return key.get() ? saved(response, name) : response.url;
}

function Report({ name }) {
  const [open, show] = useState(false);
  const path = `/v1/runs/${encodeURIComponent(name)}/report`;
  const there = useLoad(async (signal) => (open ? reportOf(path, name, signal) : null), [open]);
  return html`<div class="report"><button class="quiet" aria-expanded=${open} onClick=${() => show(!open)}>${open ? "Close the report" : "Report"}</button>
    ${open && there.waiting && html`<${Waiting} />`}
    ${open && there.problem && html`<${Mistake} problem=${there.problem} />`}
    ${open && there.data && html`<p class="note"><a href=${path} target="_blank" rel="noopener">Open it by itself</a></p><iframe src=${path} title=${`Report of ${name}`}></iframe>`}</div>`;
}

function Run({ run }) {
  const health = useLoad((signal) => get(`/v1/runs/${encodeURIComponent(run.name)}/health`, {}, signal), [run.name, run.identity]);
  const can = [run.words && "speaks in words", run.explains && "writes reasons"].filter(Boolean).join(", ") || "lists only";
  const facts = [["System", run.system], ["People", number(run.users)], ["Items", number(run.items)], ["Trained", run.trained ? when(run.trained) : "unknown"], ["It", can]];
  return html`<${Section} title=${run.name} aside=${html`<a class="button quiet" href=${href(["people"], { run: run.name })}>Look through it</a>`}>
    ${run.failed && html`<${Mistake} problem=${{ title: "A newer one could not be loaded; this one goes on", detail: run.failed }} />`}
    <dl class="facts">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
    <h3>Health of its books</h3>
    <${Loaded} of=${health} lines=${6}>${({ books }) => html`<${Books} books=${books} />`}</${Loaded}>
    <${Report} name=${run.name} />
  </${Section}>`;
}

function Trainings() {
  const found = useLoad((signal) => get("/v1/jobs", {}, signal), []);
  const jobs = found.data?.jobs ?? [];
  if (!jobs.length) return null;
  return html`<${Section} title="Trainings"><ul class="history">${jobs.slice(0, 10).map((job) => html`<li key=${job.id}><strong>${job.state}</strong>
    <span class="note"> ${job.asked?.run ?? ""} ${job.at || job.asked_at ? when(job.at ?? job.asked_at) : ""}</span></li>`)}</ul></${Section}>`;
}

export function Runs() {
  const { status } = useShared();
  const found = useLoad((signal) => get("/v1/runs", {}, signal), []);
  return html`<${Page} title="Runs" lead=${`${counted(status.runs.length, "trained run answers", "trained runs answer")} here. Replaced on disk, a run is taken up without a stop.`}>
    <${Loaded} of=${found} lines=${10}>${({ runs }) => runs.map((run) => html`<${Run} key=${run.name} run=${run} />`)}</${Loaded}>
    <${Trainings} />
  </${Page}>`;
}
