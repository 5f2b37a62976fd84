// What the pages do: ask the API every few seconds while somebody looks, write
// what it says as text, and offer what the signed-in token allows.
"use strict";
(() => {
const page = document.body.dataset.page;
const main = document.getElementById("main");
const body = document.getElementById("body");
const query = new URLSearchParams(location.search);

// ---- Making and renewing elements. Text never becomes markup.

const SVG = "http://www.w3.org/2000/svg";
function make(node, attrs, kids) {
  for (const [name, value] of Object.entries(attrs || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node[name] = value;
    else if (name === "style") Object.assign(node.style, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  for (const kid of kids.flat(9)) if (kid !== undefined && kid !== null && kid !== false) node.append(kid);
  return node;
}
const h = (tag, attrs, ...kids) => make(document.createElement(tag), attrs, kids);
const s = (tag, attrs, ...kids) => make(document.createElementNS(SVG, tag), attrs, kids);

// Handlers go along when an element is renewed. What has data-own keeps itself.
const HANDLERS = ["onclick", "onchange", "oninput", "onsubmit", "ontoggle"];
function renew(old, now) {
  if (old.nodeType !== now.nodeType || old.nodeName !== now.nodeName || (old.dataset && old.dataset.key !== now.dataset.key)) { old.replaceWith(now); return; }
  if (old.nodeType === Node.TEXT_NODE) { if (old.data !== now.data) old.data = now.data; return; }
  if (old.dataset && old.dataset.own) return;
  for (const { name } of [...old.attributes]) if (!now.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  for (const { name, value } of now.attributes) {
    if (old.getAttribute(name) === value) continue;
    if (name === "style") old.style.cssText = now.style.cssText; // the policy forbids the attribute, not this
    else old.setAttribute(name, value);
  }
  for (const handler of HANDLERS) old[handler] = now[handler];
  renewAll(old, [...now.childNodes]);
}
// What has a key is found again wherever it stood, so that a row keeps the focus
// when others come before it.
const keyOf = (node) => node.dataset && node.dataset.key;
function renewAll(parent, nodes) {
  const wanted = new Set(nodes.map(keyOf).filter(Boolean));
  for (const old of [...parent.childNodes]) if (keyOf(old) && !wanted.has(keyOf(old))) old.remove();
  const kept = new Map([...parent.childNodes].filter(keyOf).map((old) => [keyOf(old), old]));
  nodes.forEach((node, i) => {
    const old = parent.childNodes[i], same = kept.get(keyOf(node));
    if (same) { if (same !== old) parent.insertBefore(same, old); renew(same, node); }
    else if (!old || keyOf(old)) parent.insertBefore(node, old || null);
    else renew(old, node);
  });
  while (parent.childNodes.length > nodes.length) parent.lastChild.remove();
}
function draw(...nodes) {
  renewAll(body, nodes.flat(9).filter(Boolean));
  body.setAttribute("aria-busy", "false");
}

// ---- Words and numbers.

const number = new Intl.NumberFormat("en-GB");
const count = (n) => number.format(n || 0);
function plural(n, one, many) { return `${count(n)} ${n === 1 ? one : many || one + "s"}`; }
// A number keeps its unit: a line does not end between them.
function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let i = 0;
  for (n = Number(n) || 0; n >= 1024 && i < units.length - 1; i++) n /= 1024;
  return `${i === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)}\u00a0${units[i]}`;
}
const rate = (n) => bytes(n) + "/s";
function span(ms) {
  const sec = Math.max(0, ms) / 1000;
  if (sec < 1) return `${Math.round(ms)}\u00a0ms`;
  if (sec < 10) return `${sec.toFixed(1)}\u00a0s`;
  if (sec < 90) return `${Math.round(sec)}\u00a0s`;
  if (sec < 5400) return `${Math.round(sec / 60)}\u00a0min`;
  if (sec < 172800) return `${Math.round(sec / 3600)}\u00a0h`;
  return `${Math.round(sec / 86400)}\u00a0days`;
}
const clock = (at) => new Date(at).toLocaleTimeString("en-GB");
const full = (at) => new Date(at).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" });
// The time of today, or of another day with its date.
function moment(at) {
  const date = new Date(at);
  return date.toDateString() === new Date().toDateString() ? clock(at) : date.toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" });
}
function when(at) {
  if (!at) return "";
  const ms = Date.now() - new Date(at);
  const text = Math.abs(ms) < 1500 ? "now" : ms > 0 ? `${span(ms)} ago` : `in ${span(-ms)}`;
  return h("time", { datetime: at, title: full(at) }, text);
}
const words = (name) => String(name || "").replaceAll("_", " ");
const LOOKS = { completed: "good", failed: "bad", cancelled: "dull", queued: "dull", uploading: "", finishing: "", beginning: "", digesting: "" };
function badge(u) {
  return [h("span", { class: `badge ${LOOKS[u.state] || ""}` }, u.cancelling ? "cancelling" : u.state),
    u.paused && ACTIVE.includes(u.state) ? [" ", h("span", { class: "badge warn" }, "paused")] : null];
}
// Names are written in any direction, whatever stands around them.
const named = (text) => h("bdi", {}, text);
const ACTIVE = ["queued", "digesting", "beginning", "uploading", "finishing"];
function bar(part, whole, look, label, mark) {
  const pct = whole > 0 ? Math.min(100, 100 * part / whole) : 0;
  return h("div", { class: "bar", role: "img", "aria-label": label || `${Math.floor(pct)} %`, title: label },
    h("i", { class: look || "", style: { width: pct + "%" } }), mark > 0 && mark < whole ? h("u", { style: { left: 100 * mark / whole + "%" } }) : null);
}
function table(heads, rows, look) {
  return h("table", { class: look || "stack" },
    h("thead", {}, h("tr", {}, heads.map((t) => h("th", { scope: "col", class: t.look }, t.title)))),
    h("tbody", {}, rows.map((cells) => h("tr", { "data-key": cells.key },
      cells.map((c, i) => h("td", { class: heads[i].look, "data-label": heads[i].title }, h("div", {}, c)))))));
}
const empty = (title, text) => h("div", { class: "empty" }, h("b", {}, title), text);
const uploadLink = (id, text) => h("a", { href: "/ui/uploads/" + encodeURIComponent(id) }, text);
function uploadsPage(filter) { return "/ui/uploads?" + new URLSearchParams(filter); }

// ---- Asking the API.

let me = { name: "", scopes: [], tenants: [] };
const may = (scope) => me.scopes.includes(scope);
function stored(key) { try { return localStorage.getItem(key) || ""; } catch { return ""; } }
function store(key, value) { try { localStorage.setItem(key, value); } catch { /* storage is off: forgotten with the page */ } }
let tenant = query.get("tenant") || stored("mediaferry-tenant");

async function api(path, options = {}) {
  const headers = { Accept: "application/json" };
  if (tenant && path !== "/access") headers["X-Mediaferry-Tenant"] = tenant;
  if (options.body) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch("/v1" + path, { method: options.method || "GET", headers, body: options.body && JSON.stringify(options.body), signal: AbortSignal.timeout(options.patience || 15000) });
  } catch { throw new Error("The dispatcher does not answer."); }
  if (answer.status === 401) {
    location.assign("/ui/sign-in?next=" + encodeURIComponent(location.pathname + location.search));
    return new Promise(() => {}); // the page is left
  }
  if (answer.status === 204) return null;
  const text = await answer.text();
  let value = null;
  try { value = JSON.parse(text); } catch { /* told below */ }
  if (!answer.ok) {
    const details = ((value && value.errors) || []).map((e) => [e.location, e.message].filter(Boolean).join(" ")).join("; ");
    const error = new Error([(value && value.detail) || `The dispatcher answers ${answer.status}.`, details].filter(Boolean).join(": "));
    error.status = answer.status;
    throw error;
  }
  if (value === null) throw new Error("The dispatcher's answer cannot be read.");
  return value;
}

// watch loads and shows again and again while the page is seen, less often
// while it does not work. It returns a function that does so at once.
function watch(load, show, every) {
  let timer = 0, turn = 0, failures = 0;
  async function once() {
    clearTimeout(timer);
    const mine = ++turn;
    try {
      const data = await load();
      if (mine !== turn) return;
      failures = 0;
      show(data);
      state(true);
    } catch (error) {
      if (mine !== turn) return;
      failures++;
      state(false, error);
    }
    if (!document.hidden) timer = setTimeout(once, failures ? Math.min(30000, 2000 * 2 ** Math.min(failures - 1, 4)) : typeof every === "function" ? every() : every);
  }
  document.addEventListener("visibilitychange", () => { if (document.hidden) clearTimeout(timer); else once(); });
  once();
  return once;
}
let shown = 0;
function state(good, error) {
  const live = document.getElementById("live"), banner = document.getElementById("banner");
  if (good) shown = Date.now();
  live.className = "live " + (good ? "on" : "off");
  live.textContent = good ? "live " + clock(shown) : shown ? "as of " + clock(shown) : "no data";
  const missing = !good && error.status === 404 && !shown;
  banner.hidden = good || missing;
  if (good) return;
  const text = error.message + (error.status && error.status < 500 ? "" : shown ? ` Shown is what was there at ${clock(shown)}; trying again.` : " Trying again.");
  // Said once, not at every try.
  if (banner.dataset.text !== text || banner.hidden) banner.replaceChildren(text + " ", refresh ? h("button", { onclick: () => refresh() }, "Try now") : "");
  banner.dataset.text = text;
  if (!shown && (missing || body.querySelector(".loading"))) {
    draw(missing ? empty("There is no such upload here", h("a", { href: "/ui/uploads" }, "To the uploads")) : empty("Nothing to show yet", error.message));
  }
}

// ---- Doing things.

function toast(text, bad) {
  const box = document.getElementById("toast");
  box.textContent = text;
  box.className = "toast" + (bad ? " bad" : "");
  box.hidden = false;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => { box.hidden = true; }, bad ? 9000 : 4000);
}
// ask shows a question and resolves to the reason given, or to null.
function ask(title, text, button, danger) {
  const dialog = document.getElementById("dialog");
  if (dialog.open) return Promise.resolve(null);
  return new Promise((resolve) => {
    const reason = h("input", { name: "reason", maxlength: "400", autocomplete: "off" });
    // Enter in the field presses the first button: what cannot be undone takes its own.
    const back = h("button", { value: "" }, "Back"), yes = h("button", { value: "yes", class: danger ? "danger" : "primary" }, button);
    dialog.replaceChildren(h("form", { method: "dialog", onsubmit: (e) => resolve(e.submitter === yes ? reason.value : null) },
      h("h2", { id: "dialog-title" }, title), text && h("p", {}, text),
      h("label", {}, "Reason, kept with it (may be empty)", reason),
      h("div", { class: "row" }, danger ? [back, yes] : [yes, back])));
    dialog.oncancel = () => resolve(null); // by Escape
    dialog.showModal();
    reason.focus();
  });
}
const note = (reason) => ({ reason: reason || "", by: me.name === "anyone" ? "" : me.name });
async function act(button, call, done) {
  if (button) button.disabled = true;
  try { toast(done(await call())); } catch (error) { toast(error.message, true); }
  if (button) button.disabled = false;
  if (refresh) refresh();
}
let refresh = null;

// ---- Overview.

function movedRate(o) {
  const step = o.moved_step_seconds * 1000, now = new Date(o.at).getTime();
  const from = now - now % step - 2 * step;
  return o.moved.reduce((sum, m) => { const at = new Date(m.at).getTime(); return at >= from && at < from + 2 * step ? sum + m.bytes : sum; }, 0) / (2 * o.moved_step_seconds);
}
function chart(o) {
  if (!o.moved.length) return empty("Nothing has moved yet", "The curve begins with the first heartbeat of a worker that this dispatcher hears.");
  const width = Math.max(300, Math.min(1140, main.clientWidth - 80)), height = 190, left = 70, bottom = 22, top = 10;
  const step = o.moved_step_seconds * 1000, now = new Date(o.at).getTime(), end = now - now % step;
  const values = new Map(o.moved.map((m) => [new Date(m.at).getTime(), m.bytes / o.moved_step_seconds]));
  const first = Math.max(end - 3600e3, Math.min(...values.keys()));
  const minutes = [10, 20, 40, 60].find((m) => end - m * 60e3 <= first), begin = end - minutes * 60e3; // no more than there is to show
  let most = 1;
  const points = [];
  for (let t = first; t < end; t += step) { const v = values.get(t) || 0; most = Math.max(most, v); points.push([t, v]); }
  if (!points.length) points.push([end - step, 0]);
  let ceiling = 2 ** Math.ceil(Math.log2(most));
  if (ceiling * 0.75 >= most) ceiling *= 0.75;
  const x = (t) => left + (width - left - 8) * (t - begin) / (end - begin), y = (v) => top + (height - top - bottom) * (1 - v / ceiling);
  const line = points.map(([t, v], i) => `${i ? "L" : "M"}${x(t).toFixed(1)} ${y(v).toFixed(1)}`).join("");
  const base = y(0);
  return s("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Bytes moved a second over the last hour: at most ${rate(most)}, now ${rate(movedRate(o))}` },
    [0, 0.5, 1].map((f) => [s("line", { class: "axis", x1: left, x2: width - 8, y1: y(ceiling * f), y2: y(ceiling * f) }),
      s("text", { x: left - 8, y: y(ceiling * f) + 4, "text-anchor": "end" }, f ? rate(ceiling * f) : "0")]),
    (width < 500 ? [1, 0.5, 0] : [1, 0.75, 0.5, 0.25, 0]).map((f) => s("text", { x: Math.min(x(end - f * minutes * 60e3), width - 8), y: height - 5, "text-anchor": f === 1 ? "start" : f ? "middle" : "end" }, f ? `${f * minutes} min ago` : "now")),
    s("path", { class: "area", d: `${line}L${x(points.at(-1)[0]).toFixed(1)} ${base}L${x(points[0][0]).toFixed(1)} ${base}Z` }),
    s("path", { class: "line", d: line }));
}
function accountState(a) {
  const out = [];
  if (a.paused) out.push(h("span", { class: "badge warn" }, "paused"));
  for (const c of a.held || []) out.push(h("span", { class: "badge bad" }, c.down_since ? "platform down" : "throttled"));
  if (!out.length && a.cut_at && Date.now() - new Date(a.cut_at) < 600e3) out.push(h("span", { class: "badge warn" }, "window cut"));
  if (!out.length) out.push(h("span", { class: "badge good" }, a.active ? "running" : "ready"));
  return [...new Map(out.map((b) => [b.textContent, b])).values()].flatMap((b) => [b, " "]);
}
function windowBar(a) {
  const label = `${bytes(a.in_flight)} in flight of ${bytes(a.window)}, at most ${bytes(a.max_window)}`;
  return bar(a.in_flight, a.max_window, a.in_flight > a.window ? "warn" : "", label, a.window);
}
function failureRows(groups) {
  return groups.map((g) => Object.assign([
    h("a", { href: uploadsPage({ state: "failed", cause: g.cause, account: g.account }) }, words(g.cause)), g.account, count(g.count), when(g.last_at), [uploadLink(g.example, named(g.name)), h("div", { class: "quiet small" }, g.message)],
  ], { key: g.cause + " " + g.account }));
}
const FAILURES = [{ title: "Cause", look: "name" }, { title: "Account" }, { title: "Uploads", look: "num" }, { title: "Last" }, { title: "For example", look: "told" }];
const TRIES = [{ title: "Kind", look: "name" }, { title: "Account" }, { title: "Tries", look: "num" }, { title: "Uploads", look: "num" }, { title: "Last" }, { title: "Message", look: "told" }];
const tryRows = (tries) => tries.map((g) => [[words(g.kind), g.code && [" ", h("code", {}, g.code)]], g.account, count(g.count), count(g.uploads), when(g.last_at), g.message]);

function overview() {
  let failures = null, asked = 0;
  refresh = watch(async () => {
    if (Date.now() - asked > 15000) { failures = null; }
    const all = await Promise.all([api("/overview"), api("/accounts"), api("/workers"), failures || api("/failures")]);
    if (!failures) { failures = all[3]; asked = Date.now(); }
    return all;
  }, ([o, { accounts }, { workers }, f]) => {
    const busy = workers.reduce((n, w) => n + w.busy, 0), slots = workers.reduce((n, w) => n + w.slots, 0);
    const queued = Object.values(o.queued).reduce((n, v) => n + v, 0), known = accounts.every((a) => a.name in o.queued);
    const active = ACTIVE.reduce((n, st) => n + (o.states[st] || 0), 0);
    const tile = (value, text, href, look) => h(href ? "a" : "div", { class: "tile " + (look || ""), href }, h("b", {}, value), h("span", {}, text));
    draw(
      h("div", { class: "tiles" },
        tile(rate(movedRate(o)), "moving now"),
        tile(count(active), "under way, of the last 24\u00a0h", uploadsPage({ state: ACTIVE.join(",") })),
        tile(known ? count(queued) : "?", known ? "runs in the queue" : "the queue does not answer", null, known ? "" : "bad"),
        tile(`${count(busy)} / ${count(slots)}`, workers.length ? `slots busy of ${plural(workers.length, "worker")}` : "no worker is heard", "/ui/workers", workers.length ? "" : "bad"),
        tile(count(o.states.completed), "completed, of the last 24\u00a0h", uploadsPage({ state: "completed" })),
        tile(count(o.states.failed), "failed, of the last 24\u00a0h", "/ui/failures", o.states.failed ? "bad" : "")),
      h("section", { class: "card" }, h("div", { class: "row spread" }, h("h2", {}, "Throughput"), h("span", { class: "quiet small" }, "all workers, as this dispatcher hears them, for up to an hour")), chart(o)),
      h("section", { class: "card" }, h("h2", {}, h("a", { href: "/ui/accounts" }, "Accounts")),
        accounts.length ? table([{ title: "Account", look: "name" }, { title: "State" }, { title: "Window" }, { title: "Goodput", look: "num" }, { title: "Uploads", look: "num" }, { title: "Queued runs", look: "num" }],
          accounts.map((a) => Object.assign([[a.name, " ", h("span", { class: "quiet small" }, a.provider)], accountState(a), [windowBar(a), h("div", { class: "quiet small" }, `${bytes(a.in_flight)} of ${bytes(a.window)}`)], rate(a.goodput), h("a", { href: uploadsPage({ account: a.name, state: ACTIVE.join(",") }) }, count(a.active)), a.name in o.queued ? count(o.queued[a.name]) : "?"], { key: a.name })))
          : empty("No account is configured for this tenant", "Accounts are in the dispatcher's configuration.")),
      h("section", { class: "card" }, h("h2", {}, h("a", { href: "/ui/failures" }, "What is failing")),
        f.uploads.length ? table(FAILURES, failureRows(f.uploads.slice(0, 5))) : h("p", { class: "quiet" }, "No upload of the last seven days has failed, or all were retried."),
        f.tries.length ? [h("h2", {}, "Failed tries of the last hour"), table(TRIES, tryRows(f.tries.slice(0, 5)))] : null));
  }, 3000);
}

// ---- Uploads.

const PER_PAGE = 50;
const PAUSED = "paused"; // no state, but chosen like one
function uploads() {
  const filter = { search: query.get("search") || "", state: query.get("state") || "", account: query.get("account") || "", cause: query.get("cause") || "", batch: query.get("batch") || "", label: query.get("label") || "", paused: query.get("paused") || "", after: query.get("after") || "" };
  const back = []; // where the pages before began
  const params = () => new URLSearchParams(Object.entries(filter).filter(([, v]) => v));
  const field = (label, control, wide) => h("label", { class: wide ? "wide" : null }, label, control);
  const options = (all, chosen) => all.map(([value, text]) => h("option", { value, selected: value === chosen }, text));
  const stateField = h("select", { name: "state" }, options([["", "any"], [ACTIVE.join(","), "under way"], [PAUSED, "paused itself"], ...[...ACTIVE, "completed", "failed", "cancelled"].map((v) => [v, v])], filter.paused === "true" ? PAUSED : filter.state));
  const accountField = h("select", { name: "account" }, h("option", { value: "" }, "any"));
  if (filter.account) accountField.append(h("option", { value: filter.account, selected: true }, filter.account));
  const search = h("input", { name: "search", type: "search", value: filter.search, maxlength: "200", placeholder: "part of a name or key, or an id", autocomplete: "off" });
  const form = h("form", { class: "filters", "data-own": "filters", role: "search", onsubmit: (e) => { e.preventDefault(); apply(); } },
    field("Search", search, true), field("State", stateField), field("Account", accountField));
  api("/accounts").then(({ accounts }) => { for (const a of accounts) if (a.name !== filter.account) accountField.append(h("option", { value: a.name }, a.name)); }).catch(() => {});
  function go() {
    const to = params().toString();
    history.replaceState(null, "", location.pathname + (to ? "?" + to : ""));
    refresh();
  }
  function apply() {
    const text = search.value.trim();
    if (/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)) { location.assign("/ui/uploads/" + text); return; }
    const paused = stateField.value === PAUSED;
    Object.assign(filter, { search: text, state: paused ? "" : stateField.value, paused: paused ? "true" : "", account: accountField.value, after: "" });
    if (filter.state !== "failed") filter.cause = "";
    back.length = 0;
    go();
  }
  let typing = 0;
  search.oninput = () => { clearTimeout(typing); typing = setTimeout(apply, 350); };
  stateField.onchange = accountField.onchange = apply;
  const chip = (name, text) => filter[name] ? h("p", {}, h("span", { class: "badge" }, text + ": ", named(name === "cause" ? words(filter[name]) : filter[name])), " ", h("button", { class: "plain", onclick: () => { filter[name] = ""; filter.after = ""; go(); } }, "show all")) : null;
  refresh = watch(() => { const p = params(); p.set("limit", PER_PAGE); return api("/uploads?" + p); }, (list) => {
    const filtered = filter.search || filter.state || filter.account || filter.cause || filter.batch || filter.label || filter.paused;
    draw(form, h("div", {}, chip("cause", "cause"), chip("batch", "batch"), chip("label", "label")),
      h("section", { class: "card" }, list.uploads.length
        ? table([{ title: "Name", look: "name" }, { title: "Account" }, { title: "State" }, { title: "Progress" }, { title: "Size", look: "num" }, { title: "Submitted" }],
          list.uploads.map((u) => Object.assign([uploadLink(u.id, named(u.name || u.source.key)), u.account, [badge(u), u.failure ? h("div", { class: "quiet small" }, words(u.failure.cause)) : u.state === "queued" && later(u.not_before) ? h("div", { class: "quiet small" }, "starts ", when(u.not_before)) : null], h("div", { class: "meter" }, progress(u), h("span", { class: "quiet small" }, done(u))), bytes(u.source.size), when(u.submitted_at)], { key: u.id })))
        : filtered || filter.after ? empty("No upload is like that", "Try fewer words, another state or another account.") : empty("No uploads yet", h("span", {}, "Submit one: ", h("code", {}, "mediaferry push FILE --to ACCOUNT"))),
      list.next || filter.after || list.uploads.length ? h("nav", { class: "row spread", "aria-label": "Pages of the list" },
        h("button", { disabled: !filter.after, onclick: () => { filter.after = back.pop() || ""; go(); } }, "← Newer"),
        h("span", { class: "quiet small" }, list.uploads.length ? `${plural(list.uploads.length, "upload")}, newest first` + (back.length ? `, page ${count(back.length + 1)}` : "") : ""),
        h("button", { disabled: !list.next, onclick: () => { back.push(filter.after); filter.after = list.next; go(); } }, "Older →")) : null));
  }, 4000);
}
const later = (at) => at && new Date(at) > Date.now();
// done is how much of a file that is under way is acknowledged, or hashed.
function done(u) {
  const part = u.state === "digesting" ? u.digested_bytes : u.acked_bytes;
  return part > 0 && u.source.size > 0 && ACTIVE.includes(u.state) ? `${Math.floor(100 * part / u.source.size)} %` : "";
}
function progress(u) {
  const size = u.source.size;
  if (u.state === "completed") return bar(1, 1, "good", u.instant ? "the platform had it already" : "complete");
  if (u.state === "digesting") return bar(u.digested_bytes, size, "warn", `${bytes(u.digested_bytes)} of ${bytes(size)} hashed`);
  return bar(u.acked_bytes, size, u.state === "failed" ? "bad" : "", `${bytes(u.acked_bytes)} of ${bytes(size)} in the ledger`);
}

// ---- One upload.

const PARTS = { acked: "in the ledger", found: "found upstream", in_hand: "in hand", queued: "queued", on_way: "on the way", not_fed: "not fed", unknown: "fed, the queue does not answer" };
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// partMap draws one cell for each part and says what the one pointed at is.
function partMap() {
  const canvas = h("canvas", { class: "map", tabindex: "0", role: "group", "aria-roledescription": "map of parts", "aria-describedby": "map-hint" });
  const hint = h("p", { class: "hint quiet small", id: "map-hint", "aria-live": "polite" }, "Point at a part, or use the arrow keys.");
  let map = null, names = [], tries = new Map(), cell = 10, columns = 1, at = -1;
  function paint() {
    if (!map || !map.part_count) return;
    const width = Math.max(120, canvas.parentElement ? canvas.parentElement.clientWidth : 600), n = map.part_count;
    cell = 22;
    while (cell > 3 && Math.ceil(n / Math.floor(width / cell)) * cell > 280) cell--;
    columns = Math.max(1, Math.floor(width / cell));
    const height = Math.ceil(n / columns) * cell, dots = devicePixelRatio || 1;
    canvas.width = width * dots; canvas.height = height * dots;
    canvas.style.height = height + "px";
    const g = canvas.getContext("2d");
    g.scale(dots, dots);
    const gap = cell >= 5 ? 1 : 0.5, colours = {};
    for (const name of Object.keys(PARTS)) colours[name] = css("--" + name.replaceAll("_", "-"));
    const red = css("--failed");
    for (let i = 0; i < n; i++) {
      const x = i % columns * cell, y = Math.floor(i / columns) * cell;
      g.fillStyle = colours[names[i]] || colours.unknown;
      g.fillRect(x, y, cell - gap, cell - gap);
      if (!tries.has(i + 1)) continue;
      if (cell >= 7) { g.strokeStyle = red; g.lineWidth = 2; g.strokeRect(x + 1, y + 1, cell - gap - 2, cell - gap - 2); } else { g.fillStyle = red; g.fillRect(x, y, cell - gap, Math.max(1, cell / 2)); }
    }
    if (at >= 0) { g.strokeStyle = css("--text"); g.lineWidth = 2; g.strokeRect(at % columns * cell, Math.floor(at / columns) * cell, cell - gap, cell - gap); }
  }
  function point(i) {
    if (!map || i < 0 || i >= map.part_count) return;
    at = i;
    const t = tries.get(i + 1), hand = map.in_hand.find((w) => i + 1 >= w.first && i + 1 < w.first + w.count);
    hint.textContent = `Part ${count(i + 1)} of ${count(map.part_count)}: ${PARTS[names[i]]}` + (hand && names[i] === "in_hand" ? ` of ${hand.worker} (${words(hand.stage)}, ${bytes(hand.bytes)} of ${bytes(hand.total)} of its run)` : "") + (t ? `; ${plural(t, "failed try", "failed tries")}` : "") + ".";
    paint();
  }
  canvas.onpointermove = canvas.onpointerdown = (e) => {
    const box = canvas.getBoundingClientRect(), column = Math.floor((e.clientX - box.left) / cell);
    if (column < columns) point(Math.floor((e.clientY - box.top) / cell) * columns + column);
  };
  canvas.onkeydown = (e) => {
    const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, Home: -at, End: map ? map.part_count - 1 - at : 0 }[e.key];
    if (by === undefined) return;
    e.preventDefault();
    point(at < 0 && by !== 0 && e.key !== "End" ? 0 : at + by);
  };
  new ResizeObserver(() => requestAnimationFrame(paint)).observe(main);
  document.addEventListener("themechange", paint);
  const box = h("div", {}, canvas, hint);
  return {
    update(m) {
      const place = document.getElementById("map");
      if (place && box.parentElement !== place) place.append(box);
      map = m;
      names = new Array(m.part_count);
      for (const r of m.ranges) names.fill(r.state, r.first - 1, r.first - 1 + r.count);
      tries = new Map(m.failed.map((t) => [t.part, t.tries]));
      canvas.setAttribute("aria-label", summary(m));
      paint();
    },
  };
}
function tally(m) {
  const sums = {};
  for (const r of m.ranges) sums[r.state] = (sums[r.state] || 0) + r.count;
  return sums;
}
const summary = (m) => `${plural(m.part_count, "part")}: ` + Object.entries(tally(m)).map(([st, n]) => `${count(n)} ${PARTS[st]}`).join(", ");
// While an upload goes on its legend does not jump; of one that has ended, what is not there is left out.
function legend(m, busy) {
  const sums = tally(m);
  return h("ul", { class: "legend" }, Object.entries(PARTS).filter(([st]) => sums[st] || busy && st !== "unknown" && st !== "on_way").map(([st, text]) => h("li", {}, h("i", { class: "of-" + st }), `${count(sums[st])} ${text}`)),
    busy || m.failed.length ? h("li", {}, h("i", { class: "of-failed" }), `${count(m.failed.length)} with failed tries`) : null);
}
// meanRate is in bytes a second, since the present session was opened; 0 if it cannot be told.
function meanRate(u) {
  const seconds = u.first_ack_at && u.last_ack_at ? (new Date(u.last_ack_at) - new Date(u.begun_at || u.first_ack_at)) / 1000 : 0;
  return seconds > 0 ? Math.max(0, u.acked_bytes - u.found_bytes) / seconds : 0;
}
function arrived(u) {
  const size = u.source.size;
  if (u.instant) return `${bytes(size)}, none of it sent`;
  return `${bytes(u.acked_bytes)} of ${bytes(size)}`;
}
function facts(u) {
  const fact = (name, value) => value === undefined || value === null || value === "" || value === false ? null : [h("dt", {}, name), h("dd", {}, value)];
  const sent = u.part_count === 1 || !u.part_size ? "" : `, ${bytes(u.part_size)} each` + (u.source.size % u.part_size ? " but the last" : "");
  return h("dl", {},
    fact("Account", [h("a", { href: "/ui/accounts#" + encodeURIComponent(u.account) }, u.account), " ", h("span", { class: "quiet" }, u.provider)]),
    fact("Source", h("code", {}, `${u.source.bucket}/`, named(u.source.key))),
    fact("Size", `${bytes(u.source.size)} (${count(u.source.size)} bytes)`),
    fact("Parts", u.part_count ? `${count(u.acked_parts)} of ${count(u.part_count)}${sent}` : u.instant ? "none: the platform had the bytes" : ACTIVE.includes(u.state) ? "not planned yet" : "none"),
    fact("Found upstream", u.found_bytes ? bytes(u.found_bytes) : null),
    fact("Mean rate", meanRate(u) > 0 ? rate(meanRate(u)) : null),
    fact("Epoch", u.epoch || null), fact("Priority", u.priority || null),
    fact("Waits for", u.waits_for && [uploadLink(u.waits_for, "another upload"), " of the same bytes"]),
    fact("Not before", later(u.not_before) ? when(u.not_before) : null),
    fact("Submitted", when(u.submitted_at)), fact("Ended", when(u.finished_at)),
    fact("Next step", ACTIVE.includes(u.state) && later(u.next_action_at) ? when(u.next_action_at) : null),
    fact("Labels", Object.keys(u.labels || {}).length ? Object.entries(u.labels).map(([k, v], i) => [i ? ", " : "", h("a", { href: uploadsPage({ label: `${k}=${v}` }) }, named(`${k}=${v}`))]) : null),
    fact("Batch", u.batch && h("a", { href: uploadsPage({ batch: u.batch }) }, h("code", {}, u.batch))),
    fact("Asset", u.asset && [h("code", {}, named(u.asset.id)), u.asset.url && /^https?:\/\//.test(u.asset.url) ? [" ", h("a", { href: u.asset.url, rel: "noreferrer noopener", target: "_blank" }, "open")] : null]),
    fact("Id", h("code", {}, u.id)));
}
function actions(u) {
  if (!may("operate")) return null;
  const one = (action, body) => api(`/uploads/${u.id}/${action}`, { method: "POST", body });
  const own = (u.pauses || []).some((p) => p.scope === "upload");
  const out = [];
  if (ACTIVE.includes(u.state)) {
    out.push(own ? h("button", { "data-key": "resume", onclick: (e) => act(e.currentTarget, () => one("resume", note("")), () => "Resumed.") }, "Resume")
      : h("button", { "data-key": "pause", onclick: (e) => { const b = e.currentTarget; ask("Pause this upload?", "What is queued is withdrawn and what workers have in hand is given back; parts that arrived stay.", "Pause").then((r) => r !== null && act(b, () => one("pause", note(r)), () => "Paused.")); } }, "Pause"));
    out.push(h("button", { class: "danger", "data-key": "cancel", disabled: u.cancelling, onclick: (e) => { const b = e.currentTarget; ask(`Cancel “${u.name}”?`, "This is final: the upstream session is discarded, and what was sent is lost.", "Cancel the upload", true).then((r) => r !== null && act(b, () => one("cancel", note(r)), (v) => v.cancelling ? "It is cancelled, unless the finishing call has made an asset already." : "Cancelled.")); } }, "Cancel"));
  }
  if (u.state === "failed") {
    const human = u.failure && u.failure.cause === "needs_human";
    out.push(h("button", { class: human ? "danger" : "primary", "data-key": "retry", onclick: (e) => { const b = e.currentTarget; ask("Retry this upload?", human ? "Nobody could tell whether the platform has made an asset. Look there first: a retry sends the file again and may make a second one." : "It begins again in a new epoch.", "Retry", human).then((r) => r !== null && act(b, () => one("retry", note(r)), () => "It is queued again.")); } }, "Retry"));
  }
  return out.length ? h("div", { class: "row" }, out) : null;
}
// sized writes large numbers of bytes in a sentence as people do.
const sized = (text) => text.replace(/\b(\d{4,}) (bytes|a second)\b/g, (_, n, of) => of === "bytes" ? bytes(n) : rate(n));
const STAGES = { staging: "read from staging", transit: "sent to the platform", platform: "put together by the platform" };
function chain(links) {
  if (!links.length) return h("p", { class: "quiet" }, "Nothing has been compared yet.");
  const parts = links.filter((l) => l.part), matched = parts.filter((l) => l.compared && l.matched).length;
  const shown = links.filter((l) => !l.part || l.compared && !l.matched).slice(0, 200);
  return [
    parts.length ? h("p", {}, `${count(matched)} of ${plural(parts.length, "comparison")} of parts ${matched === 1 ? "agrees" : "agree"}` + (parts.length > matched ? `; ${count(parts.filter((l) => !l.compared).length)} could not be made, ${count(parts.filter((l) => l.compared && !l.matched).length)} do not agree.` : ".")) : null,
    shown.length ? table([{ title: "Of", look: "name" }, { title: "Stage" }, { title: "Result" }, { title: "Digests", look: "told" }, { title: "When" }], shown.map((l) => [
      l.part ? "part " + count(l.part) : "whole object", STAGES[l.stage] || l.stage,
      l.compared ? l.matched ? h("span", { class: "badge good" }, "agree") : h("span", { class: "badge bad" }, "differ") : h("span", { class: "badge dull" }, "not compared"),
      [l.expected ? [h("div", {}, h("code", {}, `${l.kind} ${l.expected}`), " ", h("span", { class: "quiet small" }, l.expected_from)), l.got !== l.expected && l.got ? h("div", {}, h("code", {}, l.got), " ", h("span", { class: "quiet small" }, l.got_from)) : h("div", { class: "quiet small" }, l.got_from ? "found so by " + l.got_from : "")] : null, l.note ? h("div", { class: "quiet small" }, l.note) : null],
      when(l.at)])) : null,
  ];
}
function upload() {
  const id = location.pathname.split("/")[3] || "";
  const path = "/uploads/" + id;
  const map = partMap();
  let digests = null, wanted = false, last = "", busy = true;
  const heading = document.querySelector("h1.title");
  refresh = watch(async () => {
    const u = await api(path);
    const [m, past, why] = await Promise.all([api(path + "/parts"), api(path + "/history"), ACTIVE.includes(u.state) ? api(path + "/explain").catch(() => null) : null]);
    if (wanted && (!digests || u.state !== last || busy)) digests = (await api(path + "/digests", { patience: 60000 })).links;
    last = u.state;
    busy = ACTIVE.includes(u.state);
    return [u, m, past, why];
  }, ([u, m, past, why]) => {
    document.title = `${u.name} · mediaferry`;
    heading.hidden = true;
    const head = h("div", { class: "row spread title-row" }, h("div", { class: "stretch" }, h("h1", {}, named(u.name)), h("div", { class: "row" }, badge(u), u.instant ? h("span", { class: "quiet" }, "the platform had it already") : null)), actions(u));
    const others = (u.pauses || []).map((p) => h("p", { class: "note" }, p.scope === "upload" ? "Paused" : `Its ${p.scope} ${p.name} is paused`, p.by && ` by ${p.by}`, p.reason && `: ${p.reason}`, " (", when(p.at), ")"));
    let before = 0;
    draw(head, others,
      u.failure ? h("p", { class: "problem" }, h("b", {}, words(u.failure.cause)), u.failure.part ? `, part ${u.failure.part}` : "", u.failure.stage ? `, ${STAGES[u.failure.stage] || u.failure.stage}` : "", u.failure.code && !u.failure.message.includes(u.failure.code) ? ` (${u.failure.code})` : "", ": ", u.failure.message) : null,
      why && h("section", { class: "card", id: "explain" }, h("h2", {}, "Why it is here"), h("p", {}, sized(why.summary)),
        why.waits_for && h("p", {}, h("span", { class: "quiet" }, "Waits for: "), why.waits_for),
        why.next && h("p", {}, h("span", { class: "quiet" }, "Next: "), why.next_at ? [sized(why.next).replace(/\.$/, ""), ": ", when(why.next_at)] : sized(why.next)),
        why.facts.length ? h("details", {}, h("summary", { class: "quiet small" }, "What was looked at"), h("ul", {}, why.facts.map((f) => h("li", { class: "small" }, sized(f))))) : null),
      h("section", { class: "card", "data-key": "map" }, h("div", { class: "row spread" }, h("h2", {}, "Parts"), h("span", { class: "quiet small" }, arrived(u))), progress(u),
        m.part_count ? [h("div", { id: "map", "data-own": "map" }), legend(m, busy),
          h("details", {}, h("summary", { class: "quiet small" }, "As text"), h("p", { class: "small" }, m.ranges.slice(0, 200).map((r) => `${r.count === 1 ? "part " + r.first : `parts ${r.first} to ${r.first + r.count - 1}`}: ${PARTS[r.state]}`).join("; ") + (m.ranges.length > 200 ? "; and more" : ""))),
          m.in_hand.length ? h("div", {}, h("h2", {}, "In hand"), table([{ title: "Of", look: "name" }, { title: "Worker" }, { title: "Doing" }, { title: "Progress" }], m.in_hand.map((w) => Object.assign([w.count === 1 ? `part ${count(w.first)}` : `parts ${count(w.first)} to ${count(w.first + w.count - 1)}`, h("code", {}, w.worker), words(w.stage), h("div", { class: "meter" }, bar(w.bytes, w.total, "warn", `${bytes(w.bytes)} of ${bytes(w.total)}`), h("span", { class: "quiet small" }, `${bytes(w.bytes)} of ${bytes(w.total)}`))], { key: String(w.first) })))) : null,
        ] : h("p", { class: "quiet" }, u.instant ? "No part was sent." : u.state === "digesting" ? "The platform wants a digest first; a worker reads the object once." : busy ? "The parts are planned when the upstream session is opened." : "No parts were planned.")),
      h("div", { class: "grid" },
        h("section", { class: "card" }, h("h2", {}, "About it"), facts(u)),
        h("section", { class: "card" }, h("h2", {}, "What became of it"), h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "What became of it" }, h("ol", { class: "steps" }, past.moves.map((mv, i) => {
          const at = new Date(mv.at), after = before ? `after ${span(at - before)}` : "";
          before = at;
          return h("li", { class: LOOKS[mv.to] === "dull" ? "" : LOOKS[mv.to] }, h("b", {}, mv.to), " ", h("span", { class: "quiet small" }, h("time", { datetime: mv.at, title: full(mv.at) }, moment(mv.at)), after && ", " + after, i === past.moves.length - 1 && ACTIVE.includes(mv.to) ? `, ${span(Date.now() - at)} so far` : ""), mv.reason && mv.reason !== "submitted" ? h("div", { class: "small" }, mv.reason) : null);
        }))))),
      h("section", { class: "card" }, h("h2", {}, "Failed tries"), past.tries.length
        ? [h("p", { class: "quiet small" }, past.tries_count > past.tries.length ? `The last ${count(past.tries.length)} of ${count(past.tries_count)}.` : `${plural(past.tries_count, "try", "tries")} in all.`),
          h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Failed tries" }, table([{ title: "Of", look: "name" }, { title: "Cause" }, { title: "Message", look: "told" }, { title: "Worker" }, { title: "Took", look: "num" }, { title: "When" }], past.tries.map((t) => [t.part ? `part ${count(t.part)}` : "a control call", [words(t.kind), t.code && [" ", h("code", {}, t.code)], t.excused ? h("div", { class: "quiet small" }, "platform down, not counted") : null], t.message, t.worker ? h("code", {}, t.worker) : "dispatcher", span(new Date(t.failed_at) - new Date(t.started_at)), when(t.failed_at)])))]
        : h("p", { class: "quiet" }, "None.")),
      h("section", { class: "card" }, h("details", { id: "digests", ontoggle: (e) => { if (e.currentTarget.open && !wanted) { wanted = true; refresh(); } } }, h("summary", {}, h("b", {}, "Digest chain"), h("span", { class: "quiet small" }, " what was hashed where, and compared with what")), digests ? chain(digests) : h("p", { class: "quiet" }, "Loading…"))));
    if (m.part_count) map.update(m);
  }, () => busy ? 1500 : 15000);
}

// ---- Accounts.

// budget is what is spent of a published rate: a tenth of it may be called at once.
function budget(r) {
  const most = Math.max(1, Math.floor(r.count / 10)), text = `${count(Math.round(r.spent))} of ${count(most)} spent`;
  return h("div", { class: "budget" }, h("div", { class: "row spread small" }, h("span", {}, `${words(r.call)}: ${count(r.count)} in ${span(r.period_seconds * 1000)}`), h("span", { class: "quiet" }, text)), bar(r.spent, most, r.spent >= most ? "warn" : "", `${words(r.call)}: ${text}`));
}

function accounts() {
  let tries = [], asked = 0;
  refresh = watch(async () => {
    if (Date.now() - asked > 15000) { tries = (await api("/failures")).tries; asked = Date.now(); }
    return api("/accounts");
  }, ({ accounts: all }) => draw(
    all.length ? h("div", { class: "grid" }, all.map((a) => {
      const own = (a.pauses || []).some((p) => p.scope === "account");
      const call = (verb, r) => api(`/accounts/${encodeURIComponent(a.name)}/${verb}`, { method: "POST", body: verb === "pause" ? note(r) : undefined });
      const throttled = tries.reduce((n, g) => g.account === a.name && g.kind === "throttled" ? n + g.count : n, 0);
      return h("section", { class: "card", id: a.name, "data-key": a.name },
        h("div", { class: "row spread" }, h("h2", {}, a.name), h("div", {}, accountState(a))),
        (a.pauses || []).map((p) => h("p", { class: "note" }, p.scope === "tenant" ? `Its tenant ${p.name} is paused` : "Paused", p.by && ` by ${p.by}`, p.reason && `: ${p.reason}`, " (", when(p.at), ")")),
        (a.held || []).map((c) => h("p", { class: "problem" }, h("b", {}, words(c.call)), " waits", c.down_since ? [": no answer since ", when(c.down_since), c.asked ? `, asked ${plural(c.asked, "time")}` : ""] : ", as the platform asked", new Date(c.until) > Date.now() ? ["; next call ", when(c.until)] : null, c.why ? h("div", { class: "small" }, c.why) : null)),
        windowBar(a), h("p", { class: "quiet small" }, `${bytes(a.in_flight)} in flight, window ${bytes(a.window)}, at most ${bytes(a.max_window)}`),
        h("dl", {}, h("dt", {}, "Goodput"), h("dd", {}, rate(a.goodput)), h("dt", {}, "Uploads"), h("dd", {}, h("a", { href: uploadsPage({ account: a.name, state: ACTIVE.join(",") }) }, plural(a.active, "upload") + " in hand")),
          h("dt", {}, "Platform"), h("dd", {}, a.provider), h("dt", {}, "Pool"), h("dd", {}, a.pool),
          h("dt", {}, "Throttled"), h("dd", {}, throttled ? [h("a", { href: "/ui/failures" }, plural(throttled, "try", "tries")), " in the last hour"] : "not in the last hour"),
          a.cut_at ? [h("dt", {}, "Window cut"), h("dd", {}, when(a.cut_at), a.cut_for ? `: ${a.cut_for}` : "")] : null),
        (a.rates || []).length ? h("div", { class: "block" }, h("h3", {}, "Published rates"), h("p", { class: "quiet small" }, "Of each, a tenth may be called at once."), (a.rates || []).map((r) => budget(r))) : null,
        may("operate") ? h("div", { class: "block" }, own ? h("button", { "data-key": "resume", onclick: (e) => act(e.currentTarget, () => call("resume"), () => `${a.name} is resumed.`) }, "Resume") : h("button", { "data-key": "pause", onclick: (e) => { const b = e.currentTarget; ask(`Pause ${a.name}?`, "Nothing more is sent to it, by any worker, until it is resumed.", "Pause").then((r) => r !== null && act(b, () => call("pause", r), () => `${a.name} is paused.`)); } }, "Pause")) : null);
    })) : empty("No account is configured for this tenant", "Accounts are in the dispatcher's configuration.")), 3000);
}

// ---- Workers.

function workers() {
  let before = new Map();
  refresh = watch(() => api("/workers"), ({ workers: all }) => {
    const now = new Map();
    const rows = all.map((w) => {
      const seen = new Date(w.seen_at).getTime(), old = before.get(w.id);
      let speed = old ? old.speed : null;
      if (old && seen > old.seen) speed = Math.max(0, w.bytes_moved - old.moved) / ((seen - old.seen) / 1000);
      now.set(w.id, { seen, moved: w.bytes_moved, speed });
      return Object.assign([h("code", {}, w.id), w.pool, h("div", { class: "meter" }, bar(w.busy, w.slots, "", `${w.busy} of ${plural(w.slots, "slot")} busy`), `${w.busy} of ${w.slots}`), speed === null ? "…" : rate(speed), bytes(w.bytes_moved), w.version || "unknown", when(w.seen_at)], { key: w.id });
    });
    before = now;
    const pools = [...Map.groupBy ? Map.groupBy(all, (w) => w.pool) : new Map()];
    draw(all.length ? [
      h("div", { class: "tiles" }, pools.map(([pool, of]) => h("div", { class: "tile" }, h("b", {}, `${of.reduce((n, w) => n + w.busy, 0)} / ${of.reduce((n, w) => n + w.slots, 0)}`), h("span", {}, `slots busy in ${pool}, ${plural(of.length, "worker")}`)))),
      h("section", { class: "card" }, table([{ title: "Worker", look: "name" }, { title: "Pool" }, { title: "Slots" }, { title: "Moving", look: "num" }, { title: "Moved", look: "num" }, { title: "Version" }, { title: "Heard" }], rows))]
      : h("section", { class: "card" }, empty("No worker is heard", "Start one; it appears with its first heartbeat. One that is silent for 15 seconds is left out.")));
  }, 2000);
}

// ---- Failures.

function failures() {
  const replay = (g) => async (e) => {
    const b = e.currentTarget, select = { account: g.account, causes: [g.cause], states: ["failed"] };
    b.disabled = true;
    try {
      const found = await api("/uploads/retry", { method: "POST", body: { ...select, dry_run: true } });
      if (!found.matched) { toast("None of them can be retried just now: their old sessions are still being discarded.", true); return; }
      const human = g.cause === "needs_human";
      const reason = await ask(`Replay ${plural(found.matched, "upload")}?`, human ? "Nobody could tell whether the platform has made their assets. Look there first: a replay sends the files again and may make second ones." : `Failed at ${g.account} for ${words(g.cause)}. Each begins again in a new epoch.`, `Replay ${count(found.matched)}`, human);
      if (reason !== null) await act(null, () => api("/uploads/retry", { method: "POST", body: { ...select, ...note(reason) }, patience: 120000 }), (v) => `${plural(v.changed, "upload is", "uploads are")} queued again.`);
    } catch (error) { toast(error.message, true); } finally { b.disabled = false; }
  };
  refresh = watch(() => api("/failures"), (f) => draw(
    h("section", { class: "card" }, h("h2", {}, "Failed uploads of the last seven days"), f.uploads.length
      ? table([...FAILURES, { title: "" }], f.uploads.map((g, i) => { const row = failureRows([g])[0]; row.push(may("operate") ? h("button", { "data-key": g.cause + " " + g.account, onclick: replay(g) }, "Replay") : ""); return row; }))
      : empty("No upload has failed", "What fails is listed here by its cause, and can be replayed.")),
    h("section", { class: "card" }, h("h2", {}, "Failed tries of the last hour"), f.tries.length ? [h("p", { class: "quiet small" }, "Tries are repeated by themselves; an upload fails when they run out."), table(TRIES, tryRows(f.tries))] : h("p", { class: "quiet" }, "None."))), 5000);
}

// ---- Every page.

const dark = matchMedia("(prefers-color-scheme: dark)");
const changed = () => document.dispatchEvent(new Event("themechange"));
const themeButton = document.getElementById("theme");
function showTheme() {
  const theme = document.documentElement.dataset.theme;
  const name = theme === "light" ? "Light" : theme === "dark" ? "Dark" : "Auto";
  themeButton.textContent = "◐ " + name;
  themeButton.setAttribute("aria-label", `Colours: ${name}. Press to change.`);
}
themeButton.onclick = () => {
  const order = ["", "light", "dark"], next = order[(order.indexOf(document.documentElement.dataset.theme || "") + 1) % 3];
  if (next) document.documentElement.dataset.theme = next; else delete document.documentElement.dataset.theme;
  store("mediaferry-theme", next);
  showTheme();
  changed();
};
dark.onchange = changed;
showTheme();

const PAGES = { overview, uploads, upload, accounts, workers, failures, missing: () => draw(empty("There is no such page", h("a", { href: "/ui/" }, "To the overview"))) };
async function start() {
  try {
    me = await api("/access");
  } catch (error) {
    state(false, error);
    setTimeout(start, 3000);
    return;
  }
  if (!me.tenants.includes(tenant)) tenant = me.tenants.includes("default") ? "default" : me.tenants[0] || "";
  if (me.tenants.length > 1) {
    const choice = document.getElementById("tenant");
    choice.replaceChildren(...me.tenants.map((t) => h("option", { value: t, selected: t === tenant }, t)));
    choice.onchange = () => { store("mediaferry-tenant", choice.value); location.assign(page === "upload" ? "/ui/uploads" : location.pathname); };
    choice.parentElement.hidden = false;
  }
  document.getElementById("banner").hidden = true;
  PAGES[page]();
}
start();
})();
