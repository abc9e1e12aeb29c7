// What makes the pages live. Everything here only upgrades what works without it.
"use strict";

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const say = (text) => { $("[data-say]").textContent = text; };
const later = (ms) => new Promise((done) => setTimeout(done, ms));
const away = (answer) => !answer || [502, 503, 504].includes(answer.status); // the hub, not what it says
const WORDS = JSON.parse(document.body.dataset.words); // in the reader's language
const word = (name, holes = {}) => WORDS[name].replace(/%\((\w+)\)s/g, (_, hole) => holes[hole]);
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
  return size ? word("ago", { span: `${Math.floor(seconds / size)} ${unit}` }) : word("now");
}
setInterval(() => {
  const age = (time) => (Date.now() - Date.parse(time.dateTime)) / 1000;
  for (const time of $$("time[data-span]")) time.textContent = span(age(time));
  for (const time of $$("time[data-until]")) time.textContent = age(time) > -60 ? word("soon") : word("in", { span: span(-age(time)) });
  for (const notice of $$("[data-soon][hidden]")) if (Date.parse(notice.dataset.soon) - Date.now() < 300000) {
    notice.hidden = false;
    say(`${named(notice.closest("[data-state]"))}: ${notice.textContent.trim()}`);
  }
  for (const time of $$("time[data-ago]")) if (age(time) < 30 * 86400) time.textContent = ago(age(time));
}, 15000);

// ---- a part of the page that is fetched again while something in it moves, and only then
async function refresh(part, url = part.dataset.fragment, more = {}) {
  const answer = await fetch(url, { ...more, headers: { ...proof, "X-Himalia-Fragment": "1" } }).catch(() => null);
  if (away(answer)) throw new Error(word("away"));
  if (answer.status === 403 && !more.method) return location.reload(); // signed out meanwhile
  const text = await answer.text();
  if (!answer.ok) throw new Error(text.trim());
  if (text.includes('class="ask"')) return ask(text);
  $("#dialog")?.close();
  show(part, text);
}
function show(part, html) {
  const fresh = parsed(html), { live, rev } = fresh.dataset, focused = document.activeElement?.id;
  const before = new Map($$("[data-state]", part).map((row) => [named(row), row.dataset.state]));
  renew(part.firstElementChild, fresh);
  [part.dataset.live, document.body.dataset.rev] = [live, rev];
  refocus(focused);
  for (const row of $$("[data-state]", part)) if (![row.dataset.state, undefined].includes(before.get(named(row)))) told(row, named(row));
}
function told(row, who) { // its state is another: what went wrong before does not matter any more
  say(`${who}: ${$(".state", row)?.textContent ?? row.dataset.state}`);
  $("[data-problem]", row).hidden = true;
}
// Only what differs is changed: a press that has begun, the focus, an open menu and a half-made choice stay. What would
// do another thing is another, so that a press on "Stop" is lost rather than taken for one on "Start".
const MEANS = ["id", "href", "action", "formaction", "name", "type", "data-server", "hx-get", "hx-post"];
const VIEWERS = ["open", "checked", "selected"]; // what only who looks at the page changes
const means = (one) => one.attributes ? JSON.stringify([one.localName, one.classList[0], one.matches("option, button") && one.value,
  ...MEANS.map((name) => one.getAttribute(name))]) : one.nodeName;
function renew(old, fresh) {
  if (means(old) !== means(fresh)) { old.replaceWith(fresh); return fresh; }
  if (old.isEqualNode(fresh) || old.matches?.("[data-keep], [data-problem]")) return old;
  if (!old.attributes) { old.data = fresh.data; return old; }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name) && !VIEWERS.includes(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value && !VIEWERS.includes(name)) old.setAttribute(name, value);
  const children = [...fresh.childNodes], wanted = children.map(means);
  let at = old.firstChild;
  for (const [number, child] of children.entries()) {
    let same = at;
    while (same && means(same) !== wanted[number] && !(same.attributes && wanted.includes(means(same), number))) same = same.nextSibling;
    if (!same || means(same) !== wanted[number]) { old.insertBefore(child, at); continue; }
    while (at !== same) { at = at.nextSibling; at.previousSibling.remove(); }
    at = same.nextSibling;
    renew(same, child);
  }
  while (at && old.lastChild !== at) old.lastChild.remove();
  return at?.remove(), old;
}
// Who works by keyboard goes on where they were: a replaced or disabled element has lost the focus.
const refocus = (id) => { if (id && document.activeElement === document.body) document.getElementById(id)?.focus(); };
const parsed = (html) => Object.assign(document.createElement("template"), { innerHTML: html }).content.firstElementChild;
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
  const button = event.submitter ?? $("button", form), problem = $("[data-problem]", form.closest("[data-state], dialog"));
  const body = new URLSearchParams(new FormData(form));
  button.disabled = true;
  try {
    await refresh($("[data-fragment]"), form.action, { method: "POST", body });
    button.disabled = false;
    refocus(button.id);
  } catch (error) {
    button.disabled = problem.hidden = false;
    problem.textContent = error.message;
  }
});

// ---- questions
function ask(html) {
  if (html) $("#ask").innerHTML = html;
  if (!$("#dialog").open) show_modal($("#dialog"));
}
function show_modal(dialog) {
  // Closing gives the focus back by itself, but not to a row that was replaced meanwhile.
  const from = document.activeElement, id = from.id || from.closest("[id]")?.id;
  dialog.addEventListener("close", () => {
    if (dialog.contains(document.activeElement)) document.activeElement.blur();
    refocus(id);
  }, { once: true });
  dialog.showModal();
}
document.addEventListener("click", (event) => {
  const closes = event.target.closest("dialog [data-close]");
  if (closes) { event.preventDefault(); closes.closest("dialog").close(); }
  if (event.target.matches("[data-dismiss]")) event.target.closest(".job").remove();
  if (event.target.matches("[data-help]")) show_modal($("#help"));
});

// ---- one stream of events: what changes elsewhere shows here
function stream(root) {
  const mark = $("[data-mark]"), list = () => $("#list");
  let source, silence, again, failures = 0, last = "";
  const say_state = (state) => {
    document.body.dataset.live = state;
    if (mark) { mark.hidden = false; mark.dataset.mark = state; $("[data-mark-text]").textContent = word(state); }
    online();
  };
  const reread = async () => {
    const answer = await fetch(root.dataset.again + location.search, { headers: { ...proof, "X-Himalia-Fragment": "1" } }).catch(() => null);
    if (away(answer)) return false;
    if (answer.status === 403) location.reload(); // signed out meanwhile
    else if (list()) merge(await answer.text()); else show(root, await answer.text());
    return true;
  };
  const heard = (event) => {
    clearTimeout(silence);
    silence = setTimeout(lost, 25000);
    failures = 0;
    if (event.lastEventId) last = event.lastEventId;
  };
  const on = {
    hello: () => say_state("live"),
    beat: (event) => { document.body.dataset.rev = event.lastEventId; },
    row: (event) => patch(event.data),
    use: (event) => used(JSON.parse(event.data)),
    gone: (event) => gone(event.data),
    counts: (event) => { for (const [name, count] of Object.entries(JSON.parse(event.data))) { const chip = $(`[data-count="${name}"]`); if (chip) chip.textContent = count; } },
    cards: (event) => show(root, event.data),
    banner: (event) => { if ($("#notices")) renew($("#notices"), parsed(event.data)); }, // read out only when it is news
    resync: reread,
    out: () => location.reload(),
  };
  function open() {
    clearTimeout(again);
    const query = new URLSearchParams({ _xsrf: document.body.dataset.xsrf, after: last, at: last ? "" : (list() ?? root).dataset.at });
    source = new EventSource(`${root.dataset.events}?${query}`);
    for (const [kind, act] of Object.entries(on)) source.addEventListener(kind, (event) => { heard(event); act(event); });
    source.onerror = lost;
  }
  async function lost() {
    source?.close();
    clearTimeout(silence);
    failures += 1;
    // A proxy that swallows streams still answers pages: then the list is read every ten seconds.
    if (failures > 3 && await reread()) say_state("polling"); else say_state("reconnecting");
    clearTimeout(again);
    again = setTimeout(open, (failures > 3 ? 10000 : 1000) * (0.5 + Math.random())); // hundreds that lost it together come apart
  }
  addEventListener("offline", lost);
  addEventListener("online", open);
  addEventListener("pagehide", () => { source?.close(); clearTimeout(again); });
  addEventListener("pageshow", (event) => { if (event.persisted) open(); });
  open();
}
function online() {
  const off = document.body.dataset.live === "reconnecting";
  for (const set of $$("[data-online]")) set.disabled = off;
}

// ---- the administrators' list
const moved = new Set();
function patch(html) {
  const fresh = parsed(html), old = document.getElementById(fresh.id), list = $("#list");
  if (!old) { if (list.dataset.moves === "yes" || !$(".pages", list)) note(fresh.id); return; }
  const active = old.contains(document.activeElement) && document.activeElement;
  const way = active && (active.id === old.id ? null : active.id ? `#${active.id}` : active.localName), { state } = old.dataset;
  old.classList.remove("gone");
  renew(old, fresh);
  window.htmx?.process(old);
  if (active && !old.contains(document.activeElement)) ((way && $(`${way}:not(:disabled)`, old)) || old).focus({ preventScroll: true });
  if (state !== old.dataset.state) {
    told(old, old.dataset.name);
    if (list.dataset.moves === "yes") note(old.id);
  }
  picked();
}
function used(figures) { // as often as they are measured, so nothing is announced and no row replaced
  for (const [id, words] of Object.entries(figures)) {
    const row = document.getElementById(id);
    for (const part of row ? $$("[data-use]", row) : []) {
      if (part.dataset.use === "chart") part.innerHTML = words.chart; else part.textContent = words[part.dataset.use] ?? word("unknown");
    }
  }
}
function gone(id) {
  const row = document.getElementById(id);
  if (!row) return;
  row.classList.add("gone");
  for (const input of $$("input, button", row)) { input.checked = false; input.disabled = true; }
  note(id);
  picked();
}
function note(id) {
  moved.add(id);
  const box = $("[data-moved]");
  if (!box) return;
  box.hidden = false;
  $("[data-moved-text]").textContent = word(moved.size === 1 ? "moved" : "moved_many", { count: moved.size });
}
function merge(html) { // the same list read anew: row by row, so that nothing moves under the pointer
  const fresh = new DOMParser().parseFromString(html, "text/html"), list = $("#list");
  const rows = new Map($$("tr[data-row]", fresh).map((row) => [row.id, row]));
  if (!rows.size || !$("tr[data-row]", list)) { list.replaceWith($("#list", fresh)); window.htmx?.process($("#list")); return relist(); }
  for (const row of $$("tr[data-row]", list)) if (!rows.has(row.id)) gone(row.id);
  for (const row of rows.values()) if (document.getElementById(row.id)?.outerHTML !== row.outerHTML) patch(row.outerHTML);
  for (const chip of $$("[data-count]", fresh)) $(`[data-count="${chip.dataset.count}"]`, list).textContent = chip.textContent;
  list.dataset.at = $("#list", fresh).dataset.at;
}
function picked() {
  const bar = $("[data-bulk]"), page = $("[data-page]");
  if (!bar) return;
  const rows = $$("tr[data-row]"), chosen = rows.filter((row) => $("input", row)?.checked), all = $("[data-all]")?.checked;
  const count = all ? Number($("#list").dataset.total) : chosen.length;
  bar.classList.toggle("on", count > 0);
  $("[data-picked]", bar).textContent = count ? word("picked", { count }) : word("none");
  for (const button of $$("[data-act]", bar)) {
    const able = chosen.some((row) => row.dataset.can.split(" ").includes(button.dataset.act));
    button.disabled = !(all || able);
  }
  page.hidden = false;
  page.checked = rows.length > 0 && chosen.length === rows.length;
  page.indeterminate = chosen.length > 0 && chosen.length < rows.length;
}
function choose(rows, yes) {
  for (const row of rows) { const box = $("input", row); if (box && !box.disabled) box.checked = yes; }
  if (!yes && $("[data-all]")) $("[data-all]").checked = false;
  picked();
}
function relist() {
  const list = $("#list");
  if (!list) return;
  if (document.body.dataset.rev !== list.dataset.rev) moved.clear();
  document.body.dataset.rev = list.dataset.rev;
  const box = $("#q"), sort = $("#find-sort");
  if (box !== document.activeElement) box.value = list.dataset.q;
  sort.value = list.dataset.sort;
  sort.disabled = sort.value === "user";
  online();
  picked();
}
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-page]")) choose($$("tr[data-row]"), event.target.checked);
  else if (event.target.matches("[data-all]") && event.target.checked) choose($$("tr[data-row]"), true);
  else if (event.target.closest("tr[data-row]") || event.target.matches("[data-all]")) picked();
});
document.addEventListener("keydown", (event) => {
  if (!$("#list") || event.ctrlKey || event.metaKey || event.altKey || $("dialog[open]")) return;
  if (event.target.closest("input:not([type=checkbox]), textarea, select")) return; // there they are letters
  const rows = $$("tr[data-row]"), row = event.target.closest("tr[data-row]"), at = rows.indexOf(row);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1 }[event.key];
  if (event.key === "/") $("#q").focus();
  else if (event.key === "?") show_modal($("#help"));
  else if (to !== undefined && rows.length) rows[Math.max(0, Math.min(to, rows.length - 1))].focus();
  else if (event.key === " " && row === event.target) choose([row], !$("input", row)?.checked);
  else if (event.key === "Escape") return choose(rows, false);
  else return;
  event.preventDefault();
});
// htmx sends the forms; what it cannot know is how a row is replaced, and where a refusal belongs.
document.addEventListener("htmx:configRequest", (event) => Object.assign(event.detail.headers, proof));
document.addEventListener("htmx:beforeSwap", (event) => {
  const { target, xhr, serverResponse } = event.detail;
  if (xhr.status !== 200 || !target.matches("tr[data-row], .job")) return;
  event.detail.shouldSwap = false;
  if (target.matches("tr")) return patch(serverResponse);
  window.htmx.process(renew(target, parsed(serverResponse))), dismissable();
});
document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id === "ask") ask();
  if (event.detail.target.id === "job") { $("#dialog")?.close(); choose($$("tr[data-row]"), false); }
  dismissable();
});
const dismissable = () => { for (const button of $$("[data-dismiss]")) button.hidden = false; };
document.addEventListener("htmx:afterSettle", relist);
for (const kind of ["htmx:responseError", "htmx:sendError"]) document.addEventListener(kind, (event) => {
  const { xhr, elt } = event.detail, answered = kind === "htmx:responseError" && !away(xhr);
  if (answered && xhr.status === 403 && event.detail.requestConfig.verb === "get") return location.reload();
  const place = $("[data-problem]", elt.closest("tr[data-row]") ?? undefined) ?? $("[data-problem]");
  place.textContent = answered ? xhr.responseText.trim() : word("away");
  place.hidden = false;
});

// ---- the progress of a start or stop
function progress(panel) {
  const source = new EventSource(panel.dataset.progress), lost = $("[data-lost]", panel);
  source.onopen = () => { lost.hidden = true; };
  source.onmessage = (event) => {
    const news = JSON.parse(event.data), ended = news.ready || news.failed;
    if (ended) source.close();
    if (panel.dataset.mode === "start" && news.ready) {
      say(word("ready"));
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
  text.translate = news.phase !== "building"; // an installer's own words
  time.dateTime = news.at;
  time.textContent = `${((Date.parse(news.at) - Date.parse($("time", steps)?.dateTime || news.at)) / 1000).toFixed(1)} s`;
  last?.removeAttribute("aria-current");
  item.setAttribute("aria-current", "step");
  item.append($("template", panel).content.cloneNode(true), text, time);
  steps.append(item);
  bar.value = Math.max(bar.value, news.progress);
  document.body.dataset.rev = id;
  if (text.translate) say(news.message);
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
    say(button.textContent = word("copied"));
  };
}
for (const text of $$("[data-countdown]")) {
  const words = text.textContent, ends = Date.now() + text.dataset.countdown * 1000;
  const tick = setInterval(() => {
    const left = Math.ceil((ends - Date.now()) / 1000);
    text.textContent = left === 1 ? text.dataset.one : left > 0 ? words.replace(/\d+/, left) : text.dataset.over;
    if (left > 0) return;
    clearInterval(tick);
    if (text.closest("[data-retry]")) location.reload();
  }, 250);
}
async function wait_for_hub(panel) { // it may answer for a moment still: first it must be gone
  for (let gone = false; ; await later(1000)) {
    const answer = await fetch(panel.dataset.down, { headers: proof, redirect: "manual" }).catch(() => null);
    if (away(answer)) gone = true; else if (gone) return location.replace(panel.dataset.down);
  }
}
$$("[data-down]").forEach(wait_for_hub);
$$("[data-progress]").forEach(progress);
$$("[data-fragment]:not([data-events])").forEach(follow);
$$("[data-events]").forEach(stream);
$(".tabs [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
relist();
document.body.dataset.ready = "yes";
