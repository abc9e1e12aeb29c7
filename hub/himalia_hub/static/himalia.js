// What makes the pages live. Everything here only upgrades what works without it.
"use strict";

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const say = (text) => { $("[data-say]").textContent = text; };
const later = (ms) => new Promise((done) => setTimeout(done, ms));
const away = (answer) => !answer || [502, 503, 504].includes(answer.status); // the hub, not what it says
const proof = { "X-XSRFToken": document.body.dataset.xsrf };

// ---- times that stay true: the same words as pages/words.py
const UNITS = [[86400, "d"], [3600, "h"], [60, "min"]];
function span(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.floor(seconds))} s`;
  const at = UNITS.findIndex(([size]) => seconds >= size), [size, unit] = UNITS[at], next = UNITS[at + 1];
  const rest = next ? Math.floor((seconds % size) / next[0]) : 0;
  return `${Math.floor(seconds / size)} ${unit}` + (rest ? ` ${rest} ${next[1]}` : "");
}
function ago(seconds) {
  const [size, unit] = UNITS.find(([least]) => seconds >= least) ?? [];
  return size ? `${Math.floor(seconds / size)} ${unit} ago` : "just now";
}
setInterval(() => {
  const age = (time) => (Date.now() - Date.parse(time.dateTime)) / 1000;
  for (const time of $$("time[data-span]")) time.textContent = span(age(time));
  for (const time of $$("time[data-until]")) time.textContent = age(time) > -60 ? "any moment" : `in ${span(-age(time))}`;
  for (const time of $$("time[data-ago]")) if (age(time) < 30 * 86400) time.textContent = ago(age(time));
}, 15000);

// ---- a part of the page that is fetched again while something in it moves, and only then
async function refresh(part, url = part.dataset.fragment, more = {}) {
  const answer = await fetch(url, { ...more, headers: { ...proof, "X-Himalia-Fragment": "1" } }).catch(() => null);
  if (away(answer)) throw new Error("The hub does not answer. Try again in a moment.");
  if (answer.status === 403 && !more.method) return location.reload(); // signed out meanwhile
  const text = await answer.text();
  if (!answer.ok) throw new Error(text.trim());
  show(part, text);
}
function show(part, html) {
  const fresh = new DOMParser().parseFromString(html, "text/html").body.firstElementChild;
  const focused = document.activeElement?.id;
  const before = new Map($$("[data-state]", part).map((row) => [named(row), row.dataset.state]));
  part.replaceChildren(fresh);
  part.dataset.live = fresh.dataset.live;
  document.body.dataset.rev = fresh.dataset.rev;
  refocus(focused);
  for (const row of $$("[data-state]", part)) {
    const state = before.get(named(row));
    if (state && state !== row.dataset.state) say(`${named(row)}: ${$(".state", row).textContent}`);
  }
}
// Who works by keyboard goes on where they were: a replaced or disabled element has lost the focus.
const refocus = (id) => { if (id && document.activeElement === document.body) document.getElementById(id)?.focus(); };
const named = (row) => row.dataset.user ? `${row.dataset.user} ${row.dataset.server}`.trim() : $("h2", row).textContent;
async function follow(part) {
  for (;;) {
    await later(2000);
    if (part.dataset.live !== "yes" || document.hidden) continue;
    await refresh(part).then(() => part.classList.remove("stale"), () => part.classList.add("stale"));
  }
}
document.addEventListener("submit", async (event) => {
  const form = event.target.closest("form[data-live-form]");
  if (!form) return;
  event.preventDefault();
  if (form.dataset.ask && !window.confirm(form.dataset.ask)) return;
  const button = $("button", form), problem = $("[data-problem]", form.closest("[data-state]"));
  const body = new URLSearchParams(new FormData(form));
  button.disabled = true;
  try {
    await refresh(form.closest("[data-fragment]"), form.action, { method: "POST", body });
    refocus(button.id);
  } catch (error) {
    button.disabled = problem.hidden = false;
    problem.textContent = error.message;
  }
});

// ---- the progress of a start or stop
function progress(panel) {
  const source = new EventSource(panel.dataset.progress), lost = $("[data-lost]", panel);
  source.onopen = () => { lost.hidden = true; };
  source.onmessage = (event) => {
    const news = JSON.parse(event.data), ended = news.ready || news.failed;
    if (ended) source.close();
    if (panel.dataset.mode === "start" && news.ready) {
      say("Your server is ready.");
      location.replace(panel.dataset.after || news.url); // Back must not lead here again
    } else if (ended) location.reload();
    else if (panel.dataset.mode === "start") step(panel, event.lastEventId, news);
  };
  source.onerror = async () => {
    lost.hidden = false;
    if (source.readyState !== EventSource.CLOSED) return; // it reconnects by itself
    // Refused for good: the hub was away, or there is nothing to follow any more. The page itself knows which.
    for (let wait = 1000; ; wait = Math.min(wait * 1.5, 8000)) {
      await later(wait);
      if (!away(await fetch(location.href, { headers: proof, redirect: "manual" }).catch(() => null))) return location.reload();
    }
  };
  addEventListener("pagehide", () => source.close());
}
function step(panel, id, news) {
  const steps = $("[data-steps]", panel), last = steps.lastElementChild, bar = $("progress", panel), queue = $("[data-place]", panel);
  if (!(queue.hidden = !news.place)) return void (queue.lastElementChild.textContent = news.message);
  if ($$("li", steps).some((item) => item.dataset.id === id)) return; // the page was drawn with it
  const [item, text, time] = ["li", "span", "time"].map((tag) => document.createElement(tag));
  item.dataset.id = id;
  text.textContent = news.message;
  time.dateTime = news.at;
  time.textContent = `${((Date.parse(news.at) - Date.parse($("time", steps)?.dateTime || news.at)) / 1000).toFixed(1)} s`;
  last?.removeAttribute("aria-current");
  item.setAttribute("aria-current", "step");
  item.append($("template", panel).content.cloneNode(true), text, time);
  steps.append(item);
  bar.value = Math.max(bar.value, news.progress);
  document.body.dataset.rev = id;
  say(news.message);
}

// ---- small things
for (const button of $$("[data-show]")) {
  const input = document.getElementById(button.dataset.show);
  button.hidden = false;
  button.onclick = () => {
    input.type = input.type === "password" ? "text" : "password";
    button.setAttribute("aria-pressed", String(input.type === "text"));
  };
  input.form.addEventListener("submit", () => { input.type = "password"; }); // or browsers keep it as a search term
}
for (const button of $$("[data-copy]")) {
  button.hidden = !navigator.clipboard;
  button.onclick = async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    say(button.textContent = "Copied");
  };
}
for (const text of $$("[data-countdown]")) {
  const words = text.textContent, ends = Date.now() + text.dataset.countdown * 1000;
  const tick = setInterval(() => {
    const left = Math.ceil((ends - Date.now()) / 1000);
    text.textContent = left > 0 ? words.replace(/\d+/, left) : text.dataset.over;
    if (left > 0) return;
    clearInterval(tick);
    if (text.closest("[data-retry]")) location.reload();
  }, 250);
}
$$("[data-progress]").forEach(progress);
$$("[data-fragment]").forEach(follow);
document.body.dataset.ready = "yes";
