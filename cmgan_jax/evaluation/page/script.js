"use strict";
// The page's data is the JSON in #data; each file's audio and images wait in #media-N until it is opened.
// Every name is put into the page as text, never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const metrics = new Map(data.metrics.map((metric) => [metric.key, metric]));
const $ = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function shown(key, value, sign = false) {
  if (value === null || value === undefined) return "–";
  const text = Math.abs(value).toFixed(metrics.get(key).digits);
  return (value < 0 ? "−" : sign ? "+" : "") + text;
}

function verdict(key, change) {
  if (!change || Number(Math.abs(change).toFixed(metrics.get(key).digits)) === 0) return "";
  return change > 0 !== metrics.get(key).lower ? "better" : "worse";
}

const titled = (metric) => metric.label + (metric.unit ? ` (${metric.unit})` : "") + (metric.lower ? " ↓" : "");

// ---------------------------------------------------------------------------------------------- summary and groups

function statisticCell(key, of) {
  if (!of || of.mean === null) return make("td", {}, "–");
  const cell = make("td", {}, make("span", {}, shown(key, of.mean)));
  if (of.std !== null) {
    cell.append(make("small", {}, make("span", {}, `± ${shown(key, of.std)}`), " ", make("span", {}, `[${shown(key, of.low)}, ${shown(key, of.high)}]`)));
  }
  return cell;
}

function gainCell(key, of) {
  if (!of || of.mean === null) return make("td", {}, "–");
  const sure = of.low !== null && (of.low > 0 || of.high < 0);
  const cell = make("td", {}, make("strong", { class: sure ? verdict(key, of.mean) : "" }, shown(key, of.mean, true)));
  if (of.low !== null) cell.append(make("small", {}, `[${shown(key, of.low, true)}, ${shown(key, of.high, true)}]`));
  return cell;
}

function summaryTable(group, caption) {
  const head = make("tr", {}, make("th", { scope: "col" }, "Metric"), ...data.systems.map((s) => make("th", { scope: "col" }, s)));
  if (group.gain) head.append(make("th", { scope: "col" }, "gain"));
  const body = make("tbody");
  for (const metric of data.metrics) {
    const row = make("tr", {}, make("th", { scope: "row", title: metric.about }, titled(metric)));
    for (const system of data.systems) row.append(statisticCell(metric.key, group.systems[system][metric.key]));
    if (group.gain) row.append(gainCell(metric.key, group.gain[metric.key]));
    body.append(row);
  }
  const narrow = data.systems.length < 3 ? "narrow" : null;
  return make("table", { class: narrow }, make("caption", { class: "hidden" }, caption), make("thead", {}, head), body);
}

function showSummary() {
  $("subtitle").textContent = `${data.counts.join("; ")} · ${data.systems.join(", ")} against clean · ${data.scale}`;
  $("summary-table").append(summaryTable(data.whole, "All files"));
  const kinds = [["input_snr", "By measured input SNR"], ["speaker", "By speaker"]];
  for (const [kind, title] of kinds) {
    const groups = data.groups.filter((group) => group.kind === kind);
    if (!groups.length) continue;
    const keys = data.metrics.filter((m) => !["llr", "wss"].includes(m.key));
    const body = make("tbody");
    for (const group of groups) {
      data.systems.forEach((system, i) => {
        const cells = keys.map((m) => statisticCell(m.key, group.systems[system][m.key]));
        const head = i ? [] : [make("th", { scope: "rowgroup", rowspan: data.systems.length }, `${group.label} `, make("small", {}, `(${group.files})`))];
        body.append(make("tr", {}, ...head, make("td", {}, system), ...cells));
      });
    }
    const columns = ["Group (files)", "", ...keys.map(titled)].map((text) => make("th", { scope: "col" }, text));
    const table = make("table", {}, make("thead", {}, make("tr", {}, ...columns)), body);
    $("groups-tables").append(make("h3", {}, title), make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": title }, table));
    $("groups").hidden = false;
  }
  for (const line of data.missing) $("missing-list").append(make("li", {}, line));
  $("missing").hidden = !data.missing.length;
  showLiterature();
  const facts = [["Scale", data.scale], ...data.metrics.map((m) => [m.label, m.about])];
  for (const [name, value] of Object.entries(data.source.source)) facts.push([name, value]);
  facts.push(["Input SNR", "SI-SDR of the noisy file against the clean one"], ["Version", `cmgan-jax ${data.source.version}`]);
  for (const [name, value] of facts) $("about-list").append(make("dt", {}, name), make("dd", {}, value));
}

function showLiterature() {
  if (!data.literature) return;
  const { metrics: keys, rows, note } = data.literature;
  const line = (name, values, strong) => make("tr", {}, make("th", { scope: "row" }, name), ...values.map((v) => make("td", {}, make(strong ? "strong" : "span", {}, v === null ? "–" : v.toFixed(2)))));
  const head = make("tr", {}, make("th", { scope: "col" }, "System"), ...keys.map((key) => make("th", { scope: "col" }, titled(metrics.get(key)))));
  const body = make("tbody", {}, ...rows.map((row) => line(row.year ? `${row.name} (${row.year})` : row.name, row.values)));
  body.append(line("this result", keys.map((key) => data.whole.systems.enhanced[key].mean), true));
  $("literature-table").append(make("table", {}, make("thead", {}, head), body));
  $("literature-note").textContent = note;
  $("literature").hidden = false;
}

// ------------------------------------------------------------------------------------------------------------ files

const columns = [
  { key: "name", label: "File", value: (file) => file.name },
  ...data.metrics.map((m) => ({ key: m.key, label: titled(m), lower: m.lower, value: (file) => file.scores.enhanced[m.key] ?? null })),
  ...(data.systems.includes("noisy") ? [{ key: "snr", label: "Input SNR (dB)", value: (file) => file.snr }] : []),
];
const view = { key: data.ranked, worst: true, order: data.files.slice(), current: null };

// Rising is worst first, but for names (a to z) and for the distances, of which less is better.
function rising(column, worst) { return column.lower ? !worst : worst; }

function sortFiles() {
  const column = columns.find((c) => c.key === view.key);
  const sign = rising(column, view.worst) ? 1 : -1;
  const wanted = $("find").value.trim().toLowerCase();
  view.order = data.files.filter((file) => file.name.toLowerCase().includes(wanted));
  view.order.sort((a, b) => {
    const [x, y] = [column.value(a), column.value(b)];
    if (x === null || y === null) return (x !== null) - (y !== null) || a.name.localeCompare(b.name);
    return sign * (typeof x === "string" ? x.localeCompare(y) : x - y) || a.name.localeCompare(b.name);
  });
  showFiles();
}

function showFiles() {
  const focused = document.activeElement?.closest?.("#files-table th")?.dataset.key;
  const head = make("tr");
  for (const column of columns) {
    const active = column.key === view.key;
    const up = rising(column, view.worst);
    const button = make("button", { type: "button", onclick: () => {
      view.worst = active ? !view.worst : true;
      view.key = column.key;
      sortFiles();
    } }, column.label, make("span", { "aria-hidden": "true" }, active ? (up ? " ▲" : " ▼") : ""));
    head.append(make("th", { scope: "col", "data-key": column.key, "aria-sort": active ? (up ? "ascending" : "descending") : null }, button));
  }
  const body = make("tbody");
  for (const file of view.order) {
    const name = make("button", { type: "button", class: file.media ? null : "silent", title: file.name, onclick: (event) => { event.stopPropagation(); open(file, true); } }, file.name);
    const row = make("tr", { onclick: () => open(file, true) }, make("td", {}, name));
    if (file.reasons.enhanced) row.title = file.reasons.enhanced.join("; ");
    for (const column of columns.slice(1)) {
      if (column.key === "snr") { row.append(make("td", {}, file.snr === null ? "–" : file.snr.toFixed(1).replace("-", "−"))); continue; }
      const value = column.value(file);
      const before = file.scores.noisy?.[column.key];
      const cell = make("td", {}, shown(column.key, value));
      if (value !== null && before !== undefined) cell.append(make("small", { class: verdict(column.key, value - before) }, shown(column.key, value - before, true)));
      row.append(cell);
    }
    file.row = row;
    body.append(row);
  }
  $("files-table").replaceChildren(make("table", {}, make("caption", { class: "hidden" }, "Scores of each enhanced file, below them the change from the noisy one"), make("thead", {}, head), body));
  if (focused) $("files-table").querySelector(`th[data-key="${focused}"] button`).focus();
  $("files-count").textContent = view.order.length === data.files.length ? `${data.files.length} files` : `${view.order.length} of ${data.files.length} files`;
  $("rank").value = view.key;
  $("direction").value = view.worst ? "worst" : "best";
  mark();
  showPlot();
}

function mark() {
  for (const file of data.files) {
    if (!file.row) continue;
    file.row.classList.toggle("current", file === view.current);
    const button = file.row.querySelector("button");
    if (file === view.current) button.setAttribute("aria-current", "true"); else button.removeAttribute("aria-current");
  }
  const place = view.order.indexOf(view.current);
  const label = columns.find((c) => c.key === view.key).label;
  $("position-in-order").textContent = place < 0 ? "" : `${place + 1} of ${view.order.length}, ${view.key === "name" ? "by name" : `${view.worst ? "worst" : "best"} ${label} first`}`;
  $("previous").disabled = place <= 0;
  $("next").disabled = place < 0 || place >= view.order.length - 1;
}

function step(by) {
  const place = view.order.indexOf(view.current) + by;
  if (place < 0 || place >= view.order.length) return;
  open(view.order[place], false);
  // Its row comes into sight within the table; the page stays where it is.
  const [box, row] = [$("files-table"), view.current.row];
  const head = box.querySelector("thead").offsetHeight;
  if (row.offsetTop - head < box.scrollTop) box.scrollTop = row.offsetTop - head;
  else if (row.offsetTop + row.offsetHeight > box.scrollTop + box.clientHeight) box.scrollTop = row.offsetTop + row.offsetHeight - box.clientHeight;
}

// ------------------------------------------------------------------------------------------------------------- plot

const SVG = "http://www.w3.org/2000/svg";
function draw(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const width = [1, 2, 5, 10].map((m) => m * power).find((w) => w >= rough);
  const found = [];
  for (let t = Math.ceil(low / width); t * width <= high + 1e-9; t++) found.push(Number((t * width).toPrecision(6)));
  return found;
}

function showPlot() {
  const key = metrics.has(view.key) ? view.key : data.ranked;
  const points = data.files.map((file) => [file.scores.noisy?.[key], file.scores.enhanced[key], file]).filter(([x, y]) => x !== undefined && y !== undefined);
  $("plot").hidden = points.length < 2;
  if (points.length < 2) return;
  const values = points.flatMap(([x, y]) => [x, y]);
  const margin = (Math.max(...values) - Math.min(...values)) * 0.06 || 1;
  const [low, high] = [Math.min(...values) - margin, Math.max(...values) + margin];
  const [size, left, bottom] = [340, 44, 40];
  const x = (v) => left + ((v - low) / (high - low)) * (size - left - 8);
  const y = (v) => size - bottom - ((v - low) / (high - low)) * (size - bottom - 8);
  const svg = draw("svg", { viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": `${metrics.get(key).label} of each file: noisy across, enhanced upward; the table of files has the numbers` });
  for (const t of ticks(low, high, 5)) {
    svg.append(draw("line", { class: "grid", x1: x(t), x2: x(t), y1: y(low), y2: y(high) }), draw("line", { class: "grid", x1: x(low), x2: x(high), y1: y(t), y2: y(t) }));
    svg.append(draw("text", { x: x(t), y: size - bottom + 16, "text-anchor": "middle" }, t), draw("text", { x: left - 6, y: y(t) + 4, "text-anchor": "end" }, t));
  }
  svg.append(draw("line", { class: "diagonal", x1: x(low), y1: y(low), x2: x(high), y2: y(high) }));
  svg.append(draw("text", { x: (left + size) / 2, y: size - 6, "text-anchor": "middle" }, "noisy"));
  svg.append(draw("text", { x: 12, y: (size - bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${(size - bottom) / 2})` }, "enhanced"));
  for (const [px, py, file] of points) {
    const point = draw("circle", { class: file === view.current ? "point current" : "point", cx: x(px), cy: y(py), r: points.length > 200 ? 3.5 : 6 });
    point.append(draw("title", {}, `${file.name}: ${shown(key, px)} → ${shown(key, py)}`));
    point.addEventListener("click", () => open(file, true));
    svg.append(point);
  }
  $("plot-title").textContent = titled(metrics.get(key));
  $("plot-note").textContent = `A point is a file: ${metrics.get(key).lower ? "below" : "above"} the line, enhancement has helped. Choose a point to hear it.`;
  $("plot-area").replaceChildren(svg);
}

// ----------------------------------------------------------------------------------------------------------- player
// All versions play at once, all but one of them muted, so that switching is immediate and at the same place.

const player = { versions: [], heard: 0, playing: false, wanted: "enhanced", urls: [] };
const ORDER = ["noisy", "enhanced", "clean"];
const tone = (name) => `tone${ORDER.includes(name) ? ORDER.indexOf(name) : 3 + (data.systems.filter((s) => !ORDER.includes(s)).indexOf(name) % 3)}`;
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const heard = () => player.versions[player.heard]?.audio;
const length = () => Math.max(0, ...player.versions.map((version) => version.seconds));

function open(file, scroll) {
  const resume = player.playing;
  close();
  view.current = file;
  $("listen-title").textContent = file.name;
  const remarks = Object.entries(file.reasons).flatMap(([system, reasons]) => reasons.map((reason) => `${system}: ${reason}`));
  remarks.push(...Object.entries(file.notes).flatMap(([system, notes]) => notes.map((note) => `${system}: ${note}`)));
  if (!file.media) remarks.push("The audio of this file is not in the page: it holds that of the worst files that could be read (--report-audio tells how many).");
  const media = file.media ? JSON.parse($(file.media).textContent) : { versions: [] };
  if (media.versions.some((version) => version.cut)) remarks.push(`The page holds the first ${data.longest} s; the scores are of the whole file.`);
  $("remarks").replaceChildren(...[...new Set(remarks)].map((remark) => make("p", { class: "remark" }, remark)));
  player.versions = media.versions.map((version, i) => panel(file, version, i));
  $("versions").replaceChildren(...player.versions.map((version) => version.element));
  $("choices").replaceChildren(...player.versions.map((version) => version.choice));
  $("scale").hidden = !player.versions.length;
  for (const control of ["play", "seek", "repeat"]) $(control).disabled = !player.versions.length;
  $("seek").max = length();
  const wanted = player.versions.findIndex((version) => version.name === player.wanted);
  choose(Math.max(0, wanted), false);
  tell();
  mark();
  showPlot();
  if (scroll) $("listen").scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  if (resume && player.versions.length) play();
  say(file.name);
}

function close() {
  pause();
  for (const { audio } of player.versions) { audio.removeAttribute("src"); audio.load(); }
  for (const url of player.urls) URL.revokeObjectURL(url);
  player.versions = [];
  player.urls = [];
}

function panel(file, version, i) {
  const url = URL.createObjectURL(new Blob([bytes(version.audio)], { type: "audio/wav" }));
  player.urls.push(url);
  const audio = make("audio", { src: url, preload: "auto", "data-version": version.name });
  audio.muted = true;
  audio.addEventListener("timeupdate", () => { if (audio === heard()) align(); });
  audio.addEventListener("ended", () => { if (audio === heard()) finish(); });
  audio.addEventListener("error", () => { if (audio.getAttribute("src")) warn(`This browser cannot play the ${version.name} version: ${audio.error?.message || "unknown format"}.`); });
  const key = String(i + 1);
  const choice = make("button", { type: "button", class: tone(version.name), "data-version": version.name, "aria-pressed": "false", "aria-keyshortcuts": key, onclick: () => choose(i, true) }, version.name, make("kbd", { "aria-hidden": "true" }, key));
  const scores = file.scores[version.name];
  const numbers = scores ? ["pesq", "stoi", "si_sdr"].filter((k) => k in scores).map((k) => `${metrics.get(k).label} ${shown(k, scores[k])}`).join(" · ") : version.name === "clean" ? "the reference" : "";
  const playhead = make("div", { class: "playhead" });
  const picture = make("div", { class: "picture" }, make("img", { src: `data:image/png;base64,${version.image}`, alt: `Spectrogram of the ${version.name} version, 0 to ${version.seconds.toFixed(1)} s, 0 to ${data.rate / 2000} kHz`, draggable: "false" }), playhead);
  const seekTo = (event) => {
    const box = picture.getBoundingClientRect();
    seek(Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * version.seconds);
  };
  picture.addEventListener("pointerdown", (event) => { if (event.button === 0) { picture.setPointerCapture(event.pointerId); seekTo(event); } });
  picture.addEventListener("pointermove", (event) => { if (picture.hasPointerCapture(event.pointerId)) seekTo(event); });
  const top = data.rate / 2000;
  const frequencies = make("div", { class: "frequencies", "aria-hidden": "true" });
  for (let f = 0; f <= top; f += 2) {
    const label = make("span", { class: f === 0 ? "bottom" : f === top ? "top" : null }, f === top ? `${f} kHz` : `${f}`);
    label.style.top = `${100 - (100 * f) / top}%`;
    frequencies.append(label);
  }
  const times = make("div", { class: "times", "aria-hidden": "true" });
  const marks = ticks(0, version.seconds, 5);
  marks.forEach((t, n) => {
    const label = make("span", { class: n === 0 ? "first" : t > 0.93 * version.seconds ? "last" : null }, n === marks.length - 1 ? `${t} s` : `${t}`);
    label.style.left = `${(100 * t) / version.seconds}%`;
    times.append(label);
  });
  const state = make("span", {}, "");
  const element = make("article", { class: `version ${tone(version.name)}`, "data-version": version.name, "aria-label": version.name }, make("h3", {}, version.name, state), make("p", {}, numbers), make("div", { class: "spectrogram" }, frequencies, picture, times), audio);
  return { name: version.name, seconds: version.seconds, audio, choice, playhead, element, state };
}

function choose(i, announce) {
  const next = player.versions[i];
  if (!next) return;
  const at = heard()?.currentTime ?? 0;
  player.heard = i;
  if (announce) player.wanted = next.name;
  if (Math.abs(next.audio.currentTime - at) > 0.06) next.audio.currentTime = Math.min(at, next.seconds);
  player.versions.forEach((version, n) => {
    version.audio.playbackRate = 1;
    version.audio.muted = n !== i;
    version.choice.setAttribute("aria-pressed", String(n === i));
    version.element.classList.toggle("heard", n === i);
    version.state.textContent = n === i ? "you hear this" : "";
  });
  if (player.playing && next.audio.paused) next.audio.play().catch(refused);
  if (announce) say(`${next.name}`);
}

// Only what nobody hears is moved, and by its speed: a seek would leave it behind by the time that it takes.
function align() {
  const at = heard().currentTime;
  for (const { audio, seconds } of player.versions) {
    if (audio === heard() || audio.ended || at >= seconds) continue;
    const behind = at - audio.currentTime;
    if (Math.abs(behind) > 0.3) audio.currentTime = at;
    audio.playbackRate = Math.abs(behind) > 0.005 ? 1 + Math.max(-0.4, Math.min(0.4, 3 * behind)) : 1;
    if (player.playing && audio.paused) audio.play().catch(refused);
  }
}

function play() {
  if (!player.versions.length) return;
  if (heard().currentTime >= player.versions[player.heard].seconds - 0.02) seek(0);
  player.playing = true;
  for (const { audio } of player.versions) audio.play().catch(refused);
  tell();
  requestAnimationFrame(frame);
}

function pause() {
  player.playing = false;
  for (const { audio } of player.versions) audio.pause();
  if (player.versions.length) seek(heard().currentTime);
}

function refused(error) {
  if (error.name === "AbortError") return;
  pause();
  warn(`The browser did not start playback: ${error.message}`);
}

function finish() {
  if ($("repeat").checked) { seek(0); play(); } else pause();
}

function seek(seconds) {
  for (const version of player.versions) version.audio.currentTime = Math.min(Math.max(0, seconds), version.seconds);
  tell();
}

function frame() {
  tell();
  if (player.playing) requestAnimationFrame(frame);
}

function tell() {
  const at = heard()?.currentTime ?? 0;
  for (const version of player.versions) version.playhead.style.left = `${Math.min(100, (100 * at) / version.seconds)}%`;
  $("seek").value = at;
  $("seek").setAttribute("aria-valuetext", `${at.toFixed(1)} of ${length().toFixed(1)} seconds`);
  $("time").textContent = player.versions.length ? `${at.toFixed(1)} / ${length().toFixed(1)} s` : "–";
  $("play-label").textContent = player.playing ? "Pause" : "Play";
  $("play-sign").setAttribute("d", player.playing ? "M3 2h3.5v12H3zM9.5 2H13v12H9.5z" : "M3 1.5v13L14 8z");
}

function warn(text) {
  $("remarks").append(make("p", { class: "remark" }, text));
  say(text);
}

function say(text) { $("status").textContent = text; }

document.addEventListener("keydown", (event) => {
  const target = event.target;
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (target.closest("select, input[type=search]")) return;
  if (/^[1-9]$/.test(event.key)) { choose(Number(event.key) - 1, true); return; }
  const actions = {
    " ": () => (player.playing ? pause() : play()),
    ArrowLeft: () => seek((heard()?.currentTime ?? 0) - 1),
    ArrowRight: () => seek((heard()?.currentTime ?? 0) + 1),
    0: () => seek(0),
    n: () => step(1),
    p: () => step(-1),
    r: () => { $("repeat").checked = !$("repeat").checked; say($("repeat").checked ? "repeat" : "no repeat"); },
  };
  // What has a meaning of its own on the focused element keeps it.
  if (event.key === " " && target.closest("button, input, summary, a")) return;
  if (event.key.startsWith("Arrow") && (target.closest("input") || target.classList.contains("scroll"))) return;
  if (actions[event.key]) { event.preventDefault(); actions[event.key](); }
});

$("play").addEventListener("click", () => (player.playing ? pause() : play()));
$("previous").addEventListener("click", () => step(-1));
$("next").addEventListener("click", () => step(1));
$("seek").addEventListener("input", () => seek(Number($("seek").value)));
$("find").addEventListener("input", sortFiles);
$("rank").addEventListener("change", () => { view.key = $("rank").value; sortFiles(); });
$("direction").addEventListener("change", () => { view.worst = $("direction").value === "worst"; sortFiles(); });

for (const column of columns) $("rank").append(make("option", { value: column.key }, column.label));
$("scale-low").textContent = `−${data.range} dB`;
$("scale-bar").style.background = `linear-gradient(to right, ${data.palette.join(", ")})`;
const withAudio = data.files.filter((file) => file.media).length;
$("files-note").textContent = "Scores of the enhanced file, and below them the change from the noisy one. " +
  (withAudio < data.files.length ? `The page holds the audio of ${withAudio} of ${data.files.length} files, those of the worst ${metrics.get(data.ranked).label}; names of the others are grey.` : "The page holds the audio of all files.") +
  ` Audio: WAV, 16 bit, ${data.rate / 1000} kHz.`;
showSummary();
sortFiles();
if (data.files.length) open(data.files.find((file) => file.media) ?? data.files[0], false);
