// The interface, as the service describes itself; drawn here, since usual viewers load scripts from elsewhere.
import { html, useState } from "../vendor/htm-preact.js";
import { get } from "../api.js";
import { Empty, Loaded, Page, Search, Section, useLoad } from "../parts.js";

const METHODS = ["get", "post", "put", "delete"];

/** [{method, path, said, takes, query}] in the order of the description. */
function calls(spec) {
  const named = (schema) => schema?.$ref?.split("/").pop() ?? schema?.anyOf?.map(named).filter(Boolean).join(" or ") ?? "";
  return Object.entries(spec.paths).flatMap(([path, all]) => METHODS.filter((method) => all[method]).map((method) => {
    const { summary, description, parameters = [], requestBody } = all[method];
    const takes = named(requestBody?.content?.["application/json"]?.schema);
    return { method, path, said: description ?? summary, takes, query: parameters.filter((one) => one.in === "query") };
  }));
}

function kindOf(schema = {}) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(kindOf).filter((kind) => kind !== "null").join(" or ");
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.type === "array") return `list of ${kindOf(schema.items)}`;
  return schema.type ?? "anything";
}

function Body({ schema }) {
  const needed = schema?.required ?? [];
  return html`<ul class="fields-of">${Object.entries(schema?.properties ?? {}).map(([name, it]) => html`<li key=${name}><code>${name}</code>
    <span class="note"> ${kindOf(it)}${needed.includes(name) ? ", needed" : ""}${it.description ? `. ${it.description}` : ""}</span></li>`)}</ul>`;
}

function Call({ call, schemas }) {
  const bodies = call.takes ? call.takes.split(" or ").filter((name) => schemas[name]) : [];
  return html`<li class="call"><h3><code><b>${call.method.toUpperCase()}</b> ${call.path}</code></h3>
    <p>${call.said}</p>
    ${call.query.length > 0 && html`<p class="note">Query: ${call.query.map((one) => one.name).join(", ")}</p>`}
    ${bodies.map((name) => html`<details key=${name}><summary>Body: ${name}</summary><${Body} schema=${schemas[name]} /></details>`)}</li>`;
}

export function Docs() {
  const [q, search] = useState("");
  const spec = useLoad((signal) => get("/openapi.json", {}, signal), []);
  const fits = (call) => `${call.method} ${call.path} ${call.said}`.toLowerCase().includes(q.toLowerCase());
  return html`<${Page} title="Interface" lead=${html`Everything this page shows is asked over HTTP. Programs read the same in <a href="/openapi.json">openapi.json</a>.`}>
    <${Search} label="Find a call" hint="recommend, words, events …" value=${q} onSearch=${search} />
    <${Loaded} of=${spec} lines=${12}>${(found) => {
      const shown = calls(found).filter(fits);
      return shown.length ? html`<${Section} title="Calls"><ul class="calls">${shown.map((call) => html`<${Call} key=${call.method + call.path} call=${call} schemas=${found.components?.schemas ?? {}} />`)}</ul></${Section}>`
        : html`<${Empty} title="No call is named so">Search for a part of its path.</${Empty}>`;
    }}</${Loaded}>
  </${Page}>`;
}
