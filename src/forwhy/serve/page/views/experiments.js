// Experiments: what each arm brought, with its interval, and whether the difference could be chance.
import { html } from "../vendor/htm-preact.js";
import { get } from "../api.js";
import { Empty, Loaded, number, Page, Section, useLoad } from "../parts.js";

const shown = (share) => `${(100 * share).toFixed(1)}%`;
const WIDE = 1000, ROW = 56, LEFT = 20;

/** Rates as points on their intervals, one row an arm, all on one scale. */
function Chart({ arms }) {
  const most = Math.max(...arms.filter((arm) => arm.impressions).map((arm) => arm.interval[1]), 0.01);
  const x = (share) => LEFT + (share / most) * (WIDE - 2 * LEFT);
  return html`<svg class="chart" viewBox=${`0 0 ${WIDE} ${arms.length * ROW}`} preserveAspectRatio="none" aria-hidden="true">
    ${arms.map((arm, place) => arm.impressions > 0 && html`<g key=${arm.arm} class=${`w${place % 8}`}>
      <line class="axis" x1=${LEFT} x2=${WIDE - LEFT} y1=${(place + 0.5) * ROW} y2=${(place + 0.5) * ROW} />
      <rect class="interval" x=${x(arm.interval[0])} width=${x(arm.interval[1]) - x(arm.interval[0])} y=${(place + 0.5) * ROW - 5} height="10" />
      <rect class="rate" x=${x(arm.rate) - 3} width="6" y=${(place + 0.5) * ROW - 14} height="28" /></g>`)}</svg>`;
}

function said(name, [low, high], first) {
  const points = (share) => `${share < 0 ? "−" : "+"}${Math.abs(100 * share).toFixed(1)}`;
  const range = `${points(low)} to ${points(high)} percentage points`;
  if (low > 0) return `${name} is clicked more than ${first}: ${range}.`;
  if (high < 0) return `${name} is clicked less than ${first}: ${range}.`;
  return `${name} and ${first} may be equally good: the difference lies between ${range}. More lists would tell.`;
}

function One({ it }) {
  const first = it.arms[0]?.arm;
  return html`<${Section} title=${it.name}>
    ${Object.entries(it.minus_first ?? {}).map(([arm, range]) => html`<p key=${arm} class="sentence">${said(arm, range, first)}</p>`)}
    <${Chart} arms=${it.arms} />
    <table class="arms"><caption class="unseen">Arms of ${it.name}</caption>
      <thead><tr><th scope="col">Arm</th><th scope="col">Run</th><th scope="col">Lists</th><th scope="col">Clicked</th><th scope="col">Rate, 95%</th><th scope="col">Helpful / wrong / not me</th></tr></thead>
      <tbody>${it.arms.map((arm, place) => html`<tr key=${arm.arm}><th scope="row"><span class=${`dot w${place % 8}`} aria-hidden="true"></span> ${arm.arm}</th><td>${arm.run}</td>
        <td>${number(arm.impressions)}</td><td>${number(arm.clicked)}</td>
        <td>${arm.impressions ? `${shown(arm.rate)} (${shown(arm.interval[0])} to ${shown(arm.interval[1])})` : "no list yet"}</td>
        <td>${arm.helpful} / ${arm.wrong} / ${arm.not_me}</td></tr>`)}</tbody></table>
    <p class="note">A person always gets the same arm. Lists of one person resemble each other, so that with few people intervals are too narrow.</p>
  </${Section}>`;
}

const EXAMPLE = `curl -X PUT ${location.origin}/v1/experiments/first -H 'content-type: application/json' \\
  -d '{"arms": {"a": {"run": "RUN", "share": 0.5}, "b": {"run": "OTHER", "share": 0.5}}}'`;

export function Experiments() {
  const found = useLoad((signal) => get("/v1/experiments", {}, signal), []);
  return html`<${Page} title="Experiments" lead="Two runs or rules, side by side on real people: which lists are clicked more?">
    <${Loaded} of=${found} lines=${8}>${({ experiments }) => (experiments.length ? experiments.map((it) => html`<${One} key=${it.name} it=${it} />`)
      : html`<${Empty} title="No experiment yet">Begin one over two runs; each person then always gets the same one.</${Empty}><pre tabindex="0">${EXAMPLE}</pre>`)}</${Loaded}>
  </${Page}>`;
}
