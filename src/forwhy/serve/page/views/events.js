// What people do, as it comes; a lost connection is said, and what came meanwhile is caught up.
import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { listen, post } from "../api.js";
import { Empty, Mistake, Page, Section, useShared, when } from "../parts.js";
import { href } from "../router.js";

const MOST = 200;

function useLive() {
  const [state, tell] = useState({ listening: null });
  const [rows, set] = useState([]);
  useEffect(() => {
    const stop = new AbortController();
    const each = ({ data }) => set((old) => (old.some((one) => one.seq === data.seq) ? old : [data, ...old].slice(0, MOST)));
    listen("/v1/events/live", each, (next) => tell((old) => ({ ...next, lost: !next.listening, was: old.listening === false })), stop.signal);
    return () => stop.abort();
  }, []);
  return { state, rows };
}

function State({ state }) {
  if (state.listening === null) return html`<p class="state" role="status">Connecting …</p>`;
  if (state.listening) return html`<p class="state on" role="status">${!state.was ? "Listening" : state.caughtUp ? "Listening again; what came meanwhile is here" : "Listening again"}</p>`;
  return html`<div class="state off" role="status"><strong>Connection lost</strong>, trying again in ${state.again} s. ${state.problem?.status ? state.problem.detail : state.problem?.remedy}</div>`;
}

const DID = { take: "took", untake: "took back" };

function Row({ row }) {
  return html`<li><a data-row href=${href(["people", row.user])}>${row.user}</a> <span class="did">${DID[row.kind] ?? row.kind}</span> <a href=${href(["items", row.item])}>${row.item}</a>${row.value !== null && row.value !== undefined && html` <span class="note">${row.value}</span>`}
    <time class="note" datetime=${row.time}>${when(row.time)}</time></li>`;
}

function Send() {
  const { can } = useShared();
  const [row, set] = useState({ user: "", item: "" }), [state, tell] = useState({});
  if (!can("write")) return null;
  const field = (name) => (event) => set({ ...row, [name]: event.target.value });
  const send = (event) => {
    event.preventDefault();
    post("/v1/events", { key: crypto.randomUUID?.() ?? String(Math.random()), ...row }).then(() => tell({ kept: row.user }), (problem) => tell({ problem }));
  };
  return html`<form class="card inline" onSubmit=${send}>
    <label class="field"><span class="label">Person</span><input required maxlength="200" value=${row.user} onInput=${field("user")} placeholder="anybody, also somebody new" /></label>
    <label class="field"><span class="label">Took</span><input required maxlength="200" value=${row.item} onInput=${field("item")} placeholder="id of an item" /></label>
    <button class="quiet">Send</button>
    <p class="note" role="status">${state.kept ? html`Kept. <a href=${href(["people", state.kept])}>See what that changes for ${state.kept}</a>` : "An event counts at once: see how somebody new gets words."}</p>
    ${state.problem && html`<${Mistake} problem=${state.problem} />`}</form>`;
}

export function Events() {
  const { state, rows } = useLive();
  return html`<${Page} title="Events" lead="What people do, the moment it is on disk.">
    <${State} state=${state} />
    <${Send} />
    <${Section} title="As they come">${rows.length
      ? html`<ol class="events" data-list>${rows.map((row) => html`<${Row} key=${row.seq} row=${row} />`)}</ol>`
      : html`<${Empty} title="Quiet so far">Events appear here as they are sent to POST /v1/events.</${Empty}>`}</${Section}>
  </${Page}>`;
}
