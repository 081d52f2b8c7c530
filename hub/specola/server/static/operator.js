// Keeps the operators' page of GPUs fresh, and drains a GPU: the page itself is drawn by the server only.
const xsrf = document.querySelector("meta[name=xsrf]").content;
const api = document.querySelector("meta[name=api]").content;
const live = document.getElementById("live");
const banner = document.getElementById("banner");

function say(text) {
  const line = document.createElement("p");
  line.className = "notice bad";
  line.textContent = text;
  banner.replaceChildren(...(text ? [line] : []));
}

async function refresh() {
  try {
    const answer = await fetch(location.href, { cache: "no-store", headers: { "X-XSRFToken": xsrf } });
    if (!answer.ok) throw new Error();
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("live");
    const focused = document.activeElement?.id;
    live.replaceChildren(...fresh.childNodes);
    if (focused) document.getElementById(focused)?.focus();
    say("");
  } catch {
    say("The facility does not answer, or your login has ended. Trying again every few seconds.");
  }
}

live.addEventListener("click", async ({ target }) => {
  const { pool, gpu, drained } = target.dataset;
  if (!pool) return;
  target.disabled = true;
  const path = `${api}/gpu/drains/${encodeURIComponent(pool)}/${encodeURIComponent(gpu)}`;
  const headers = { "X-XSRFToken": xsrf, "Content-Type": "application/json" };
  const change = drained ? { method: "DELETE", headers } : { method: "PUT", headers, body: JSON.stringify({ reason: "by the operator" }) };
  const answer = await fetch(path, change).catch(() => null);
  await refresh();
  if (!answer?.ok) say((await answer?.json().catch(() => null))?.title ?? "That was not done: the facility does not answer.");
});

setInterval(() => { if (!document.hidden) refresh(); }, 5000);
