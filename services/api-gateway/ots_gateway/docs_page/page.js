// Shows /api/v1/openapi.json and sends requests to this server. Every text goes in as text, never as HTML.
"use strict";

function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
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
  const type = [].concat(found.type || "any").join(" or ");
  const bounds = ["format", "minimum", "maximum", "minLength", "maxLength", "pattern", "default"]
    .filter((key) => found[key] !== undefined).map((key) => `${key} ${found[key]}`);
  return [type, ...bounds].join(", ");
}

function parameters(api, operation) {
  const rows = (operation.parameters || []).map((parameter) => {
    const input = make("input", { "data-in": parameter.in, "data-name": parameter.name });
    const example = parameter.example ?? (resolve(api, parameter.schema) || {}).example;
    if (example !== undefined) input[parameter.required ? "value" : "placeholder"] = example;
    return make("tr", {}, make("td", {}, make("code", {}, parameter.name), parameter.required ? " *" : ""),
      make("td", {}, parameter.in), make("td", {}, parameter.description || "", make("br"), kind(api, parameter.schema)),
      make("td", {}, input));
  });
  if (!rows.length) return null;
  const head = make("tr", {}, ...["name", "in", "what", "value"].map((text) => make("th", {}, text)));
  return make("table", {}, head, ...rows);
}

function answers(api, operation) {
  return Object.entries(operation.responses || {}).map(([status, answer]) => {
    const content = Object.entries(answer.content || {});
    const shown = content.filter(([type]) => type !== "application/problem+json").map(([type, media]) =>
      make("pre", {}, `${type}\n${JSON.stringify(resolve(api, media.schema), null, 1)}`));
    return make("div", {}, make("strong", {}, status), ` ${answer.description || ""}`, ...shown);
  });
}

function exampleOf(api, media) {
  const example = media && (media.example ?? (resolve(api, media.schema) || {}).example);
  return example === undefined ? "" : JSON.stringify(example, null, 1);
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
  const inside = make("div", { class: "inside" }, make("p", {}, operation.description || ""),
    operation["x-not-described"] ? make("p", {}, `(${operation["x-not-described"]})`) : null,
    parameters(api, operation),
    takesBody ? make("textarea", { placeholder: "body (JSON)" }, exampleOf(api, schema)) : null,
    schema ? make("pre", {}, JSON.stringify(resolve(api, schema.schema), null, 1)) : null,
    make("p", {}, button), output, ...answers(api, operation));
  button.addEventListener("click", () => send(method.toUpperCase(), path, inside, output));
  const who = operation["x-role"] ? `${operation["x-role"]} · ${operation["x-scope"]}` : "anybody";
  const summary = make("summary", {}, make("span", { class: `method ${method}` }, method.toUpperCase()), " ",
    make("code", {}, path), ` ${operation.summary || ""} `, make("span", { class: "who" }, who));
  const details = make("details", {}, summary, inside);
  details.dataset.words = `${method} ${path} ${operation.summary || ""} ${who}`.toLowerCase();
  return details;
}

function show(api) {
  document.getElementById("title").textContent = `${api.info.title} ${api.info.version}`;
  document.getElementById("description").textContent = api.info.description || "";
  const groups = new Map();
  for (const [path, methods] of Object.entries(api.paths))
    for (const [method, operation] of Object.entries(methods)) {
      const group = (operation.tags || ["other"])[0];
      if (!groups.has(group)) groups.set(group, []);
      groups.get(group).push(shown(api, method, path, operation));
    }
  document.getElementById("operations").replaceChildren(
    ...[...groups].map(([name, items]) => make("section", {}, make("h2", {}, name), ...items)));
}

document.getElementById("find").addEventListener("input", (event) => {
  const word = event.target.value.toLowerCase();
  for (const item of document.querySelectorAll("details")) item.hidden = !item.dataset.words.includes(word);
});

fetch("/api/v1/openapi.json").then((answer) => answer.json()).then(show).catch((error) => {
  document.getElementById("operations").textContent = `The document cannot be read: ${error}`;
});
