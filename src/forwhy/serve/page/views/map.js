// Maps of words in SVG: small ones of all books, and one to come nearer to, with wheel, buttons, drag or keys.
import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { bare, bookName, called } from "../chips.js";
import { counted } from "../parts.js";
import { wordPath } from "../router.js";

const WIDE = 1000, HIGH = 640, EDGE = 60;
const at = (point) => [EDGE + ((point.x + 1) / 2) * (WIDE - 2 * EDGE), EDGE + ((1 - point.y) / 2) * (HIGH - 2 * EDGE)];
const radius = (point, most) => 3 + 11 * Math.sqrt(point.usage / Math.max(most, 1));
const mostOf = (points) => Math.max(...points.map((point) => point.usage), 1);

/** One small map for each book. */
export function Maps({ points, lit, pick }) {
  const books = [...new Set(points.map((point) => point.book))];
  return html`<ul class="maps">${books.map((book, place) => {
    const own = points.filter((point) => point.book === book), most = mostOf(own);
    return html`<li key=${book}><button class="map-small" onClick=${() => pick(book)}>
      <svg viewBox=${`0 0 ${WIDE} ${HIGH}`} aria-hidden="true">${own.map((point) => html`<circle key=${point.token} cx=${at(point)[0]} cy=${at(point)[1]}
        r=${2 * radius(point, most)} class=${`point w${place % 8} ${lit && !lit.has(point.token) ? "dim" : ""}`} />`)}</svg>
      <span>${bookName(book)}</span><span class="chip-more">${counted(own.length, "word")}</span></button></li>`;
  })}</ul>`;
}

/** Which points have room for their phrase: the most used first, none over another. */
function labelled(points, scale) {
  const taken = [], shown = new Set();
  for (const point of [...points].sort((one, other) => other.usage - one.usage)) {
    const [x, y] = at(point), wide = called(point).length * 9.5 / scale, high = 26 / scale;
    const box = { left: x - wide / 2, right: x + wide / 2, top: y - high * 1.6, bottom: y };
    if (box.left < 0 || box.right > WIDE || taken.some((one) => one.left < box.right && box.left < one.right && one.top < box.bottom && box.top < one.bottom)) continue;
    taken.push(box);
    shown.add(point.token);
  }
  return shown;
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

/** One book, to come nearer to. */
export function OneMap({ points, lit }) {
  const drawing = useRef();
  const [view, set] = useWindow(drawing);
  const most = mostOf(points), shown = labelled(points, view.scale);
  const { x, y, scale } = view;
  return html`<div class="map">
    <svg ref=${drawing} class="map-one" viewBox=${`${x} ${y} ${WIDE / scale} ${HIGH / scale}`} role="group" aria-label="Words by likeness" data-list>
      ${points.map((point) => {
        const [cx, cy] = at(point), dim = lit && !lit.has(point.token);
        return html`<a key=${point.token} class=${`spot ${dim ? "dim" : ""}`} data-row href=${wordPath(point.token)} aria-label=${`${called(point)}, ${point.usage} owners`}>
          <title>${`${called(point)} — ${counted(point.usage, "owner")} (${bare(point.token)})`}</title>
          <circle class="point w0" cx=${cx} cy=${cy} r=${radius(point, most) / Math.sqrt(scale)} />
          ${shown.has(point.token) && html`<text x=${cx} y=${cy - (radius(point, most) + 5) / scale} font-size=${17 / scale} text-anchor="middle">${called(point)}</text>`}</a>`;
      })}</svg>
    <div class="map-buttons"><button class="quiet" aria-label="Come nearer" onClick=${() => set((old) => nearer(old, 1.5))}>+</button>
      <button class="quiet" aria-label="Step back" onClick=${() => set((old) => nearer(old, 1 / 1.5))}>−</button>
      <button class="quiet small" onClick=${() => set(WHOLE)}>Whole</button></div></div>`;
}
