// What makes the pages live. Everything here only upgrades what works without it.
"use strict";

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const say = (text) => { $("[data-say]").textContent = text; };
const later = (ms) => new Promise((done) => setTimeout(done, ms));
const DOWN = [502, 503, 504];

// ---- times that stay true: the same words as pages/words.py
const UNITS = [[86400, "d"], [3600, "h"], [60, "min"]];
function span(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.floor(seconds))} s`;
  const at = UNITS.findIndex(([size]) => seconds >= size);
  const [size, unit] = UNITS[at];
  const rest = UNITS[at + 1] ? Math.floor((seconds % size) / UNITS[at + 1][0]) : 0;
  return `${Math.floor(seconds / size)} ${unit}` + (rest ? ` ${rest} ${UNITS[at + 1][1]}` : "");
}
function ago(seconds) {
  if (seconds < 60) return "just now";
  const [size, unit] = UNITS.find(([least]) => seconds >= least);
  return `${Math.floor(seconds / size)} ${unit} ago`;
}
function times() {
  const age = (time) => (Date.now() - Date.parse(time.dateTime)) / 1000;
  for (const time of $$("time[data-span]")) time.textContent = span(age(time));
  for (const time of $$("time[data-ago]")) if (age(time) < 30 * 86400) time.textContent = ago(age(time));
}

// ---- a part of the page that is fetched again while something in it moves, and only then
async function refresh(part, request = {}) {
  const headers = { "X-Himalia-Fragment": "1", "X-XSRFToken": document.body.dataset.xsrf };
  const answer = await fetch(request.url || part.dataset.fragment, { ...request, headers });
  const text = await answer.text();
  if (answer.status === 403 && !request.method) return location.reload();
  if (!answer.ok) throw new Error(DOWN.includes(answer.status) ? "" : text.trim());
  show(part, text);
}
function show(part, html) {
  const parsed = new DOMParser().parseFromString(html, "text/html").body.firstElementChild;
  const before = new Map($$("[data-state]", part).map((row) => [rowKey(row), row.dataset.state]));
  const focused = document.activeElement?.id;
  part.replaceChildren(parsed);
  part.dataset.live = parsed.dataset.live;
  document.body.dataset.rev = parsed.dataset.rev;
  if (focused && document.activeElement === document.body) document.getElementById(focused)?.focus();
  for (const row of $$("[data-state]", part)) {
    const key = rowKey(row);
    if (before.has(key) && before.get(key) !== row.dataset.state) say(`${key}: ${$(".state", row).textContent}`);
  }
}
const rowKey = (row) => row.dataset.user ? `${row.dataset.user} ${row.dataset.server}`.trim() : $("h2", row).textContent;
async function follow(part) {
  for (;;) {
    await later(part.dataset.live === "yes" ? 2000 : 500);
    if (part.dataset.live !== "yes" || document.hidden) continue;
    try {
      await refresh(part);
      part.classList.remove("stale");
    } catch { part.classList.add("stale"); } // the hub is away: what is shown is old, the next round asks again
  }
}
document.addEventListener("submit", async (event) => {
  const form = event.target.closest("form[data-live-form]");
  if (!form) return;
  event.preventDefault();
  if (form.dataset.ask && !window.confirm(form.dataset.ask)) return;
  const part = form.closest("[data-fragment]"), row = form.closest("[data-state]"), button = $("button", form);
  const body = new URLSearchParams(new FormData(form));
  button.disabled = true;
  try {
    await refresh(part, { url: form.action, method: "POST", body });
  } catch (error) {
    button.disabled = false;
    const where = $("[data-problem]", row);
    where.textContent = error.message || "The hub did not answer. Try again in a moment.";
    where.hidden = false;
  }
});

// ---- the progress of a start or stop
function progress(panel) {
  const source = new EventSource(panel.dataset.progress);
  const line = $("[data-line]", panel), bar = $("progress", panel), steps = $("[data-steps]", panel);
  source.onopen = () => { line.hidden = true; };
  source.onmessage = (event) => {
    const news = JSON.parse(event.data);
    line.hidden = true;
    if (panel.dataset.mode === "stop") { if (news.ready || news.failed) location.reload(); return; }
    bar.value = Math.max(bar.value, news.progress);
    if (news.ready) {
      source.close();
      say("Your server is ready.");
      location.replace(panel.dataset.after || news.url);
    } else if (news.failed) {
      source.close();
      location.reload();
    } else if (!$(`[data-id="${CSS.escape(event.lastEventId)}"]`, steps)) {
      step(steps, event.lastEventId, news);
    }
  };
  source.onerror = async () => {
    line.hidden = false;
    if (source.readyState !== EventSource.CLOSED) return; // it reconnects by itself
    // Refused for good: the hub was away, or there is nothing to follow any more. The page itself knows.
    for (let wait = 1000; ; wait = Math.min(wait * 1.5, 8000)) {
      await later(wait);
      const answer = await fetch(location.href, { headers: { "X-XSRFToken": document.body.dataset.xsrf } }).catch(() => null);
      if (answer && !DOWN.includes(answer.status)) return location.reload();
    }
  };
  addEventListener("pagehide", () => source.close());
}
function step(steps, id, news) {
  const last = steps.lastElementChild, first = $("time", steps);
  const item = document.createElement("li"), text = document.createElement("span"), time = document.createElement("time");
  item.dataset.id = id;
  text.textContent = news.message;
  time.dateTime = news.at || new Date().toISOString();
  time.textContent = `${(Math.max(0, Date.parse(time.dateTime) - Date.parse((first || time).dateTime)) / 1000).toFixed(1)} s`;
  last?.removeAttribute("aria-current");
  item.setAttribute("aria-current", "step");
  if (last) item.append($(".icon", last).cloneNode(true));
  item.append(text, time);
  steps.append(item);
  document.body.dataset.rev = id;
  say(news.message);
}

// ---- small things
for (const button of $$("[data-show]")) {
  const input = document.getElementById(button.dataset.show);
  button.hidden = false;
  button.onclick = () => {
    const shown = input.type === "password";
    input.type = shown ? "text" : "password";
    button.setAttribute("aria-pressed", String(shown));
  };
  input.form.addEventListener("submit", () => { input.type = "password"; });
}
for (const button of $$("[data-copy]")) {
  button.hidden = !navigator.clipboard;
  button.onclick = async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
    say("Copied");
  };
}
for (const text of $$("[data-countdown]")) {
  let left = Number(text.dataset.countdown);
  const words = text.textContent;
  const tick = setInterval(() => {
    left -= 1;
    text.textContent = left > 0 ? words.replace(/\d+/, left) : text.dataset.over;
    if (left > 0) return;
    clearInterval(tick);
    if (text.closest("[data-retry]")) location.reload();
  }, 1000);
}
for (const panel of $$("[data-progress]")) progress(panel);
for (const part of $$("[data-fragment]")) follow(part);
setInterval(times, 15000);
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
document.body.dataset.ready = "yes";
