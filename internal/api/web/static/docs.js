// The description of the API for people: made of /openapi.json, with nothing from anywhere else.
"use strict";

// el makes an element. Children are elements or texts; a text is never taken for markup.
function el(tag, attributes, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) if (value != null && value !== false) e.setAttribute(name, value === true ? "" : value);
  e.append(...children.flat(9).filter((c) => c != null && c !== false));
  return e;
}

const groups = [
  ["Uploads", /^\/v1\/uploads/], ["Batches", /^\/v1\/batches/], ["Staging", /^\/v1\/staging/], ["Events and webhooks", /^\/v1\/(events|webhooks)/],
  ["Accounts, tenants and workers", /^\/v1\/(accounts|tenants|workers)/], ["Overview and reports", /^\/v1\/(overview|failures|reports)/],
  ["Operation", /^\/v1\/(setaside|reconcile)/], ["Tokens", /^\/v1\/(tokens|access)/], ["Other", /./],
];
const deepest = 5; // how far down fields of fields are shown

let description;

function resolve(schema) {
  while (schema && schema.$ref) schema = schema.$ref.slice(2).split("/").reduce((at, name) => at[name], description);
  return schema || {};
}

function typeOf(schema) {
  const s = resolve(schema), kinds = [s.type].flat().filter((k) => k && k !== "null");
  if (kinds[0] === "array") return "list of " + typeOf(s.items);
  if (kinds[0] === "object" && s.additionalProperties && s.additionalProperties !== true) return "map of " + typeOf(s.additionalProperties);
  return (s.format === "date-time" ? "time" : s.format === "uuid" ? "id" : kinds.join(" or ")) || "anything";
}

function boundsOf(schema) {
  const s = resolve(schema), inner = resolve(s.items), said = [];
  const values = s.enum || inner.enum;
  if (values) said.push("one of " + values.join(", "));
  if (s.minimum != null || s.maximum != null) said.push(`${s.minimum ?? "…"} to ${s.maximum ?? "…"}`);
  if (s.maxLength != null) said.push(`at most ${s.maxLength} characters`);
  if (s.default != null && s.default !== "") said.push("default " + s.default);
  return said.join("; ");
}

// fieldsOf lists the fields of a schema, those of its parts with their path.
function fieldsOf(schema, path = "", depth = 0, above = []) {
  const s = resolve(schema), rows = [];
  if (depth > deepest || above.includes(s)) return rows;
  if (s.items) return fieldsOf(s.items, path + "[]", depth, above);
  for (const [name, field] of Object.entries(s.properties || {})) {
    const at = path ? path + "." + name : name, full = resolve(field);
    rows.push({ at, type: typeOf(field), must: (s.required || []).includes(name), text: field.description || full.description, bounds: boundsOf(field) });
    rows.push(...fieldsOf(field, at, depth + 1, [...above, s]));
  }
  if (!s.properties && s.additionalProperties && resolve(s.additionalProperties).properties) rows.push(...fieldsOf(s.additionalProperties, (path ? path + "." : "") + "NAME", depth + 1, [...above, s]));
  return rows;
}

function table(rows, required) {
  return el("table", { class: "fields" },
    el("thead", {}, el("tr", {}, ["name", "type", ""].map((h) => el("th", { scope: "col" }, h)))),
    el("tbody", {}, rows.map((r) => el("tr", {},
      el("td", {}, el("code", {}, r.at), required && r.must && " ", required && r.must && el("span", { class: "badge warn", title: "must be given" }, "required")),
      el("td", { class: "quiet" }, r.type),
      el("td", {}, r.text, r.bounds && el("span", { class: "quiet" }, (r.text ? " · " : "") + r.bounds))))));
}

// example is a value that the schema takes, with the fields that must be there.
function example(schema, name = "", depth = 0) {
  const s = resolve(schema), kind = [s.type].flat().find((k) => k !== "null");
  if (s.enum) return s.enum[0];
  if (kind === "array") return [example(s.items, name, depth + 1)];
  if (kind === "object") {
    const out = {};
    if (depth < deepest) for (const key of s.required || []) out[key] = example(s.properties[key], key, depth + 1);
    return out;
  }
  if (kind === "integer" || kind === "number") return s.minimum || 1;
  if (kind === "boolean") return true;
  return { account: "vod", accounts: "vod", bucket: "staging", key: "film.mp4", name: "film.mp4" }[name] || "…";
}

function curl(method, path, call) {
  const body = call.requestBody && Object.entries(call.requestBody.content)[0];
  const lines = [`curl${body && body[0] === "application/json" || !body ? "" : " --data-binary @lines"}${call.responses["200"]?.content?.["text/event-stream"] ? " -N" : ""} -X ${method} ${location.origin}${path}`, '-H "Authorization: Bearer $TOKEN"'];
  if (body) lines.push(`-H 'Content-Type: ${body[0]}'`);
  if (body && body[0] === "application/json" && call.requestBody.required) lines.push(`-d '${JSON.stringify(example(body[1].schema))}'`);
  return lines.join(" \\\n  ");
}

function details(method, path, call) {
  const parameters = (call.parameters || []).map((p) => ({ at: p.name, type: `${typeOf(p.schema)}, ${p.in}`, must: p.required, text: p.description, bounds: boundsOf(p.schema) }));
  const scope = Object.values((call.security || [])[0] || {}).flat()[0];
  const parts = [el("p", {}, call.description || call.summary + ".", scope && [" It takes a token with the scope ", el("code", {}, scope), "."])];
  if (parameters.length) parts.push(el("h3", {}, "Parameters"), table(parameters, true));
  for (const [type, content] of Object.entries(call.requestBody?.content || {})) {
    const rows = fieldsOf(content.schema);
    parts.push(el("h3", {}, "Body, ", el("code", {}, type)), rows.length ? table(rows, true) : el("p", { class: "quiet" }, resolve(content.schema).description || typeOf(content.schema)));
  }
  parts.push(el("h3", {}, "Example"), el("pre", { tabindex: "0" }, curl(method, path, call)));
  for (const [code, answer] of Object.entries(call.responses).sort()) {
    const content = Object.entries(answer.content || {});
    const rows = code < "300" ? content.flatMap(([, c]) => fieldsOf(c.schema)) : [];
    if (rows.length) parts.push(el("h3", {}, `Answer ${code}, `, el("code", {}, content[0][0])), table(rows, false));
  }
  const problems = Object.entries(call.responses).filter(([code]) => code >= "400").map(([code, a]) => `${code} ${a.description || ""}`.trim());
  if (problems.length) parts.push(el("h3", {}, "Problems"), el("p", { class: "quiet" }, problems.join(" · ")));
  return el("div", {}, parts);
}

function render() {
  const calls = [];
  for (const [path, item] of Object.entries(description.paths)) {
    for (const [method, call] of Object.entries(item)) {
      const name = method.toUpperCase();
      const box = el("details", { class: "card call", id: call.operationId },
        el("summary", {}, el("span", { class: "method" }, name), el("code", {}, path), el("span", { class: "quiet" }, call.summary)));
      // Filled when it is opened first: most are not.
      box.addEventListener("toggle", () => { if (box.open && box.childElementCount === 1) box.append(details(name, path, call)); });
      const words = [name, path, call.operationId, call.summary, call.description, ...(call.parameters || []).map((p) => p.name),
        ...Object.values(call.requestBody?.content || {}).flatMap((c) => fieldsOf(c.schema).map((f) => f.at))].join(" ").toLowerCase();
      calls.push({ path, box, words, group: groups.find(([, of]) => of.test(path))[0] });
    }
  }
  const search = el("input", { type: "search", placeholder: "Find a call, a parameter or a field", "aria-label": "Find a call, a parameter or a field", autocomplete: "off", spellcheck: "false" });
  const count = el("p", { class: "quiet small", role: "status" });
  const sections = groups.map(([name]) => {
    const own = calls.filter((c) => c.group === name);
    return own.length && { own, box: el("section", {}, el("h2", {}, name), own.map((c) => c.box)) };
  }).filter(Boolean);
  const filter = () => {
    const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const c of calls) c.box.hidden = !wanted.every((w) => c.words.includes(w));
    for (const s of sections) s.box.hidden = s.own.every((c) => c.box.hidden);
    const n = calls.filter((c) => !c.box.hidden).length;
    count.replaceChildren(n === calls.length ? `${n} calls. ` : `${n} of ${calls.length} calls. `, el("kbd", {}, "/"), " finds, ", el("kbd", {}, "↑"), " ", el("kbd", {}, "↓"), " go through them, ", el("kbd", {}, "Enter"), " opens.");
  };
  search.addEventListener("input", filter);
  const find = el("form", { class: "find", role: "search" }, search, count);
  find.addEventListener("submit", (e) => { // Enter
    e.preventDefault();
    const first = shown()[0];
    if (first) { first.parentElement.open = true; first.focus(); }
  });
  const shown = () => calls.filter((c) => !c.box.hidden).sort((a, b) => a.box.compareDocumentPosition(b.box) & 4 ? -1 : 1).map((c) => c.box.firstElementChild);
  document.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const all = shown(), at = all.indexOf(document.activeElement);
    if (e.key === "/" && document.activeElement !== search) search.focus();
    else if (e.key === "Escape" && document.activeElement === search) { search.value = ""; filter(); }
    else if (e.key === "ArrowDown" && (at >= 0 || document.activeElement === search)) (all[at + 1] || all[at])?.focus();
    else if (e.key === "ArrowUp" && at >= 0) (all[at - 1] || search).focus();
    else return;
    e.preventDefault();
  });
  const go = () => {
    const box = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (box instanceof HTMLDetailsElement) { box.open = true; box.scrollIntoView(); }
  };
  addEventListener("hashchange", go);
  const body = document.getElementById("body");
  body.replaceChildren(
    el("p", {}, "JSON over HTTP. A token goes along as ", el("code", {}, "Authorization: Bearer TOKEN"), "; what is wrong with a request is told as ",
      el("code", {}, "application/problem+json"), " (RFC 9457), with each field's place in ", el("code", {}, "errors"), "."),
    find, el("div", { class: "api" }, sections.map((s) => s.box)));
  body.setAttribute("aria-busy", "false");
  filter();
  go();
}

fetch("/openapi.json").then((answer) => {
  if (!answer.ok) throw new Error(`the dispatcher answered ${answer.status}`);
  return answer.json();
}).then((found) => { description = found; render(); }).catch((problem) => {
  document.getElementById("body").replaceChildren(el("p", { class: "problem" }, `The description cannot be shown: ${problem.message}. Load the page again.`));
});
