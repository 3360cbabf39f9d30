// Small pieces that all views share: a page with its heading, waiting, mistakes, empty places, feedback.
import { createContext, html, useContext, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { post } from "./api.js";

/** {status, run, words, can(role)}: what the service is, which run is looked at, whether it has words, what the caller may do. */
export const Shared = createContext({ status: null, run: null, words: true, can: () => false });
export const useShared = () => useContext(Shared);

let arrived = false;
/** A view: one heading, which takes the focus when the view is gone to. */
export function Page({ title, name = title, kicker, lead, children }) {
  const heading = useRef();
  useEffect(() => {
    if (arrived) { scrollTo(0, 0); heading.current.focus({ preventScroll: true }); }
    arrived = true;
  }, []);
  useEffect(() => { document.title = `${name} · forwhy`; }, [name]);
  return html`<main id="main" class="wide">
    <header class="page-head">
      ${kicker && html`<p class="kicker">${kicker}</p>`}
      <h1 tabindex="-1" ref=${heading}>${title}</h1>
      ${lead && html`<p class="lead">${lead}</p>`}
    </header>
    ${children}
  </main>`;
}

export function Section({ title, note, aside, children, ...rest }) {
  return html`<section ...${rest}>
    <div class="section-head"><h2>${title}</h2>${aside}</div>
    ${note && html`<p class="note">${note}</p>`}
    ${children}
  </section>`;
}

/** What `read(signal)` answers: {data, problem, waiting, again()}; asked again when `when` changes. */
export function useLoad(read, when) {
  const [state, set] = useState({ waiting: true });
  const [turn, again] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    set((old) => ({ data: old.data, waiting: true }));
    read(stop.signal).then(
      (data) => stop.signal.aborted || set({ data }),
      (problem) => stop.signal.aborted || set({ problem }),
    );
    return () => stop.abort();
  }, [...when, turn]);
  return { ...state, again: () => again((count) => count + 1) };
}

/** Draws what was loaded, or that it is coming, or why not. `lines`: how tall the place is until then. */
export function Loaded({ of, lines = 4, children }) {
  if (of.problem) return html`<${Mistake} problem=${of.problem} again=${of.again} />`;
  if (of.data === undefined) return html`<${Waiting} lines=${lines} />`;
  return children(of.data);
}

export function Waiting({ lines = 3 }) {
  return html`<div class="waiting" role="status"><span class="unseen">Loading</span>
    ${Array.from({ length: lines }, (_, line) => html`<span class="bone" key=${line}></span>`)}</div>`;
}

/** A problem as the service tells it, with what helps. */
export function Mistake({ problem, again }) {
  if (problem.status === 401) return null;
  return html`<div class="mistake" role="alert">
    <p class="mistake-title">${problem.title}</p>
    <p>${upper(problem.detail || problem.message)}</p>
    ${problem.remedy && html`<p class="remedy"><strong>What helps:</strong> ${problem.remedy}</p>`}
    ${again && html`<button class="quiet" onClick=${again}>Try again</button>`}
  </div>`;
}

export function Empty({ title, children }) {
  return html`<div class="empty"><p class="empty-title">${title}</p><p>${children}</p></div>`;
}

/** A field that searches; what is typed arrives when the hand rests. */
export function Search({ label, value, onSearch, hint, main = true }) {
  const timer = useRef(), sent = useRef(value);
  const [text, type] = useState(value);
  // What is typed stands by itself: an answer that comes while somebody types must not undo it.
  useEffect(() => { if (value !== sent.current) { sent.current = value; type(value); } }, [value]);
  const said = (event) => {
    const typed = event.target.value;
    type(typed);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => { sent.current = typed; onSearch(typed); }, 180);
  };
  useEffect(() => () => clearTimeout(timer.current), []);
  return html`<label class="search"><span class="label">${label}</span>
    <input type="search" autocomplete="off" spellcheck=${false} value=${text} placeholder=${hint} onInput=${said}
      data-search=${main ? "" : undefined} maxlength="200" />
    ${main && html`<kbd aria-hidden="true">/</kbd>`}</label>`;
}

export const number = (value) => new Intl.NumberFormat("en").format(value);
export const counted = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;
export const percent = (share) => {
  const value = Math.abs(share * 100);
  return `${share < 0 ? "−" : ""}${value > 0 && value < 1 ? "under 1" : Math.round(value)}%`;
};
export const when = (text) => new Date(text).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" });
export const upper = (text) => text.charAt(0).toUpperCase() + text.slice(1);

const SAYS = {
  clicked: ["I would pick this", "It suits: counts as a click on this list"],
  helpful: ["Helpful", "The reason helps"],
  wrong: ["Wrong", "Something in the reason is not true"],
  not_me: ["Not me", "This is not about the person"],
};

/** Buttons that tell the service what a person thinks of a list or a reason. */
export function Feedback({ about, kinds, label }) {
  const { can } = useShared();
  const [state, set] = useState({});
  if (!can("write") || !(about.impression || about.explanation)) return null;
  const send = (kind) => post("/v1/feedback", { ...about, kind }).then(
    () => set((old) => ({ kept: { ...old.kept, [kind]: true } })), (problem) => set({ problem }));
  return html`<div class="feedback" role="group" aria-label=${label}>
    <span class="feedback-label" aria-hidden="true">${label}</span>
    ${kinds.map((kind) => html`<button key=${kind} class="quiet small" title=${SAYS[kind][1]} data-kind=${kind}
      aria-pressed=${Boolean(state.kept?.[kind])} disabled=${state.kept?.[kind]} onClick=${() => send(kind)}>${SAYS[kind][0]}</button>`)}
    <span role="status" class="thanks">${state.kept ? "Kept, thank you." : ""}</span>
    ${state.problem && html`<${Mistake} problem=${state.problem} />`}
  </div>`;
}
