// What the page asks of the service: JSON, problems with their remedy, and server-sent events over fetch,
// because EventSource can neither post nor send a key.

const KEY = "forwhy-key";
const WAIT = [1, 2, 3, 5, 8];

/** The service says what is wrong and, after a semicolon, what helps. */
function apart(said) {
  const [, detail, remedy] = /^(.*?); (.*)$/s.exec(said.detail ?? "") ?? [];
  return said.remedy || !remedy ? said : { ...said, detail, remedy };
}

/** A mistake that a reader can do something about. */
export class Problem extends Error {
  constructor(said) {
    const { status = 0, title = "Something went wrong", detail = "", remedy = "" } = apart(said);
    super(detail || title);
    Object.assign(this, { status, title, detail, remedy });
  }
}

const SILENT = {
  title: "The service does not answer",
  detail: "It was stopped, or the connection to it was lost.",
  remedy: "Start it again with “forwhy serve RUN”, then try again here.",
};

const FAILED = {
  title: "The service failed at this", detail: "That is a mistake of the service, not yours.",
  remedy: "Try again; if it comes back, its log says why.",
};

let asksForKey = () => {};
/** `listener` is called when a key is needed. */
export function whenKeyIsNeeded(listener) { asksForKey = listener; }

export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (text) => (text ? sessionStorage.setItem(KEY, text) : sessionStorage.removeItem(KEY)),
};

function headers(more) {
  const known = key.get();
  return { ...(known ? { authorization: `Bearer ${known}` } : {}), ...more };
}

function address(path, query = {}) {
  const kept = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const text = new URLSearchParams(kept).toString();
  return text ? `${path}?${text}` : path;
}

async function problemOf(response) {
  const said = await response.json().catch(() => ({}));
  const failed = response.status >= 500 ? FAILED : {};
  return new Problem({ title: response.statusText, ...failed, ...said, status: response.status });
}

/** The response, if all is well; a Problem is thrown otherwise. */
export async function ask(method, path, { query, body, signal, more } = {}) {
  const json = body === undefined ? {} : { "content-type": "application/json" };
  let response;
  try {
    const text = body === undefined ? undefined : JSON.stringify(body);
    response = await fetch(address(path, query), { method, signal, body: text, headers: headers({ ...json, ...more }) });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Problem(SILENT);
  }
  if (response.status === 401) asksForKey();
  if (!response.ok) throw await problemOf(response);
  return response;
}

async function json(method, path, options) {
  const response = await ask(method, path, options);
  return response.status === 204 ? null : response.json();
}

export const get = (path, query, signal) => json("GET", path, { query, signal });
export const post = (path, body, signal) => json("POST", path, { body, signal });
export const put = (path, body) => json("PUT", path, { body });

function parsed(block) {
  const found = { event: "message", data: [] };
  for (const line of block.split("\n")) {
    const at = line.indexOf(":");
    if (at < 1) continue;
    const [name, value] = [line.slice(0, at), line.slice(at + 1).replace(/^ /, "")];
    if (name === "data") found.data.push(value);
    else found[name] = value;
  }
  return found.data.length ? { ...found, data: JSON.parse(found.data.join("\n")) } : null;
}

/** The events of a response as they come. */
async function* heard(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = parsed(block);
      if (event) yield event;
    }
  }
}

/** Asks why, and yields what comes; a connection that ends early is a problem. */
export async function* stream(path, body, signal) {
  const response = await ask("POST", path, { body, signal, more: { accept: "text/event-stream" } });
  let ended = false;
  try {
    for await (const event of heard(response)) {
      if (event.event === "problem") throw new Problem(event.data);
      ended = event.event === "end";
      yield event;
    }
  } catch (error) {
    if (error instanceof Problem || signal.aborted) throw error;
  }
  if (!ended && !signal.aborted) throw new Problem(SILENT);
}

const pause = (seconds, signal) => new Promise((done) => {
  const timer = setTimeout(done, seconds * 1000);
  signal.addEventListener("abort", () => { clearTimeout(timer); done(); });
});

/**
 * Listens until `signal` aborts; goes on after the last event that was heard when the service comes back.
 * `tell(state)`: {listening: true, caughtUp} or {listening: false, again: seconds, problem}.
 */
export async function listen(path, each, tell, signal) {
  let last = null;
  for (let lost = 0; !signal.aborted;) {
    let problem = new Problem(SILENT);
    try {
      const more = { accept: "text/event-stream", ...(last === null ? {} : { "last-event-id": last }) };
      const response = await ask("GET", path, { signal, more });
      lost = 0;
      tell({ listening: true, caughtUp: last !== null });
      for await (const event of heard(response)) {
        last = event.id ?? last;
        each(event);
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem) problem = error;
    }
    const again = WAIT[Math.min(lost++, WAIT.length - 1)];
    tell({ listening: false, again, problem });
    await pause(again, signal);
  }
}
