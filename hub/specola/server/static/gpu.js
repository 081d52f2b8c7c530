// GPUs on the start page: what is free, what I hold and wait for, and a server that starts with a slice.
// The page hands in its way to ask, to draw and to start a server; it gets back what it has to call.
const SVG = "http://www.w3.org/2000/svg";
const OVER = ["ended"];
const MINUTES = [30, 60, 120, 240, 480, 720, 1440];

export function said({ profile, gib }) { return `${/(\d+)gb/i.exec(profile)?.[1] ?? Math.round(gib)} GB`; }

export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  const [hours, minutes] = [Math.floor(s / 3600), Math.floor(s / 60) % 60];
  return hours ? `${hours} h${minutes ? ` ${minutes} min` : ""}` : `${minutes} min`;
}

export function range(wait) {
  if (!wait || (wait.high === null && wait.low < 60)) return "nobody can say how long";
  if (wait.high === null) return `at least ${span(wait.low)}`;
  return wait.high < 60 ? "less than a minute" : `${span(wait.low)} to ${span(wait.high)}`;
}

function left(lease) { return (Date.parse(lease.ends_at ?? lease.expires) - Date.now()) / 1000; }

// ---- the map: words and lines tell the state, colour only repeats it

function draw(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const WORDS = { mine: "yours", busy: "in use", idle: "idle", free: "free", other: "not ours" };

function slice(part, slots) {
  const kind = part.mine ? "mine" : part.state;
  const [x, width] = [`${(100 * part.start) / slots}%`, `${(100 * part.size) / slots}%`];
  const box = draw("svg", { x, width, height: 22, "aria-hidden": "true" }, draw("rect", { class: `slice ${kind}`, width: "100%", height: 22 }));
  if (kind === "idle" || kind === "other") box.append(draw("rect", { fill: `url(#hatch-${kind})`, width: "100%", height: 22 }));
  const text = part.size / slots < 0.2 ? WORDS[kind].slice(0, 4).replace("in u", "use").replace("not ", "×") : WORDS[kind];
  box.append(draw("text", { class: kind, x: "50%", y: 15, "text-anchor": "middle" }, text));
  if (part.start + part.size < slots) box.append(draw("rect", { class: "gap", x: "100%", width: 2, height: 22, transform: "translate(-2 0)" }));
  return box;
}

function described(gpu) {
  const words = gpu.parts.map((part) => `${part.mine ? "yours" : WORDS[part.state]} (${part.size} of ${gpu.slots})`);
  return [`GPU ${gpu.index}`, gpu.drained ? "drained" : "", gpu.healthy ? "" : "not healthy", ...words].filter(Boolean).join(", ");
}

function away(gpu) { return gpu.drained ? "drained" : gpu.healthy ? "" : "not healthy"; }

function drawn(gpu) {
  const figure = draw("svg", { class: "gpu", role: "img", "aria-label": described(gpu), width: "100%", height: 22 }, ...gpu.parts.map((part) => slice(part, gpu.slots)));
  if (away(gpu)) figure.append(draw("rect", { fill: "url(#hatch-drained)", width: "100%", height: 22 }));
  if (away(gpu) && gpu.parts.every((part) => part.state === "free")) {
    figure.append(draw("rect", { class: "plate", x: "50%", y: 3, width: 84, height: 16, transform: "translate(-42 0)" }),
      draw("text", { x: "50%", y: 15, "text-anchor": "middle" }, away(gpu)));
  }
  return figure;
}

function patterns() {
  const pattern = (kind, mark, turn) => draw("pattern", { id: `hatch-${kind}`, width: 6, height: 6, patternUnits: "userSpaceOnUse", ...turn }, mark);
  const turned = { patternTransform: "rotate(45)" };
  return draw("svg", { class: "unseen", width: 0, height: 0, "aria-hidden": "true" }, draw("defs", {},
    pattern("idle", draw("rect", { class: "hatch", width: 2, height: 6 }), turned),
    pattern("drained", draw("path", { class: "hatch", d: "M0 0h6v1h-5v5h-1z" }), turned),
    pattern("other", draw("circle", { class: "hatch", cx: 3, cy: 3, r: 1 }), {})));
}

// ---- the page's part

export function gpus({ call, h, clock, sentences, button, startServer, redraw, said: tell }) {
  const place = document.getElementById("gpus");
  const view = { offers: null, requests: [], leases: [], problem: null, awaited: new Set(), size: 0, minutes: 60, reclaimable: false, advice: null };
  const form = h("div", { class: "gpu-choice" });
  place.before(patterns());

  const sizes = () => [...new Set((view.offers?.pools ?? []).filter((pool) => pool.available)
    .flatMap((pool) => pool.shapes).filter((shape) => shape.total > 0).map(said))].sort((a, b) => parseInt(a) - parseInt(b));
  const waiting = () => view.requests.find((request) => request.server && request.state === "queued");
  const granted = () => view.leases.find((lease) => lease.state === "offered" && lease.on_grant === "hold" && requested(lease)?.server);
  const requested = (lease) => view.requests.find((request) => request.id === lease.request);

  async function refresh() {
    try {
      const [offers, requests, leases] = await Promise.all(["/gpu/offers", "/gpu/requests", "/gpu/leases"].map(async (path) => (await call("GET", path)).json()));
      Object.assign(view, { offers, requests: requests.items, leases: leases.items, problem: null });
    } catch (problem) {
      view.problem = problem;
    }
    const queued = waiting();
    if (queued) view.awaited.add(queued.id);
    show();
    redraw();
    const lease = granted();
    if (lease && view.awaited.delete(lease.request)) await startWith(lease);
  }

  async function act(work) {
    try { await work(); } catch (problem) { view.problem = problem; }
    await refresh();
  }

  // a slice: request → lease → one-time grant → the server starts with it; only one tab does it
  async function startWith(lease) {
    const start = async (lock) => {
      if (!lock) return;
      const { grant } = await (await call("POST", `/gpu/leases/${lease.id}/grant`, { token: lease.token, server: "" })).json();
      tell("Your GPU is there: the server starts.");
      await startServer(grant);
    };
    await act(() => (navigator.locks ? navigator.locks.request("specola-gpu-server", { ifAvailable: true }, start) : start(true)));
  }

  async function ask() {
    const wish = { gib: parseInt(view.size), minutes: view.minutes, server: true, on_grant: "hold", reclaimable: view.reclaimable };
    await act(async () => { view.awaited.add((await (await call("POST", "/gpu/requests", wish)).json()).id); });
  }

  // ---- the choice beside "Start my server"

  async function advise() {
    view.advice = null;
    const asked = [view.size, view.minutes].join();
    if (view.size) {
      const found = await call("GET", `/gpu/advice?gib=${parseInt(view.size)}&minutes=${view.minutes}`).then((answer) => answer.json(), () => null);
      if (asked === [view.size, view.minutes].join()) view.advice = found;
    }
    form.querySelector(".advice").textContent = view.size ? view.advice?.text ?? "" : "";
  }

  function choose(id, label, options, value, change) {
    const menu = h("select", { id, "data-key": id, onchange: (event) => { change(event.target.value); redraw(); advise(); } },
      ...options.map(([one, text]) => h("option", { value: one, selected: String(one) === String(value) ? "" : null }, text)));
    return h("span", {}, h("label", { for: id }, label), " ", menu);
  }

  function choice() {
    const longest = Math.max(60, ...(view.offers?.allowances ?? []).map((one) => one.longest_minutes));
    const lengths = MINUTES.filter((minutes) => minutes <= longest);
    const known = JSON.stringify([sizes(), lengths]);
    if (form.dataset.known !== known) {
      form.dataset.known = known;
      form.replaceChildren(
        choose("gpu-size", "GPU", [["", "none"], ...sizes().map((size) => [size, size])], view.size, (size) => { view.size = size; }),
        choose("gpu-minutes", "for", lengths.map((minutes) => [minutes, span(60 * minutes)]), view.minutes, (minutes) => { view.minutes = Number(minutes); }),
        h("label", { class: "muted" }, h("input", { type: "checkbox", "data-key": "gpu-reclaimable", onchange: (event) => { view.reclaimable = event.target.checked; } }),
          " It may be taken back while it is idle and somebody waits; the server stops then, files stay."),
        h("p", { class: "words muted advice", role: "status" }));
    }
    for (const only of [form.children[1], form.children[2]]) only.hidden = !view.size;
    return sizes().length ? form : null;
  }

  function queued() {
    const request = waiting();
    if (!request) return null;
    const position = request.position ? `Position ${request.position}: ` : "";
    return h("section", { class: "card" },
      h("div", { class: "row" }, h("span", { class: "dot starting", "aria-hidden": "true" }), h("span", { class: "name" }, `Waiting for ${wished(request)}`)),
      h("p", { class: "words" }, `${position}${range(request.wait)}. ${sentences(request.reason)}`),
      h("p", { class: "words muted" }, `Your server starts by itself when it is your turn, as long as this page is open. Else the GPU is held for you ${span(view.offers?.hold ?? 0)}.`),
      h("div", { class: "row actions" }, button(`cancel ${request.id}`, "Cancel", () => act(() => call("DELETE", `/gpu/requests/${request.id}`)))));
  }

  // ---- what I hold, and what there is

  function wished(request) { return `${request.wants[0] ? said(request.wants[0]) : `${request.gib} GB`} for ${span(60 * request.minutes)}`; }

  function held(lease) {
    const where = lease.server !== null ? `your server${lease.server ? ` ${lease.server}` : ""}` : lease.kernel ? "a GPU kernel" : lease.state;
    const time = ["active", "expiring", "offered"].includes(lease.state) && (lease.ends_at ?? lease.expires) ? `, ${span(left(lease))} left` : "";
    const idle = lease.idle_since ? `, idle since ${clock(lease.idle_since)}` : "";
    const renewable = ["active", "expiring"].includes(lease.state);
    const fence = { token: lease.token };
    return h("li", { class: "row" }, h("b", {}, said(lease)), h("span", { class: "muted" }, `${lease.model}${lease.simulated ? " (simulated)" : ""} · ${where}${time}${idle}`), h("span", { class: "grow" }),
      lease.state === "offered" && requested(lease)?.server ? button(`use ${lease.id}`, "Start my server with it", () => startWith(lease), "primary") : null,
      renewable ? button(`renew ${lease.id}`, "Renew", () => act(() => call("POST", `/gpu/leases/${lease.id}/renew`, { ...fence, minutes: requested(lease)?.minutes ?? 60 }))) : null,
      ["ending", "saving"].includes(lease.state) ? null : button(`give ${lease.id}`, "Give back", () => act(() => call("DELETE", `/gpu/leases/${lease.id}?token=${lease.token}`))));
  }

  function asked(request) {
    return h("li", { class: "row" }, h("b", {}, wished(request)), h("span", { class: "muted" }, `${request.position ? `position ${request.position}` : "in the queue"}, ${range(request.wait)}`), h("span", { class: "grow" }),
      button(`cancel ${request.id}`, "Cancel", () => act(() => call("DELETE", `/gpu/requests/${request.id}`))));
  }

  function pool(one) {
    const most = new Map();
    for (const shape of one.shapes) most.set(said(shape), Math.max(shape.free, most.get(said(shape)) ?? 0));
    const free = [...most].filter(([, count]) => count > 0).map(([size, count]) => `${count} × ${size}`);
    const line = !one.available ? one.reason : free.length ? `Free: ${free.join(", or ")}.` : "All in use.";
    return h("div", { class: "pool" },
      h("p", { class: "row" }, h("b", {}, one.model), h("span", { class: "muted" }, one.name), one.simulated ? h("span", { class: "pill" }, "simulated") : null),
      ...one.gpus.slice(0, 16).map(drawn),
      ...one.gpus.filter(away).map((gpu) => h("p", { class: "words muted" }, `GPU ${gpu.index} is ${away(gpu)}${gpu.reason ? `: ${gpu.reason}` : ""}.`)),
      h("p", { class: "words muted" }, `${line}${one.queued ? ` ${one.queued} waiting.` : ""}`));
  }

  function show() {
    const focused = document.activeElement?.dataset?.key;
    const mine = [...view.leases.filter((lease) => !OVER.includes(lease.state)).map(held),
      ...view.requests.filter((request) => request.state === "queued" && !request.server).map(asked)];
    place.replaceChildren(h("h2", { id: "gpus-title" }, "GPUs"),
      ...(view.problem ? [h("p", { class: "notice bad", role: "alert" }, sentences(view.problem.title, view.problem.detail))] : []),
      ...(mine.length ? [h("ul", { class: "mine" }, ...mine)] : []),
      ...(view.offers?.pools ?? []).map(pool));
    if (focused) [...place.querySelectorAll("[data-key]")].find((element) => element.dataset.key === focused)?.focus();
  }

  refresh();
  return { refresh, choice, queued, wanted: () => Boolean(view.size), ask };
}
