// Keeps the start page alive: servers, their start in words, warnings, and what happens when the hub is away.
const state = JSON.parse(document.getElementById("state").textContent);
const xsrf = document.querySelector("meta[name=xsrf]").content;
const place = document.getElementById("servers");
const banner = document.getElementById("banner");
const said = document.getElementById("said"); // read out: what is drawn anew each time would not be
let gpu = null; // the part of the page about GPUs, where the facility has some and they are mine to ask for
const view = { servers: state.servers, home: state.home, starts: new Map(), failed: new Map(), busy: new Set(), lastId: null };

class Problem extends Error {
  constructor(document) { super(document.title); Object.assign(this, document); }
}

async function call(method, path, body) {
  const headers = { "X-XSRFToken": xsrf, Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method === "POST") headers["Idempotency-Key"] = key();
  let answer;
  try {
    answer = await fetch(state.api + path, { method, headers, body: body && JSON.stringify(body), cache: "no-store" });
  } catch {
    throw new Problem({ ...away, status: 0 });
  }
  if (answer.ok) return answer;
  throw new Problem(await answer.json().catch(() => ({ title: "The facility does not answer", status: answer.status })));
}

function key() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");
}

// ---- drawing

function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function clock(text) {
  const at = new Date(text);
  const today = at.toDateString() === new Date().toDateString();
  const time = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
  return today ? time : `${at.toLocaleDateString([], { weekday: "short", day: "numeric", month: "short" })}, ${time}`;
}

function sentences(...texts) {
  return texts.filter(Boolean).map((text) => text[0].toUpperCase() + text.slice(1).replace(/\.?$/, ".")).join(" ");
}

function head(name, dot, words) {
  const sentence = words[0].toUpperCase() + words.slice(1);
  return h("div", { class: "row" }, h("span", { class: `dot ${dot}`, "aria-hidden": "true" }), h("span", { class: "name" }, name || sentence),
    name ? h("span", { class: "muted" }, words) : null);
}

function button(id, text, action, kind = "") {
  return h("button", { type: "button", class: kind, "data-key": id, disabled: view.busy.has(id) ? "" : null, onclick: action }, text);
}

function running(server) {
  const lines = [];
  if (server.busy_with) lines.push(`Busy with ${server.busy_with}.`);
  if (server.stops_at && !server.warned) lines.push(`If nothing happens, it stops at ${clock(server.stops_at)}.`);
  return h("section", { class: "card" },
    head(server.name, "running", server.started ? `running since ${clock(server.started)}` : "running"),
    lines.length ? h("p", { class: "words muted" }, lines.join(" ")) : null,
    server.warned && server.stops_at ? h("p", { class: "notice warning", role: "alert" },
      `It will be stopped at ${clock(server.stops_at)}, because ${server.why}. Run a cell or open a notebook to keep it. Files are kept.`) : null,
    h("div", { class: "row actions" },
      h("a", { class: "button primary", href: server.url, "data-key": `open ${server.name}` }, "Open"),
      button(`stop ${server.name}`, "Stop", () => stop(server.name))));
}

function starting(name) {
  const start = view.starts.get(name) ?? { progress: 0, steps: [] };
  const steps = start.steps.length ? start.steps.slice(-4) : ["The hub has been asked for it"];
  return h("section", { class: "card", "aria-busy": "true" },
    head(name, "starting", "starting"),
    bar(start.progress),
    h("ol", { class: "steps" }, ...steps.map((text) => h("li", {}, text))),
    h("div", { class: "row actions" }, button(`stop ${name}`, "Cancel", () => stop(name))));
}

function bar(progress) {
  const fill = h("i");
  fill.style.width = `${Math.max(4, progress)}%`;
  return h("div", { class: "bar", role: "progressbar", "aria-label": "start", "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": progress }, fill);
}

function failed(name, problem) {
  return h("section", { class: "card" },
    head(name, "failed", "could not be started"),
    h("p", { class: "notice bad", role: "alert" }, sentences(problem.title, problem.detail)),
    problem.request_id ? h("p", { class: "words muted" }, "When you ask for help, give this number: ", h("code", {}, problem.request_id)) : null,
    h("div", { class: "row actions" }, button(`start ${name}`, "Try again", () => start(name), "primary")));
}

function none() {
  return h("section", { class: "card" },
    h("p", { class: "words" }, "No server is running. Starting one takes a few seconds; your files are where you left them."),
    gpu?.choice(),
    h("div", { class: "row actions" }, button("start ", "Start my server", () => (gpu?.wanted() ? gpu.ask() : start("")), "primary")));
}

function draw() {
  const focused = document.activeElement?.dataset?.key;
  const cards = [];
  const names = new Set();
  for (const server of view.servers ?? []) {
    names.add(server.name);
    if (server.state === "running") cards.push(running(server));
    else if (server.state === "starting") cards.push(starting(server.name));
    else cards.push(h("section", { class: "card", "aria-busy": "true" }, head(server.name, "stopping", "stopping")));
  }
  for (const [name, problem] of view.failed) if (!names.has(name)) { names.add(name); cards.push(failed(name, problem)); }
  if (view.servers !== null && !names.has("")) cards.unshift(gpu?.queued() ?? none());
  if (view.servers === null) cards.push(h("section", { class: "card" }, h("div", { class: "skeleton" })));
  place.replaceChildren(...cards);
  if (focused) [...place.querySelectorAll("[data-key]")].find((e) => e.dataset.key === focused)?.focus();
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const FULL = 0.95;

function amount(bytes) {
  const unit = Math.min(UNITS.length - 1, Math.max(0, Math.floor(Math.log2(Math.max(1, bytes)) / 10)));
  const value = bytes / 1024 ** unit;
  return [value < 10 ? Number(value.toFixed(1)) : Math.round(value), UNITS[unit]];
}

function drawHome() {
  if (!view.home) return;
  const quota = (state.quota_gib ?? 0) * 1024 ** 3;
  const [used, unit] = amount(view.home.used);
  const [most, ofUnit] = amount(quota);
  const text = quota ? `${used}${unit === ofUnit ? "" : ` ${unit}`} of ${most} ${ofUnit}` : `${used} ${unit}`;
  const key = `${text} ${view.home.used}`;
  if (view.homeDrawn === key) return;
  view.homeDrawn = key;
  const meter = h("div", { class: "bar", role: "meter", "aria-label": "Home", "aria-valuemin": 0, "aria-valuemax": quota,
    "aria-valuenow": Math.min(view.home.used, quota), "aria-valuetext": text }, h("i"));
  const share = quota ? view.home.used / quota : 0;
  meter.firstChild.style.width = `${Math.min(100, 100 * share)}%`;
  meter.classList.toggle("full", share >= FULL);
  const place = document.getElementById("home");
  place.replaceChildren(text, ...(quota ? [meter] : []));
  place.title = `measured ${clock(view.home.measured)}`;
  document.getElementById("home-full").replaceChildren(...(share < FULL ? [] : [h("p", { class: "notice warning" },
    `Your home is ${Math.round(100 * share)} % full. Delete or move files now: when it is full, notebooks cannot be saved.`)]));
}

function say(problem) {
  place.classList.toggle("stale", Boolean(problem));
  if (!problem) { banner.replaceChildren(); return; }
  const login = problem.status === 401 || problem.reason === "xsrf";
  const text = login ? "Your login has ended. " : `${sentences(problem.title, problem.detail)} `;
  banner.replaceChildren(h("p", { class: "notice bad" }, text,
    login ? h("a", { href: "" }, "Log in again") : h("span", { class: "muted" }, "Trying again every few seconds.")));
}

// ---- doing

async function refresh() {
  try {
    const answer = await (await call("GET", "/servers")).json();
    view.servers = answer.items;
    view.home = answer.home;
    drawHome();
    say(null);
    for (const server of view.servers) {
      if (server.state === "starting") follow(server.name);
      else view.starts.delete(server.name);
      if (server.state === "running") view.failed.delete(server.name);
    }
    clearTimeout(view.soon);
    if (view.servers.some((server) => server.state === "stopping")) view.soon = setTimeout(refresh, 1000);
  } catch (problem) {
    if (problem.status === 404) { view.servers = []; say(null); } else say(problem);
  }
  draw();
}

async function act(id, name, work) {
  view.busy.add(id);
  view.failed.delete(name);
  draw();
  try {
    const answer = await (await work()).json();
    view.servers = answer.items;
  } catch (problem) {
    if (problem.status === 401) say(problem); else view.failed.set(name, problem);
  } finally {
    view.busy.delete(id);
    await refresh();
  }
}

function start(name, grant) {
  return act(`start ${name}`, name, () => call("POST", "/servers", grant ? { name, gpu: grant } : { name }));
}

function stop(name) { return act(`stop ${name}`, name, () => call("DELETE", `/servers?name=${encodeURIComponent(name)}`)); }

async function follow(name) {
  if (view.starts.has(name)) return;
  const start = { progress: 0, steps: [] };
  view.starts.set(name, start);
  let end = null;
  try {
    await stream(`/servers/progress?name=${encodeURIComponent(name)}`, ({ data }) => {
      start.progress = data.progress ?? start.progress;
      if (data.failed || data.ready) { end = data; return; }
      if (data.message && start.steps.at(-1) !== data.message) { start.steps.push(data.message); said.textContent = data.message; }
      draw();
    });
  } catch { /* the stream ended early; what is true now is read below */ }
  view.starts.delete(name);
  if (end?.ready) said.textContent = "The server runs.";
  if (end?.failed) view.failed.set(name, { title: "The start failed", detail: end.message ?? "" });
  setTimeout(refresh, end ? 0 : 1000);
}

async function stream(path, seen, onopen = () => {}, signal = undefined) {
  const headers = { "X-XSRFToken": xsrf, Accept: "text/event-stream" };
  if (path.startsWith("/events") && view.lastId !== null) headers["Last-Event-ID"] = view.lastId;
  const answer = await fetch(state.api + path, { headers, cache: "no-store", signal });
  if (!answer.ok) throw new Problem(await answer.json().catch(() => ({ status: answer.status, title: "The facility does not answer" })));
  onopen();
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const field = (name) => part.split("\n").find((line) => line.startsWith(name))?.slice(name.length).trim();
      if (field("data:") === undefined) continue;
      if (path.startsWith("/events")) view.lastId = field("id:") ?? view.lastId;
      seen(JSON.parse(field("data:")));
    }
  }
}

const away = { title: "The facility does not answer", detail: "It is probably being restarted; servers go on running." };

// One stream per browser: tabs agree through a lock on the one that reads, which tells the others; when it closes, the
// next goes on after the last event seen. Without locks (http on another host than localhost) each reads for itself.
const NAME = `specola-start:${state.user}:${state.api}`;
const others = new BroadcastChannel(NAME);
others.onmessage = ({ data }) => { view.lastId = data.id; heard(data.type); };

function heard(type) {
  if (type.startsWith("servers.") || type === "resync") refresh();
  if (type.startsWith("gpu.") || type === "resync") gpu?.refresh();
}

function tell(type) { others.postMessage({ type, id: view.lastId }); }

function listen() { return navigator.locks ? navigator.locks.request(NAME, read) : read(); }

async function read() {
  for (let pause = 500; ; pause = Math.min(pause * 2, 4000)) {
    view.listening = new AbortController();
    try {
      await stream("/events", ({ type }) => { heard(type); tell(type); },
        () => { pause = 250; refresh(); tell("resync"); }, view.listening.signal);
    } catch (problem) {
      say(problem instanceof Problem ? problem : away);
      if (problem.status === 401) return;
    }
    await new Promise((done) => setTimeout(done, pause));
  }
}

// a proxy may hold a stream open whose other end is dead
async function check() {
  if (document.hidden) return;
  const answer = await fetch(state.health, { cache: "no-store", signal: AbortSignal.timeout(4000) }).catch(() => null);
  if (answer?.ok) return;
  say(away);
  view.listening?.abort();
}

draw();
drawHome();
for (const server of view.servers ?? []) if (server.state === "starting") follow(server.name);
listen();
setInterval(check, 4000);
setInterval(() => { if (!document.hidden) { refresh(); gpu?.refresh(); } }, 30000);
document.addEventListener("visibilitychange", () => { if (!document.hidden) { refresh(); gpu?.refresh(); } });
if (state.gpu) {
  const { gpus } = await import(state.gpu);
  const tell = (text) => { said.textContent = text; };
  gpu = gpus({ call, h, clock, sentences, button, redraw: draw, said: tell, startServer: (grant) => start("", grant) });
  draw();
}
