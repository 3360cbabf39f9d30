// Where we are: the path says what is shown, the query how. Everything is a link that can be sent to somebody.
import { useEffect, useState } from "./vendor/htm-preact.js";

const listeners = new Set();
const tell = () => listeners.forEach((listener) => listener());
addEventListener("popstate", tell);

/** Goes to a path of this page. */
export function go(to, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", to);
  tell();
}

/** The current path and query; the component is drawn again when they change. */
export function useRoute() {
  const [, again] = useState(0);
  useEffect(() => {
    const listener = () => again((count) => count + 1);
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, []);
  return { path: location.pathname, query: new URLSearchParams(location.search) };
}

/** A path of parts, with the run that is looked at; `query`: values, lists of values, or nothing. */
export function href(parts, query = {}) {
  const path = `/${parts.map(encodeURIComponent).join("/")}`;
  const asked = new URLSearchParams();
  const run = new URLSearchParams(location.search).get("run");
  if (run && !("run" in query)) asked.set("run", run);
  for (const [name, value] of Object.entries(query)) {
    for (const one of [value].flat()) if (one !== undefined && one !== null && one !== "") asked.append(name, one);
  }
  const text = asked.toString();
  return text ? `${path}?${text}` : path;
}

export const partsOf = (path) => path.split("/").filter(Boolean).map((part) => {
  try { return decodeURIComponent(part); } catch { return part; }
});

/** A word's token as it stands in a path: without its brackets. */
export const wordPath = (token, query) => href(["words", token.replace(/^<|>$/g, "")], query);
export const tokenOf = (part) => (part.startsWith("<") ? part : `<${part}>`);

const OURS = /^\/($|(people|words|test|items|runs|experiments|events|docs)(\/|$))/;

/** Links within the page are followed without loading it again. */
export function followLinks() {
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]");
    if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const to = new URL(link.getAttribute("href"), location.href);
    if (link.hasAttribute("download") || link.getAttribute("target") || to.origin !== location.origin || to.hash) return;
    if (!OURS.test(to.pathname)) return;
    event.preventDefault();
    go(to.pathname + to.search);
  });
}
