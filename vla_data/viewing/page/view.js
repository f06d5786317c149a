// The page of `vla-data view`. Whatever comes from the data is set as text, and never as markup.
"use strict";

const UNDECLARED = 10;  // steps a second that are shown where no rate is declared
const ROWS = 50, AHEAD = 6, KEPT = 160, COLOURS = 8, MAIN = ["action", "observation.state"];
const token = location.pathname.split("/")[1];
const $ = (id) => document.getElementById(id);
const state = { entries: [], shown: [], page: 0, flags: new Set(), episode: null, at: 0, playing: false, turn: 0 };
const images = new Map();

function make(tag, text, kind) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (kind) node.className = kind;
  return node;
}

async function get(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } });
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.error || `${answer.status}`);
  return value;
}

// -- the list -------------------------------------------------------------------------------------

function entryOf(line) {
  const [position, id, steps, task, success, error] = line;
  return { position, id, steps, task, success, error };
}

async function start() {
  const told = await get("episodes.json");
  document.title = `${told.title} · vla-data view`;
  $("title").textContent = told.title;
  state.entries = told.entries.map(entryOf);
  state.flags = new Set(told.flags);
  $("file").textContent = told.file;
  showFlags(told.list);
  filter();
  const first = Number(new URLSearchParams(location.hash.slice(1)).get("episode") || 0);
  if (state.entries.length) open(Math.min(Math.max(first, 0), state.entries.length - 1) || 0);
  follow(told.complete);
}

async function follow(complete) {
  let after = 0;
  while (!complete) {
    await new Promise((done) => setTimeout(done, 700));
    const told = await get(`found.json?after=${after}`);
    after += told.entries.length;
    for (const line of told.entries) state.entries[line[0]] = entryOf(line);
    complete = told.complete;
    if (told.entries.length) filter(true);
    say();
  }
  say();
}

function say() {
  const known = state.entries.filter((entry) => entry.steps !== null).length;
  const all = state.entries.length;
  $("status").textContent = known === all ? `${all} episodes` : `${all} episodes, ${known} of them looked into so far`;
}

const KINDS = {
  all: () => true,
  solved: (entry) => entry.success === true,
  unsolved: (entry) => entry.success === false,
  flagged: (entry) => state.flags.has(entry.position),
  unreadable: (entry) => entry.error !== "",
};
const ORDERS = {
  position: (a, b) => a.position - b.position,
  short: (a, b) => (a.steps ?? Infinity) - (b.steps ?? Infinity) || a.position - b.position,
  long: (a, b) => (b.steps ?? -1) - (a.steps ?? -1) || a.position - b.position,
};

function filter(stay) {
  const words = $("search").value.toLowerCase().trim();
  const kind = KINDS[$("kind").value];
  state.shown = state.entries
    .filter((entry) => kind(entry) && (!words || String(entry.position) === words
      || entry.id.toLowerCase().includes(words) || entry.task.toLowerCase().includes(words)))
    .sort(ORDERS[$("order").value]);
  state.page = stay ? Math.min(state.page, Math.max(0, Math.ceil(state.shown.length / ROWS) - 1)) : 0;
  $("count").textContent = `${state.shown.length} of ${state.entries.length} shown`;
  list();
}

function list() {
  const box = $("list"), focused = document.activeElement?.dataset?.position;
  const rows = state.shown.slice(state.page * ROWS, (state.page + 1) * ROWS);
  box.replaceChildren(...rows.map((entry) => {
    const button = make("button");
    button.type = "button";
    button.dataset.position = entry.position;
    const flag = state.flags.has(entry.position) ? " ⚑ flagged" : "";
    button.append(make("span", `${entry.position} · ${entry.id}${flag}`, "id"));
    const success = entry.success === true ? " · success" : entry.success === false ? " · no success" : "";
    const steps = entry.steps === null ? "not read yet" : `${entry.steps} steps`;
    button.append(make("span", entry.error || `${steps}${success} · ${entry.task}`, "more"));
    if (state.episode && state.episode.position === entry.position) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => open(entry.position));
    const item = make("li");
    item.append(button);
    return item;
  }));
  if (focused !== undefined) box.querySelector(`[data-position="${Number(focused)}"]`)?.focus({ preventScroll: true });
  const pages = Math.max(1, Math.ceil(state.shown.length / ROWS));
  $("page").textContent = `page ${state.page + 1} of ${pages}`;
  $("earlier").disabled = state.page === 0;
  $("later").disabled = state.page + 1 >= pages;
}

function turnPage(by) {
  state.page += by;
  list();
  $("list").scrollTop = 0;
}

// -- flags ----------------------------------------------------------------------------------------

function showFlags(text) {
  $("flags").textContent = text ? `--episodes ${text}` : "none";
}

async function toggleFlag() {
  if (!state.episode) return;
  const wanted = new Set(state.flags), position = state.episode.position;
  if (!wanted.delete(position)) wanted.add(position);
  const answer = await fetch("flags", {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Token": token },
    body: JSON.stringify({ flags: [...wanted] }),
  });
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    $("error").textContent = `The flag was not written: ${told.error || answer.status}`;
    return;
  }
  state.flags = new Set(told.flags);
  showFlags(told.list);
  press();
  filter(true);
}

function press() {
  const flagged = state.episode !== null && state.flags.has(state.episode.position);
  $("flag").setAttribute("aria-pressed", String(flagged));
  $("flag").textContent = flagged ? "Flagged" : "Flag";
}

// -- an episode -----------------------------------------------------------------------------------

async function open(position) {
  const turn = ++state.turn;
  stop();
  let told;
  try {
    told = await get(`episode/${position}`);
  } catch (error) {
    told = { position, error: String(error.message) };
  }
  if (turn !== state.turn) return;
  state.episode = told;
  state.at = 0;
  images.clear();
  history.replaceState(null, "", `#episode=${position}`);
  const entry = state.entries[position];
  $("episode-title").textContent = `${position} · ${entry.id}`;
  $("task").textContent = told.task ?? entry.task;
  $("error").textContent = told.error ?? "";
  $("player").hidden = Boolean(told.error);
  $("charts").replaceChildren();
  $("more").hidden = true;
  $("facts").textContent = "";
  press();
  list();
  if (told.error) return;
  const long = told.fps ? `at ${told.fps} a second, ${(told.steps / told.fps).toFixed(1)} s` : "at no declared rate";
  $("facts").textContent = [`${told.steps} steps ${long}`, told.robot,
    ...told.notes].filter(Boolean).join(" · ");
  $("step").max = String(Math.max(0, told.steps - 1));
  cameras(told);
  strips(told);
  charts(told);
  show(0);
}

function cameras(told) {
  $("cameras").replaceChildren(...told.cameras.map((camera) => {
    const box = make("figure"), picture = make("img");
    picture.alt = `${camera.name}, step 0`;
    picture.width = camera.width;
    picture.height = camera.height;
    box.append(picture, make("figcaption", `${camera.name}, ${camera.width} × ${camera.height}`));
    return box;
  }));
}

function load(camera, step) {
  const path = `frame/${state.episode.position}/${camera}/${step}`;
  let found = images.get(path);
  if (!found) {
    found = new Promise((done) => {
      const picture = new Image();
      picture.onload = () => done(picture);
      picture.onerror = () => done(null);
      picture.src = path;
    });
    images.set(path, found);
    if (images.size > KEPT) images.delete(images.keys().next().value);
  }
  return found;
}

// All cameras change together, once every picture of the step is there.
async function show(step) {
  const told = state.episode, turn = state.turn;
  state.at = step;
  $("step").value = String(step);
  $("at").textContent = `${step} of ${told.steps - 1}` + (told.fps ? `, ${(step / told.fps).toFixed(2)} s` : "");
  for (const draw of state.draws) draw(step);
  const found = await Promise.all(told.cameras.map((_, camera) => load(camera, step)));
  if (turn !== state.turn || step !== state.at) return;
  document.querySelectorAll("#cameras img").forEach((picture, camera) => {
    picture.alt = `${told.cameras[camera].name}, step ${step}${found[camera] ? "" : ", can't be shown"}`;
    if (found[camera]) picture.src = found[camera].src;
    else picture.removeAttribute("src");
  });
  for (let t = step + 1; t <= Math.min(step + AHEAD, told.steps - 1); t++) told.cameras.forEach((_, camera) => load(camera, t));
}

function go(step) {
  if (!state.episode || state.episode.error) return;
  show(Math.min(Math.max(step, 0), state.episode.steps - 1));
}

async function play() {
  if (!state.episode || state.episode.error) return;
  if (state.playing) return stop();
  state.playing = true;
  $("play").textContent = "Pause";
  const turn = state.turn, told = state.episode;
  if (state.at >= told.steps - 1) state.at = -1;
  while (state.playing && turn === state.turn && state.at < told.steps - 1) {
    const begun = performance.now();
    await show(state.at + 1);
    await new Promise((done) => setTimeout(done, Math.max(0, 1000 / (told.fps || UNDECLARED) - (performance.now() - begun))));
  }
  if (turn === state.turn) stop();
}

function stop() {
  state.playing = false;
  $("play").textContent = "Play";
}

function step(by) {
  const at = state.shown.findIndex((entry) => entry.position === state.episode?.position);
  const other = state.shown[at + by];
  if (other) {
    state.page = Math.floor((at + by) / ROWS);
    open(other.position);
  }
}

// -- drawing --------------------------------------------------------------------------------------

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`);
}

function canvas(label, height, seek) {
  const node = make("canvas");
  node.setAttribute("role", "img");
  node.setAttribute("aria-label", label);
  if (seek) {
    const to = (event) => go(Math.floor(event.offsetX / node.clientWidth * state.episode.steps));
    node.addEventListener("pointerdown", (event) => { stop(); to(event); });
    node.addEventListener("pointermove", (event) => { if (event.buttons) to(event); });
  }
  node.brush = () => {
    const ratio = window.devicePixelRatio || 1, wide = node.clientWidth;
    node.width = Math.max(1, Math.round(wide * ratio));
    node.height = Math.round(height * ratio);
    const brush = node.getContext("2d");
    brush.scale(ratio, ratio);
    return [brush, wide];
  };
  return node;
}

function cursor(brush, x, height) {
  brush.fillStyle = colour("ink");
  brush.fillRect(Math.round(x) - 1, 0, 2, height);
}

function strip(title, keys, parts, length, place) {
  const box = make("div", undefined, "strip"), line = make("p", title);
  for (const [kind, text] of keys) line.append(make("span", undefined, `key ${kind}`), text);
  const node = canvas(`${title}: ${keys.map(([, text]) => text).join(", ")}`, 18, place === undefined);
  box.append(line, node);
  state.draws.push((at) => {
    const [brush, wide] = node.brush();
    for (const [start, stop, kind] of parts) {
      brush.fillStyle = colour(kind);
      brush.fillRect(start / length * wide, 0, Math.max((stop - start) / length * wide, 1), 18);
    }
    const where = place === undefined ? at : place(at);
    if (where !== null) cursor(brush, (where + 0.5) / length * wide, 18);
  });
  return box;
}

function runs(values) {
  const out = [];
  values.forEach((kind, t) => {
    const last = out[out.length - 1];
    if (last && last[2] === kind) last[1] = t + 1;
    else out.push([t, t + 1, kind]);
  });
  return out;
}

function shade(title, values, length) {
  const known = values.filter((value) => value !== null);
  const low = Math.min(0, ...known), high = Math.max(0, ...known);
  const box = make("div", undefined, "strip"), line = make("p");
  line.append(title);
  if (low < 0) line.append(make("span", undefined, "key bad"), `below 0, to ${low.toPrecision(3)}`);
  if (high > 0) line.append(make("span", undefined, "key good"), `above 0, to ${high.toPrecision(3)}`);
  const now = make("span");
  line.append(now);
  const node = canvas(`${title} of each step, ${low.toPrecision(3)} to ${high.toPrecision(3)}`, 18, true);
  box.append(line, node);
  state.draws.push((at) => {
    const [brush, wide] = node.brush();
    values.forEach((value, t) => {
      if (value === null) return;
      brush.globalAlpha = 0.15 + 0.85 * Math.abs(value) / (value < 0 ? -low : high || 1);
      brush.fillStyle = colour(value < 0 ? "bad" : "good");
      const from = Math.floor(t / length * wide);
      brush.fillRect(from, 0, Math.max(Math.floor((t + 1) / length * wide) - from, 1), 18);
    });
    brush.globalAlpha = 1;
    cursor(brush, (at + 0.5) / length * wide, 18);
    now.textContent = ` · here ${values[at] === null ? "unknown" : values[at].toPrecision(4)}`;
  });
  return box;
}

function strips(told) {
  state.draws = [];
  const out = [], buckets = told.buckets, values = told.advantages;
  if (told.success) {
    const parts = runs(told.success.map((flag) => (flag ? "good" : "line")));
    out.push(strip("Success", [["good", "yes"], ["line", "no"]], parts, told.steps));
  }
  if (values) {
    if (values.value) out.push(shade(`Value (${values.tag})`, values.value, told.steps));
    if (values.advantage) out.push(shade(`Advantage (${values.tag})`, values.advantage, told.steps));
    if (values.positive) {
      const parts = runs(values.positive.map((flag) => (flag ? "good" : "bad")));
      out.push(strip(`Label (${values.tag})`, [["good", "positive"], ["bad", "negative"]], parts, told.steps));
    }
  }
  if (buckets && buckets.length) {
    const names = [...new Set(buckets.spans.map((span) => span[2]))];
    const parts = buckets.spans.map(([start, stop, kind]) => [start, stop, kind]);
    const same = buckets.kept.length === told.steps;
    out.push(strip(`Frames of the source, ${buckets.source}`, names.map((name) => [name, name]), parts, buckets.length,
      (at) => (same ? buckets.kept[at] : null)));
    const reasons = buckets.spans.filter((span) => span[3]).map(([start, stop, kind, why]) => `${start} to ${stop - 1}: ${kind} by ${why}`);
    if (reasons.length) out.push(make("p", reasons.slice(0, 12).join("; ") + (reasons.length > 12 ? "; ..." : ""), "soft"));
  }
  $("strips").replaceChildren(...out);
}

function charts(told) {
  const first = told.series.filter((series) => MAIN.includes(series.name));
  const main = first.length ? first : told.series.slice(0, 2), rest = told.series.filter((one) => !main.includes(one));
  $("charts").replaceChildren(...main.map((series) => chart(series, told.steps)));
  $("others").replaceChildren(...rest.map((series) => chart(series, told.steps)));
  $("more").hidden = rest.length === 0;
}

function chart(series, steps) {
  const box = make("div", undefined, "chart"), rows = make("table");
  const sparse = series.stride > 1 ? `, every ${series.stride}th step` : "";
  box.append(make("h3", `${series.name}, each number over its own range${sparse}`));
  const ranges = series.values.map((column) => column.reduce(
    ([low, high], value) => (value === null ? [low, high] : [Math.min(low, value), Math.max(high, value)]),
    [Infinity, -Infinity]));
  const node = canvas(`${series.name} over the steps, each number over its own range; the table has the values`, 150, true);
  const cells = series.values.map((_, i) => {
    const row = make("tr"), name = make("th"), value = make("td");
    name.scope = "row";
    name.append(make("span", undefined, `key k${i % COLOURS}`), series.labels[i] || series.name);
    const [low, high] = ranges[i];
    row.append(name, make("td", series.units[i]), value, make("td", low > high ? "" : `${low} to ${high}`, "soft"));
    rows.append(row);
    return value;
  });
  const scroll = make("div", undefined, "scroll");
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", `values of ${series.name}`);
  scroll.append(rows);
  box.append(node, scroll);
  const y = (value, [low, high]) => (high > low ? 145 - (value - low) / (high - low) * 140 : 75);
  state.draws.push((at) => {
    const [brush, wide] = node.brush();
    brush.lineWidth = 1.5;
    series.values.forEach((column, i) => {
      brush.strokeStyle = colour(`c${i % COLOURS}`);
      brush.beginPath();
      let gap = true;
      column.forEach((value, k) => {
        if (value === null) { gap = true; return; }
        const x = (k * series.stride + 0.5) / steps * wide;
        if (gap) brush.moveTo(x, y(value, ranges[i])); else brush.lineTo(x, y(value, ranges[i]));
        gap = false;
      });
      brush.stroke();
      const now = column[Math.floor(at / series.stride)];
      cells[i].textContent = now === null || now === undefined ? "unknown" : String(now);
    });
    cursor(brush, (at + 0.5) / steps * wide, 150);
  });
  return box;
}

function redraw() {
  if (state.episode && !state.episode.error) for (const draw of state.draws) draw(state.at);
}

// -- hands ----------------------------------------------------------------------------------------

state.draws = [];
$("filters").addEventListener("submit", (event) => event.preventDefault());
for (const id of ["search", "kind", "order"]) $(id).addEventListener("input", () => filter());
$("earlier").addEventListener("click", () => turnPage(-1));
$("later").addEventListener("click", () => turnPage(1));
$("previous").addEventListener("click", () => step(-1));
$("next").addEventListener("click", () => step(1));
$("back").addEventListener("click", () => { stop(); go(state.at - 1); });
$("forward").addEventListener("click", () => { stop(); go(state.at + 1); });
$("play").addEventListener("click", play);
$("flag").addEventListener("click", toggleFlag);
$("step").addEventListener("input", () => { stop(); go(Number($("step").value)); });
const KEYS = {
  " ": play,
  ArrowLeft: () => { stop(); go(state.at - 1); },
  ArrowRight: () => { stop(); go(state.at + 1); },
  n: () => step(1),
  p: () => step(-1),
  f: toggleFlag,
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, .scroll")) return;
  if (event.key === " " && event.target.closest("button")) return;
  const deed = KEYS[event.key];
  if (deed) { event.preventDefault(); deed(); }
});
$("more").addEventListener("toggle", redraw);
window.addEventListener("resize", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
start().catch((error) => { $("status").textContent = `The list can't be read: ${error.message}`; });
