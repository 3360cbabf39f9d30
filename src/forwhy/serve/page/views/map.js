// Maps of words in SVG: small ones of all books, and one to come nearer to, with wheel, buttons, drag or keys.
import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { bare, bookName, called, phrases } from "../chips.js";
import { counted } from "../parts.js";
import { wordPath } from "../router.js";

const WIDE = 1000, HIGH = 640, EDGE = 60;

/** Where the points of a book are drawn: as large as the sheet takes them, both directions on one scale. */
function placed(points) {
  const range = (values) => [Math.min(...values), Math.max(...values)];
  const [left, right] = range(points.map((point) => point.x)), [low, high] = range(points.map((point) => point.y));
  const scale = Math.min((WIDE - 2 * EDGE) / (right - left || 1), (HIGH - 2 * EDGE) / (high - low || 1));
  return new Map(points.map((point) => [point.token, [
    WIDE / 2 + (point.x - (left + right) / 2) * scale, HIGH / 2 - (point.y - (low + high) / 2) * scale]]));
}
const radius = (point, most) => 3 + 11 * Math.sqrt(point.usage / Math.max(most, 1));
const mostOf = (points) => Math.max(...points.map((point) => point.usage), 1);

/** One small map for each book. */
export function Maps({ points, lit, pick }) {
  const books = [...new Set(points.map((point) => point.book))];
  return html`<ul class="maps">${books.map((book, place) => {
    const own = points.filter((point) => point.book === book), most = mostOf(own), at = placed(own);
    return html`<li key=${book}><button class="map-small" onClick=${() => pick(book)}>
      <svg viewBox=${`0 0 ${WIDE} ${HIGH}`} aria-hidden="true">${own.map((point) => html`<circle key=${point.token} cx=${at.get(point.token)[0]} cy=${at.get(point.token)[1]}
        r=${2 * radius(point, most)} class=${`point w${place % 8} ${lit && !lit.has(point.token) ? "dim" : ""}`} />`)}</svg>
      <span>${bookName(book)}</span><span class="chip-more">${counted(own.length, "word")}</span></button></li>`;
  })}</ul>`;
}

const over = (one, other) => one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom;

/** The phrases that there is room for: [{token, text, x, y}], the most used first, none over another and none twice. */
function labels(points, at, scale, unit, q) {
  const taken = [], found = new Map(), most = mostOf(points);
  for (const point of [...points].sort((one, other) => other.usage - one.usage)) {
    const free = phrases(point).filter((phrase) => !found.has(phrase));
    const text = free.find((phrase) => phrase.toLowerCase().includes(q.toLowerCase())) ?? free[0];
    if (!text) continue;
    const [x, y] = at.get(point.token), wide = (text.length * 8 * unit) / scale, high = (22 * unit) / scale, foot = y - (radius(point, most) * Math.sqrt(unit)) / Math.sqrt(scale);
    const box = { left: x - wide / 2, right: x + wide / 2, top: foot - high, bottom: foot };
    if (box.left < 0 || box.top < 0 || box.right > WIDE || taken.some((one) => over(one, box))) continue;
    taken.push(box);
    found.set(text, { token: point.token, text, x, y: foot - 5 / scale });
  }
  return [...found.values()];
}

const WHOLE = { x: 0, y: 0, scale: 1 };

/** A window of the map that stays inside it. */
function kept({ x, y, scale }) {
  const size = Math.min(12, Math.max(1, scale));
  return { scale: size, x: Math.min(Math.max(0, x), WIDE - WIDE / size), y: Math.min(Math.max(0, y), HIGH - HIGH / size) };
}

function nearer(old, by, [fx, fy] = [0.5, 0.5]) {
  const scale = Math.min(12, Math.max(1, old.scale * by));
  const [px, py] = [old.x + (fx * WIDE) / old.scale, old.y + (fy * HIGH) / old.scale];
  return kept({ scale, x: px - (fx * WIDE) / scale, y: py - (fy * HIGH) / scale });
}

/** Wheel and drag on a drawing change its window. */
function useWindow(drawing) {
  const [view, set] = useState(WHOLE);
  useEffect(() => {
    const svg = drawing.current;
    let held = null, dragged = false;
    const within = (event) => {
      const box = svg.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    };
    const wheel = (event) => { event.preventDefault(); const spot = within(event); set((old) => nearer(old, event.deltaY < 0 ? 1.25 : 0.8, spot)); };
    const down = (event) => { held = within(event); dragged = false; };
    const up = () => { held = null; };
    const drag = (event) => {
      if (!held) return;
      const spot = within(event), [dx, dy] = [held[0] - spot[0], held[1] - spot[1]];
      if (!dragged && Math.hypot(dx, dy) < 0.01) return;
      [held, dragged] = [spot, true];
      set((old) => kept({ ...old, x: old.x + (dx * WIDE) / old.scale, y: old.y + (dy * HIGH) / old.scale }));
    };
    // A drag ends on a word, too, and is no click on it.
    const click = (event) => { if (dragged) event.preventDefault(); dragged = false; };
    const all = { pointerdown: down, pointermove: drag, click, dragstart: (event) => event.preventDefault() };
    for (const [name, what] of Object.entries(all)) svg.addEventListener(name, what);
    svg.addEventListener("wheel", wheel, { passive: false });
    addEventListener("pointerup", up);
    return () => removeEventListener("pointerup", up);
  }, []);
  return [view, set];
}

/** How many units of the sheet make a pixel, so that phrases can be read on a phone, too. */
function useUnit(drawing) {
  const [unit, set] = useState(1);
  useEffect(() => {
    const watcher = new ResizeObserver(([{ contentRect }]) => set(Math.min(3, Math.max(1, WIDE / (contentRect.width || WIDE)))));
    watcher.observe(drawing.current);
    return () => watcher.disconnect();
  }, []);
  return unit;
}

/** One book, to come nearer to. */
export function OneMap({ points, lit, q }) {
  const drawing = useRef();
  const [view, set] = useWindow(drawing), unit = useUnit(drawing);
  const { x, y, scale } = view;
  const most = mostOf(points), at = placed(points);
  return html`<div class="map">
    <svg ref=${drawing} class="map-one" viewBox=${`${x} ${y} ${WIDE / scale} ${HIGH / scale}`} role="group" aria-label="Words by likeness" data-list>
      ${points.map((point) => {
        const [cx, cy] = at.get(point.token), dim = lit && !lit.has(point.token);
        return html`<a key=${point.token} class=${`spot ${dim ? "dim" : ""}`} data-row href=${wordPath(point.token)} aria-label=${`${called(point)}, ${point.usage} owners`}>
          <title>${`${called(point)} — ${counted(point.usage, "owner")} (${bare(point.token)})`}</title>
          <circle class="point w0" cx=${cx} cy=${cy} r=${(radius(point, most) * Math.sqrt(unit)) / Math.sqrt(scale)} /></a>`;
      })}
      <g aria-hidden="true">${labels(points.filter((point) => !lit || lit.has(point.token)), at, scale, unit, q).map((one) => html`<text key=${one.token} x=${one.x} y=${one.y} font-size=${(16 * unit) / scale} text-anchor="middle">${one.text}</text>`)}</g></svg>
    <div class="map-buttons"><button class="quiet" aria-label="Come nearer" onClick=${() => set((old) => nearer(old, 1.5))}>+</button>
      <button class="quiet" aria-label="Step back" onClick=${() => set((old) => nearer(old, 1 / 1.5))}>−</button>
      <button class="quiet small" onClick=${() => set(WHOLE)}>Whole</button></div></div>`;
}
