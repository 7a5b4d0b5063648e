// Renders /openapi.json: the routes by tag, their parameters, bodies and answers, and a form to try each.
"use strict";

const METHODS = ["get", "post", "put", "delete"];
/** The longest answer that is shown, characters. */
const SHOWN = 100000;
/** How deep an example goes. */
const DEPTH = 6;

/** An element with attributes and children. Text is always text, never markup. */
function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

/** Text with `code` marked as such. */
function prose(text) {
  return (text || "").split("`").map((part, index) => (index % 2 ? el("code", {}, part) : part));
}

const paragraphs = (text) => (text || "").split(/\n\n+/).filter(Boolean).map((part) => el("p", {}, ...prose(part)));

class Description {
  constructor(api) {
    this.api = api;
    this.base = (api.servers?.[0]?.url ?? "").replace(/\/$/, "");
    this.operations = [];
    for (const [path, item] of Object.entries(api.paths)) {
      for (const method of METHODS) {
        if (item[method]) this.operations.push({ path, method, ...item[method] });
      }
    }
  }

  /** What a reference stands for; anything else stands for itself. */
  resolve(value) {
    let seen = 0;
    while (value?.$ref && seen++ < 20) {
      value = value.$ref.slice(2).split("/").reduce((at, key) => at?.[key.replaceAll("~1", "/").replaceAll("~0", "~")], this.api);
    }
    return value ?? {};
  }

  /** The fields of an object, through references and compositions: [name, schema, required]. */
  fields(schema) {
    const whole = this.resolve(schema);
    const own = Object.entries(whole.properties ?? {}).map(([name, field]) => [name, field, (whole.required ?? []).includes(name)]);
    return [...(whole.allOf ?? []).flatMap((part) => this.fields(part)), ...own];
  }

  /** A type in a few words, naming schemas by links. */
  type(schema) {
    if (!schema || schema === true) return ["any"];
    if (schema.$ref) {
      const name = schema.$ref.split("/").pop();
      return [el("a", { href: `#schema-${name}` }, name)];
    }
    const choices = schema.oneOf ?? schema.anyOf;
    if (choices) return choices.flatMap((choice, index) => [index ? " | " : "", ...this.type(choice)]);
    if (schema.allOf) return schema.allOf.flatMap((part, index) => [index ? " & " : "", ...this.type(part)]);
    if (schema.enum) return [schema.enum.map((value) => JSON.stringify(value)).join(" | ")];
    const types = [schema.type ?? "any"].flat().filter((type) => type !== "null");
    if (types[0] === "array") return [...this.type(schema.items), "[]"];
    if (types[0] === "object" && schema.additionalProperties) return ["map of ", ...this.type(schema.additionalProperties)];
    return [types.join(" | ")];
  }

  /** What else holds for a value. */
  limits(schema) {
    const whole = this.resolve(schema);
    const said = [];
    for (const [key, word] of [["minimum", "≥"], ["maximum", "≤"], ["minLength", "length ≥"], ["maxLength", "length ≤"], ["pattern", "matches"], ["default", "default"]]) {
      if (whole[key] !== undefined) said.push(`${word} ${typeof whole[key] === "string" ? whole[key] : JSON.stringify(whole[key])}`);
    }
    return said.join(", ");
  }

  /** A value a schema allows, to begin with. */
  example(schema, depth = 0) {
    const whole = this.resolve(schema);
    if (whole.example !== undefined) return whole.example;
    if (whole.examples?.length) return whole.examples[0];
    if (whole.default !== undefined) return whole.default;
    if (whole.enum) return whole.enum[0];
    const choice = (whole.oneOf ?? whole.anyOf)?.find((one) => this.resolve(one).type !== "null");
    if (choice) return this.example(choice, depth);
    const type = [whole.type].flat().find((type) => type !== "null") ?? (whole.properties || whole.allOf ? "object" : "string");
    if (depth > DEPTH) return null;
    if (type === "object") return Object.fromEntries(this.fields(whole).map(([name, field]) => [name, this.example(field, depth + 1)]));
    if (type === "array") return [this.example(whole.items, depth + 1)];
    return { integer: whole.minimum ?? 0, number: whole.minimum ?? 0, boolean: false }[type] ?? "";
  }

  /** What a request body begins as: the example that is given, else the fields that are required. */
  requestExample(content) {
    const given = content.example ?? Object.values(content.examples ?? {})[0]?.value ?? this.resolve(content.schema).example;
    if (given !== undefined) return given;
    const required = this.fields(content.schema).filter(([, , required]) => required);
    return Object.fromEntries(required.map(([name, field]) => [name, this.example(field)]));
  }
}

function schemaTable(api, schema) {
  const rows = api.fields(schema).map(([name, field, required]) =>
    el("tr", {},
      el("td", {}, el("code", {}, name), required ? el("span", { class: "required" }, "required") : null),
      el("td", {}, el("span", { class: "type" }, ...api.type(field))),
      el("td", { class: "note" }, ...prose(field.description ?? api.resolve(field).description), " ", el("small", {}, api.limits(field)))));
  if (!rows.length) return el("p", {}, el("span", { class: "type" }, ...api.type(schema)), " ", el("small", { class: "note" }, api.limits(schema)));
  return el("table", {}, el("thead", {}, el("tr", {}, ...["field", "type", ""].map((text) => el("th", { scope: "col" }, text)))), el("tbody", {}, ...rows));
}

function parameterTable(api, parameters) {
  const rows = parameters.map((parameter) =>
    el("tr", {},
      el("td", {}, el("code", {}, parameter.name), parameter.required ? el("span", { class: "required" }, "required") : null),
      el("td", { class: "note" }, parameter.in),
      el("td", {}, el("span", { class: "type" }, ...api.type(parameter.schema))),
      el("td", { class: "note" }, ...prose(parameter.description), " ", el("small", {}, api.limits(parameter.schema)))));
  return el("table", {}, el("thead", {}, el("tr", {}, ...["parameter", "in", "type", ""].map((text) => el("th", { scope: "col" }, text)))), el("tbody", {}, ...rows));
}

function answerTable(api, responses) {
  const rows = Object.entries(responses).map(([status, reference]) => {
    const response = api.resolve(reference);
    const contents = Object.entries(response.content ?? {}).map(([type, content]) =>
      el("div", {}, el("span", { class: "type" }, ...api.type(content.schema ?? content.itemSchema)), type === "application/json" ? null : el("small", { class: "note" }, ` ${type}`)));
    return el("tr", {}, el("td", {}, el("code", {}, status)), el("td", {}, ...contents), el("td", { class: "note" }, ...prose(response.description)));
  });
  return el("table", {}, el("tbody", {}, ...rows));
}

/** The form that sends a request, and where its answer is shown. */
function tryForm(api, operation, parameters, body) {
  const inputs = parameters.filter((parameter) => parameter.in !== "header").map((parameter) => {
    const schema = api.resolve(parameter.schema);
    const shown = parameter.example ?? schema.default ?? "";
    const input = el("input", { name: parameter.name, value: shown, required: parameter.required, spellcheck: "false", placeholder: schema.examples?.[0] ?? "" });
    return { parameter, input };
  });
  const [type, content] = Object.entries(body?.content ?? {})[0] ?? [];
  const text = type
    ? el("textarea", { "aria-label": `Body, ${type}`, spellcheck: "false" },
      type.includes("json") ? JSON.stringify(api.requestExample(content), null, 2) : "")
    : null;
  const answer = el("div", { class: "answer", role: "status" });
  const button = el("button", { type: "submit" }, "Send");
  const curl = el("pre", { class: "curl", hidden: true });

  const send = async (event) => {
    event.preventDefault();
    const query = new URLSearchParams();
    let path = operation.path;
    for (const { parameter, input } of inputs) {
      if (parameter.in === "path") path = path.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
      else if (input.value !== "") query.set(parameter.name, input.value);
    }
    const url = `${api.base}${path}${query.size ? `?${query}` : ""}`;
    const headers = {};
    if (text) headers["Content-Type"] = type;
    const key = document.getElementById("key").value;
    const user = document.getElementById("user").value;
    if (key) headers["X-API-Key"] = key;
    if (user) headers["X-User-ID"] = user;
    curl.textContent = asCurl(operation.method, url, headers, text?.value);
    curl.hidden = false;
    button.disabled = true;
    answer.replaceChildren("…");
    try {
      const started = performance.now();
      const response = await fetch(url, { method: operation.method.toUpperCase(), headers, body: text ? text.value : undefined });
      await show(answer, response, started);
    } catch (error) {
      answer.replaceChildren(el("span", { class: "status bad" }, `no answer: ${error.message}`));
    } finally {
      button.disabled = false;
    }
  };
  return el("form", { class: "try", onsubmit: send },
    el("h3", {}, "Try it"),
    el("div", { class: "fields" }, ...inputs.map(({ parameter, input }) => el("label", {}, parameter.name, input))),
    text, el("div", { class: "send" }, button), curl, answer);
}

/** Shows an answer as it comes: streams line by line, JSON indented at the end. */
async function show(answer, response, started) {
  const status = el("span", { class: `status ${response.ok ? "good" : "bad"}` }, `${response.status} ${response.statusText}`);
  const took = el("span", { class: "note" });
  const output = el("pre", {});
  answer.replaceChildren(status, " ", took, output);
  const decoder = new TextDecoder();
  let text = "";
  for (let reader = response.body?.getReader(); reader;) {
    const { done, value } = await reader.read();
    if (done) break;
    text += decoder.decode(value, { stream: true });
    output.textContent = text;
    if (text.length > SHOWN) {
      reader.cancel();
      text = `${text.slice(0, SHOWN)}…`;
      break;
    }
  }
  took.textContent = `${Math.round(performance.now() - started)} ms, ${response.headers.get("Content-Type") ?? "no body"}`;
  if ((response.headers.get("Content-Type") ?? "").startsWith("application/json")) {
    try { text = JSON.stringify(JSON.parse(text), null, 2); } catch { /* Shown as it came. */ }
  }
  output.textContent = text || "(empty)";
}

/** The request as a shell line; the key is left for its user to fill in. */
function asCurl(method, url, headers, body) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const parts = [`curl -sS -X ${method.toUpperCase()} ${quoted(location.origin + url)}`];
  for (const [name, value] of Object.entries(headers)) {
    parts.push(name === "X-API-Key" ? '-H "X-API-Key: $WISP_API_KEY"' : `-H ${quoted(`${name}: ${value}`)}`);
  }
  if (body) parts.push(`-d ${quoted(body)}`);
  return parts.join(" \\\n  ");
}

function operationPanel(api, operation) {
  const parameters = (operation.parameters ?? []).map((parameter) => api.resolve(parameter));
  const body = operation.requestBody ? api.resolve(operation.requestBody) : null;
  const scope = Object.values(operation.security?.[0] ?? {})[0]?.[0];
  const panel = el("details", { class: "operation", id: operation.operationId },
    el("summary", {},
      el("span", { class: `method ${operation.method}` }, operation.method.toUpperCase()),
      el("span", { class: "path" }, operation.path),
      el("span", { class: "says" }, ...prose((operation.summary ?? "").replace(/\.$/, "")))));
  // Filled when it is first opened: most are never looked at.
  panel.addEventListener("toggle", () => {
    if (panel.dataset.filled) return;
    panel.dataset.filled = "yes";
    const inside = el("div", { class: "inside" }, ...paragraphs(operation.description),
      el("span", { class: "chip" }, scope ? `needs a key with the scope ${scope}, when the server has keys` : "needs no key"));
    if (parameters.length) inside.append(el("h3", {}, "Parameters"), parameterTable(api, parameters));
    for (const [type, content] of Object.entries(body?.content ?? {})) {
      inside.append(el("h3", {}, `Body, ${type}`), ...paragraphs(body.description), schemaTable(api, content.schema));
    }
    inside.append(el("h3", {}, "Answers"), answerTable(api, operation.responses), tryForm(api, operation, parameters, body));
    panel.append(inside);
  });
  return panel;
}

function schemaPanel(api, name, schema) {
  const panel = el("details", { class: "schema", id: `schema-${name}` },
    el("summary", {}, el("code", {}, name), el("span", { class: "note" }, ...prose((schema.description ?? "").split("\n")[0]))),
    el("div", { class: "inside" }, schemaTable(api, schema)));
  return panel;
}

/** Opens what the address names. */
function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target?.tagName === "DETAILS") {
    target.open = true;
    target.scrollIntoView();
  }
}

function render(api) {
  document.getElementById("version").textContent = api.api.info.version;
  document.getElementById("about").replaceChildren(el("div", { class: "about" }, ...paragraphs(api.api.info.description),
    el("p", {}, "The description itself: ", el("a", { href: "/openapi.json" }, "openapi.json"), ` · base URL ${location.origin}${api.base}`)));
  const index = [];
  const groups = (api.api.tags ?? []).map((tag) => {
    const operations = api.operations.filter((operation) => operation.tags?.[0] === tag.name);
    index.push(el("h2", {}, tag.name), el("ul", {}, ...operations.map((operation) =>
      el("li", {}, el("a", { href: `#${operation.operationId}`, title: operation.summary },
        el("span", { class: `method ${operation.method}` }, operation.method.toUpperCase()),
        el("span", { class: "path" }, el("bdi", {}, operation.path)))))));
    return el("section", { class: "tag" }, el("h2", {}, tag.name), ...paragraphs(tag.description), ...operations.map((operation) => operationPanel(api, operation)));
  });
  document.getElementById("index").replaceChildren(...index);
  document.getElementById("operations").replaceChildren(...groups);
  const schemas = Object.entries(api.api.components?.schemas ?? {});
  document.getElementById("schemas").replaceChildren(el("div", { class: "tag" }, el("h2", {}, "Schemas"), ...schemas.map(([name, schema]) => schemaPanel(api, name, schema))));
  document.body.dataset.rendered = String(api.operations.length);
}

function filter() {
  const wanted = document.getElementById("filter").value.trim().toLowerCase();
  for (const item of document.querySelectorAll("nav li")) {
    item.hidden = !`${item.textContent} ${item.firstChild.title}`.toLowerCase().includes(wanted);
  }
  for (const heading of document.querySelectorAll("nav h2")) {
    heading.hidden = ![...heading.nextElementSibling.children].some((item) => !item.hidden);
  }
}

async function start() {
  document.getElementById("session").addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("filter").addEventListener("input", filter);
  addEventListener("hashchange", openTarget);
  const response = await fetch("/openapi.json");
  if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
  render(new Description(await response.json()));
  openTarget();
}

start().catch((error) => {
  document.getElementById("operations").replaceChildren(el("p", {}, `The description cannot be loaded: ${error.message}`));
});
