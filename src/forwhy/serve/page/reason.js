// Why this person would want this item: streamed, each claim tied to what supports it.
import { html, useEffect, useState } from "./vendor/htm-preact.js";
import { stream } from "./api.js";
import { Alike, barColour, Carried } from "./chips.js";
import { Feedback, Mistake, Waiting } from "./parts.js";
import { href } from "./router.js";

const STARTED = { text: "" };

function told(old, { event, data }) {
  if (event === "words") return { ...old, text: old.text + data.text };
  if (event === "evidence") return { ...old, evidence: data };
  return { ...old, ...data, ...(event === "end" ? { ended: true } : {}) };
}

/** The reason as it comes; who leaves stops the writing. */
function useReason(asked) {
  const [state, set] = useState(STARTED);
  useEffect(() => {
    const stop = new AbortController();
    set(STARTED);
    (async () => {
      try {
        for await (const event of stream("/v1/explain", { ...asked, stream: true }, stop.signal)) set((old) => told(old, event));
      } catch (problem) {
        if (!stop.signal.aborted) set((old) => ({ ...old, problem }));
      }
    })();
    return () => stop.abort();
  }, [JSON.stringify(asked)]);
  return state;
}

/** A text cut at its claims: [{text, claim?}]. A claim that does not stand in the text is left out. */
export function cut(text, claims) {
  const found = (claims ?? []).map((claim) => ({ claim, begin: claim.text ? text.indexOf(claim.text) : -1 }));
  const pieces = [];
  let at = 0;
  for (const { claim, begin } of found.sort((one, other) => one.begin - other.begin)) {
    if (begin < at) continue;
    if (begin > at) pieces.push({ text: text.slice(at, begin) });
    pieces.push({ text: claim.text, claim });
    at = begin + claim.text.length;
  }
  return at < text.length ? [...pieces, { text: text.slice(at) }] : pieces;
}

/** Statement ids in the order in which the claims name them, three for each claim at most. */
const citedIn = (claims) => [...new Set((claims ?? []).flatMap((claim) => claim.evidence.slice(0, 3)))];
const backing = (claim) => (!claim.evidence.length ? "unbacked" : claim.support >= 0.75 ? "backed" : "partly");
const MEANS = { backed: "Backed by what is known", partly: "Partly backed", unbacked: "Nothing known backs this" };

/** A sentence whose claims are underlined by how well they are backed, with the numbers of what backs them. */
export function Claims({ text, claims, light }) {
  const cited = citedIn(claims);
  return html`<p class="sentence">${cut(text, claims).map((piece, place) => {
    if (!piece.claim) return piece.text;
    const numbers = piece.claim.evidence.slice(0, 3).map((id) => cited.indexOf(id) + 1);
    return html`<mark key=${place} class=${`claim ${backing(piece.claim)}`} title=${MEANS[backing(piece.claim)]}
      onMouseEnter=${() => light?.(piece.claim.evidence)} onMouseLeave=${() => light?.([])}>${piece.text}<sup>${numbers.length ? numbers.join(" ") : "?"}</sup></mark>`;
  })}</p>`;
}

const SAID = {
  title: "its name", brand: "its brand", kind: "the catalogue", item: "the catalogue", profile: "a profile", review: "a review", explanation: "told to others",
  nearby: "said of something alike", interactions: "counted", dislike: "a dislike",
};

function Statement({ one, item, number, lit }) {
  const phrase = one.side === "user" ? "what is known of them" : "a phrase people share";
  const elsewhere = one.side === "item" && String(one.about) !== String(item);
  return html`<li class=${lit ? "statement lit" : "statement"}>
    <span class="statement-number" aria-hidden=${number ? undefined : "true"}>${number || "·"}</span>
    <span><q>${one.text}</q> <span class="said">${SAID[one.source] ?? phrase}${elsewhere && html`, of <a href=${href(["items", one.about])}>${one.about}</a>`}</span></span>
  </li>`;
}

/** What the claims rest on, and behind a fold what else is known. */
export function Evidence({ evidence, claims, item, lit = [] }) {
  const statements = evidence?.statements ?? [];
  const known = new Map(statements.map((one) => [one.id, one]));
  const cited = citedIn(claims).filter((id) => known.has(id));
  const others = statements.filter((one) => !cited.includes(one.id));
  if (!statements.length) return html`<p class="note">This run’s system cites nothing beside the words.</p>`;
  const row = (one, number) => html`<${Statement} key=${one.id} one=${one} item=${item} number=${number} lit=${lit.includes(one.id)} />`;
  return html`<div class="evidence">
    ${cited.length > 0 && html`<ol class="statements">${cited.map((id, place) => row(known.get(id), place + 1))}</ol>`}
    ${others.length > 0 && html`<details><summary>${cited.length ? "What else is known" : "What is known"} (${others.length})</summary>
      <ul class="statements">${others.map((one) => row(one))}</ul></details>`}
  </div>`;
}

const WRITTEN = {
  model: "Written just now by the language model.",
  kept: "Written by the language model earlier and kept.",
  plain: "Put together from what was counted and read; no language model wrote it.",
};

function Legend({ claims }) {
  const kinds = ["backed", "partly", "unbacked"].filter((kind) => claims?.some((claim) => backing(claim) === kind));
  if (!kinds.length) return null;
  return html`<p class="claim-legend">${kinds.map((kind) => html`<span key=${kind} class=${`claim ${kind}`}>${MEANS[kind]}</span>`)}</p>`;
}

/** Only the sentence, as it comes: what the model says of changed words. */
export function Written({ asked }) {
  const state = useReason(asked);
  if (state.problem) return html`<${Mistake} problem=${state.problem} />`;
  return html`<div aria-live="polite">${state.text ? html`<${Claims} text=${state.text} claims=${state.claims} />` : html`<p class="dots">the model is writing …</p>`}
    ${state.written && html`<p class="written">${WRITTEN[state.written]}</p>`}</div>`;
}

/** The whole reason. `who`: {user} or {history, about}; `tokens`: of the person; `plain`: shown until words come; `counted`: without a model. */
export function Reason({ who, item, run, tokens, plain, counted, changes = {}, impression }) {
  const asked = { ...who, item, ...changes, ...(run ? { run } : {}) };
  const state = useReason(asked);
  const [lit, light] = useState([]);
  const names = new Map([...tokens, ...(state.tokens ?? [])].map((word) => [word.token, word]));
  const about = { item, user: who.user };
  const reason = state.id ? { explanation: state.id, ...about } : impression ? { impression, ...about } : {};
  return html`<div class="reason">
    <div aria-live="polite" aria-busy=${!state.ended && !state.problem}>
      ${state.text ? html`<${Claims} text=${state.text} claims=${state.claims} light=${light} />`
        : !state.problem && html`<p class="sentence writing">${plain ?? ""} <span class="dots">the model is writing …</span></p>`}
      ${state.problem && html`<${Mistake} problem=${state.problem} />`}
    </div>
    <${Legend} claims=${state.claims} />
    ${state.written && html`<p class="written">${WRITTEN[state.written]} ${state.note ? `(${state.note})` : ""}</p>`}
    ${counted && ["model", "kept"].includes(state.written) && counted !== state.text && html`<details class="plainly"><summary>The same, only counted</summary><p>${counted}</p></details>`}
    ${state.ended && html`<${Feedback} about=${reason} kinds=${["helpful", "wrong", "not_me"]} label="This reason is" />`}
    ${!(state.problem && !state.because) && html`<div class="reason-parts">
      <div><h4>What carried it</h4>${state.because
        ? html`<${Carried} because=${state.because} names=${names} colourOf=${barColour(tokens)} /><${Alike} because=${state.because} />`
        : !state.problem && html`<${Waiting} lines=${3} />`}</div>
      <div><h4>What it rests on</h4>${state.evidence
        ? html`<${Evidence} evidence=${state.evidence} claims=${state.claims} item=${item} lit=${lit} />`
        : !state.problem && html`<${Waiting} lines=${3} />`}</div>
    </div>`}
  </div>`;
}
