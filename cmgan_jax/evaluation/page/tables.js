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

function changeClass(key, change) {
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
  const cell = make("td", {}, make("strong", { class: sure ? changeClass(key, of.mean) : "" }, shown(key, of.mean, true)));
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
  for (const line of data.notes) $("notes-list").append(make("li", {}, line));
  $("notes").hidden = !data.notes.length;
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
      if (value !== null && before !== undefined) cell.append(make("small", { class: changeClass(column.key, value - before) }, shown(column.key, value - before, true)));
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
