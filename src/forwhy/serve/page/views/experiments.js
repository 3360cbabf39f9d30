// Experiments: what each arm brought, with its interval, and whether the difference could be chance.
import { html } from "../vendor/htm-preact.js";
import { get } from "../api.js";
import { Empty, Loaded, number, Page, Section, useLoad } from "../parts.js";

const shown = (share) => `${(100 * share).toFixed(1)}%`;
const WIDE = 1000, HIGH = 30;

/** Rates as marks on their intervals, one row an arm, all on one scale that begins at nothing. */
function Chart({ arms }) {
  const most = Math.min(1, 1.1 * Math.max(...arms.filter((arm) => arm.impressions).map((arm) => arm.interval[1]), 0.01));
  const x = (share) => (share / most) * WIDE;
  return html`<div class="chart" aria-hidden="true">${arms.map((arm, place) => html`<span key=${arm.arm} class="chart-name">${arm.arm}</span>
      <svg key=${`${arm.arm} row`} class=${`w${place % 8}`} viewBox=${`0 0 ${WIDE} ${HIGH}`} preserveAspectRatio="none">
        <rect class="bar-ground" y=${HIGH / 2 - 1} width=${WIDE} height="2" />
        ${arm.impressions > 0 && html`<rect class="interval" x=${x(arm.interval[0])} width=${x(arm.interval[1]) - x(arm.interval[0])} y="9" height="12" />
          <rect class="rate" x=${x(arm.rate) - 2} width="4" height=${HIGH} />`}</svg>`)}
    <span></span><span class="chart-scale"><span>0%</span><span>${shown(most)}</span></span></div>`;
}

function said(name, [low, high], first) {
  const points = (share) => `${share < 0 ? "−" : "+"}${Math.abs(100 * share).toFixed(1)}`;
  const range = `${points(low)} to ${points(high)} percentage points`;
  const [one, other] = [`“${name}”`, `“${first}”`];
  if (low > 0) return `${one} is clicked more than ${other}: ${range}.`;
  if (high < 0) return `${one} is clicked less than ${other}: ${range}.`;
  return `${one} and ${other} may be equally good: the difference lies between ${range}. More lists would tell.`;
}

function One({ it }) {
  const first = it.arms[0]?.arm;
  return html`<${Section} title=${it.name}>
    ${Object.entries(it.minus_first ?? {}).map(([arm, range]) => html`<p key=${arm} class="sentence">${said(arm, range, first)}</p>`)}
    <${Chart} arms=${it.arms} />
    <table class="arms"><caption class="unseen">Arms of ${it.name}</caption>
      <thead><tr><th scope="col">Arm</th><th scope="col">Run</th><th scope="col">Lists</th><th scope="col">Clicked</th><th scope="col">Rate, 95%</th><th scope="col">Helpful / wrong / not me</th></tr></thead>
      <tbody>${it.arms.map((arm, place) => html`<tr key=${arm.arm}><th scope="row"><span class=${`dot w${place % 8}`} aria-hidden="true"></span> ${arm.arm}</th><td data-label="Run">${arm.run}</td>
        <td data-label="Lists">${number(arm.impressions)}</td><td data-label="Clicked">${number(arm.clicked)}</td>
        <td data-label="Rate, 95%">${arm.impressions ? `${shown(arm.rate)} (${shown(arm.interval[0])} to ${shown(arm.interval[1])})` : "no list yet"}</td>
        <td data-label="Helpful / wrong / not me">${arm.helpful} / ${arm.wrong} / ${arm.not_me}</td></tr>`)}</tbody></table>
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
