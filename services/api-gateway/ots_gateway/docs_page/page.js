// Shows /api/v1/openapi.json and sends requests to this server. Every text goes in as text, never as HTML.
"use strict";

function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// Descriptions are written for readers of the source: `names` are code, an empty line begins a paragraph.
function prose(text) {
  return text.split(/\n\s*\n/).map((paragraph) => make("p", {}, ...phrases(paragraph)));
}

function phrases(text) {
  return text.split(/`+([^`]+)`+/).map((piece, place) => (place % 2 ? make("code", {}, piece) : piece));
}

function resolve(api, schema, depth = 0) {
  if (!schema || typeof schema !== "object" || depth > 6) return schema;
  if (schema.$ref) return resolve(api, api.components.schemas[schema.$ref.split("/").pop()], depth + 1);
  if (Array.isArray(schema)) return schema.map((item) => resolve(api, item, depth + 1));
  return Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, resolve(api, value, depth + 1)]));
}

function kind(api, schema) {
  const found = resolve(api, schema) || {};
  const choices = found.anyOf || found.oneOf;
  if (choices) return choices.map((choice) => kind(api, choice)).join(" or ");
  if (found.enum) return found.enum.join(" | ");
  const of = found.type === "array" && found.items ? ` of ${kind(api, found.items)}` : "";
  const type = [].concat(found.type || "any").join(" or ") + of;
  const bounds = ["format", "minimum", "maximum", "minLength", "maxLength", "pattern", "default"]
    .filter((key) => found[key] !== undefined)
    // a time's bound, which the server keeps as a number, is none that a reader could send
    .filter((key) => key !== "default" || found.type !== "string" || typeof found.default === "string").map((key) => `${key} ${found[key]}`);
  return [type, ...bounds].join(", ");
}

function parameters(api, operation) {
  const rows = (operation.parameters || []).map((parameter) => {
    const input = make("input", { "data-in": parameter.in, "data-name": parameter.name });
    const example = exampleOf(api, parameter);
    if (example !== undefined) input[parameter.required ? "value" : "placeholder"] = example;
    return make("tr", {}, make("td", {}, make("code", {}, parameter.name), parameter.required ? " *" : ""),
      make("td", {}, parameter.in), make("td", {}, ...phrases(parameter.description || ""), make("br"), kind(api, parameter.schema)),
      make("td", {}, input));
  });
  if (!rows.length) return null;
  const head = make("tr", {}, ...["name", "in", "what", "value"].map((text) => make("th", {}, text)));
  return make("table", {}, head, ...rows);
}

function answers(api, operation) {
  const all = Object.entries(operation.responses || {}).map(([status, answer]) => ({ status, answer,
    media: Object.entries(answer.content || {}).filter(([type]) => type !== "application/problem+json") }));
  const said = ({ status, answer }) => [make("strong", {}, status), " ", ...phrases(answer.description || "")];
  const full = all.filter(({ media }) => media.length).map((one) => make("div", {}, ...said(one),
    ...one.media.flatMap(([type, media]) => [
      make("div", {}, make("code", {}, type)), example(api, media), described(api, media.schema)])));
  // refusals look alike: one line for all
  const plain = all.filter(({ media }) => !media.length).flatMap((one) => [...said(one), " · "]).slice(0, -1);
  return plain.length ? [...full, make("div", {}, ...plain)] : full;
}

function example(api, media) {
  const found = exampleOf(api, media);
  if (found === undefined) return null;
  return make("pre", {}, typeof found === "string" ? found : JSON.stringify(found, null, 1));
}

// what most readers need is the example; the schema is there for whoever wants every field
function described(api, schema) {
  if (!schema) return null;
  return make("details", { class: "schema" }, make("summary", {}, "schema"),
    make("pre", {}, JSON.stringify(resolve(api, schema), null, 1)));
}

// OpenAPI has an example in four places, of which the nearer one counts
function exampleOf(api, holder) {
  if (!holder) return undefined;
  const schema = resolve(api, holder.schema) || {};
  const named = Object.values(holder.examples || {})[0];
  return holder.example ?? (named && named.value) ?? schema.example ?? (schema.examples || [])[0];
}

async function send(method, path, inside, output) {
  const headers = {}, query = new URLSearchParams();
  let target = path;
  for (const input of inside.querySelectorAll("input[data-in]")) {
    const { in: place, name } = input.dataset;
    if (place === "path") target = target.replace(`{${name}}`, encodeURIComponent(input.value));
    else if (input.value && place === "query") query.append(name, input.value);
    else if (input.value && place === "header") headers[name] = input.value;
  }
  const token = document.getElementById("token").value.trim();
  if (token) headers.Authorization = `Bearer ${token}`;
  const body = inside.querySelector("textarea");
  const options = { method, headers, credentials: "omit" };
  if (body && body.value) { options.body = body.value; headers["Content-Type"] = "application/json"; }
  const asked = query.size ? `${target}?${query}` : target;
  output.textContent = `${method} ${asked} …`;
  try {
    const answer = await fetch(asked, options);
    let text = await answer.text();
    try { text = JSON.stringify(JSON.parse(text), null, 1); } catch { /* shown as it came */ }
    const fields = [...answer.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
    output.textContent = `${method} ${asked}\n\n${answer.status}\n${fields}\n\n${text.slice(0, 200000)}`;
  } catch (error) { output.textContent = String(error); }
}

function shown(api, method, path, operation) {
  const output = make("pre", {}, "");
  const button = make("button", { type: "button" }, "Send");
  const takesBody = operation.requestBody || ["post", "put", "patch"].includes(method);
  const schema = Object.values((operation.requestBody || {}).content || {})[0];
  const body = exampleOf(api, schema);
  const inside = make("div", { class: "inside" }, ...prose(operation.description || ""),
    operation["x-not-described"] ? make("p", {}, `(${operation["x-not-described"]})`) : null,
    parameters(api, operation),
    takesBody ? make("textarea", { placeholder: "body (JSON)" }, body === undefined ? "" : JSON.stringify(body, null, 1)) : null,
    schema ? described(api, schema.schema) : null,
    make("p", {}, button), output, ...answers(api, operation));
  button.addEventListener("click", () => send(method.toUpperCase(), path, inside, output));
  const who = operation["x-role"] ? `${operation["x-role"]} · ${operation["x-scope"]}` : "anybody";
  const summary = make("summary", {}, make("span", { class: `method ${method}` }, method.toUpperCase()), " ",
    make("code", {}, path), ` ${operation.summary || ""} `, make("span", { class: "who" }, who));
  const details = make("details", { id: `${method}${path}`, class: "operation" }, summary, inside);
  details.dataset.words = `${method} ${path} ${operation.summary || ""} ${who}`.toLowerCase();
  return details;
}

function show(api) {
  document.getElementById("title").textContent = `${api.info.title} ${api.info.version}`;
  document.getElementById("description").replaceChildren(...phrases(api.info.description || ""));
  const groups = new Map();
  for (const [path, methods] of Object.entries(api.paths))
    for (const [method, operation] of Object.entries(methods)) {
      const group = (operation.tags || ["other"])[0];
      if (!groups.has(group)) groups.set(group, []);
      groups.get(group).push(shown(api, method, path, operation));
    }
  // what the platform says of itself comes after what people come for
  const last = ["gateway", "default", "other"];
  const inOrder = [...groups].sort(([one], [two]) => last.indexOf(one) - last.indexOf(two));
  document.getElementById("operations").replaceChildren(
    ...inOrder.map(([name, items]) => make("section", {}, make("h2", {}, name === "default" ? "health" : name), ...items)));
  openNamed();
}

// /docs#get/api/v1/data/bars/{symbol} opens that operation
function openNamed() {
  const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!named) return;
  named.open = true;
  named.scrollIntoView();
}

window.addEventListener("hashchange", openNamed);

document.getElementById("find").addEventListener("input", (event) => {
  const word = event.target.value.toLowerCase();
  for (const section of document.querySelectorAll("section")) {
    const items = [...section.querySelectorAll("details.operation")];
    for (const item of items) item.hidden = !item.dataset.words.includes(word);
    section.hidden = items.every((item) => item.hidden);
  }
});

fetch("/api/v1/openapi.json").then((answer) => answer.json()).then(show).catch((error) => {
  document.getElementById("operations").textContent = `The document cannot be read: ${error}`;
});
