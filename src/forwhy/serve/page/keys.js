// The keyboard: “/” searches, arrows move in a list, Home and End go to its ends. Enter is the browser's own.
import { go, href } from "./router.js";

const typing = (target) => target.matches?.("input, textarea, select, [contenteditable]");

function search(event) {
  const field = document.querySelector("[data-search]");
  event.preventDefault();
  if (field) { field.focus(); field.select?.(); } else go(href([]));
}

const STEPS = { ArrowDown: 1, ArrowUp: -1 };

/** Moves the focus in the list that has it; from the search field into the first list. */
function move(event) {
  const inside = event.target.closest?.("[data-list]");
  const list = inside ?? (event.target.matches?.("[data-search]") && event.key === "ArrowDown" ? document.querySelector("[data-list]") : null);
  const rows = [...(list?.querySelectorAll("[data-row]") ?? [])];
  if (!rows.length) return;
  const at = rows.findIndex((row) => row === event.target || row.contains(event.target));
  const to = event.key === "Home" ? 0 : event.key === "End" ? rows.length - 1 : at + (STEPS[event.key] ?? 0);
  if (inside && at < 0) return;
  event.preventDefault();
  if (to < 0) document.querySelector("[data-search]")?.focus();
  else rows[Math.min(to, rows.length - 1)].focus();
}

/** Listens to the whole page. */
export function listenToKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const field = typing(event.target);
    if (event.key === "/" && !field) search(event);
    else if (event.key in STEPS || (!field && ["Home", "End"].includes(event.key))) {
      if (!field || event.target.matches("[data-search]")) move(event);
    } else if (event.key === "Escape" && event.target.matches?.("[data-search]")) event.target.blur();
  });
}
