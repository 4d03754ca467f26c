"use strict";
// Lays out the open boxes in layers, from top to bottom, and draws them. All text is set as text, never as markup.
const data = JSON.parse(document.getElementById("graph").textContent);
const stage = document.getElementById("stage"), facts = document.getElementById("facts");
const metric = document.getElementById("metric");
const COLUMN = { flops: 0, bytes: 1, parameters: 2, saved: 3, time: 4 };
const OPERATORS = 5, RUNS = 6;
const WIDE = 214, HIGH = 56, PAD = 14, TITLE = 28, GAP = 18, LAYER = 32, LANE = 8;
const INTO = -1, OUT_OF = -2;
const SVG = "http://www.w3.org/2000/svg";
let scale = 1, shown = data.root, hottest = 1;

// Quantities, as everywhere in rigwise: three digits and a decimal prefix.

function scaled(value, steps) {
  const step = steps.find(([size]) => Math.abs(value) >= size * 0.9995) || steps[steps.length - 1];
  const number = value / step[0], digits = Math.abs(number) < 9.995 ? 2 : Math.abs(number) < 99.95 ? 1 : 0;
  return (number.toFixed(digits) + " " + step[1]).trim();
}
const count = (value) => scaled(value, [[1e18, "E"], [1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]]);
const bytes = (value) => scaled(value, [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"], [1, "B"]]);
const seconds = (value) => scaled(value, [[3600, "h"], [60, "min"], [1, "s"], [1e-3, "ms"], [1e-6, "us"]]);
const WORDS = { flops: "FLOPs", saved: "saved activations" };
const SHOW = { flops: (v) => count(v) + (count(v).includes(" ") ? "FLOP" : " FLOP"), bytes: bytes, parameters: count, saved: bytes, time: seconds };
const percent = (part) => (part < 0.0005 ? "<0.1" : part < 0.00995 ? (100 * part).toFixed(1) : (100 * part).toFixed(0)) + " %";

function share(box, name = metric.value) {
  const whole = data.whole[COLUMN[name]];
  return whole ? box.n[COLUMN[name]] / whole : 0;
}

// Layout: one box, closed or with its inside.

function layout(box) {
  if (!box.open || !box.boxes) {
    box.w = WIDE; box.h = HIGH; box.lines = [];
    return;
  }
  box.boxes.forEach(layout);
  const nodes = box.boxes.map((inner) => ({ box: inner, w: inner.w, h: inner.h, rank: 0 }));
  const edges = box.edges || [];
  for (const [from, to] of edges) if (from >= 0 && to >= 0) nodes[to].rank = Math.max(nodes[to].rank, nodes[from].rank + 1);
  sinkLoneSources(nodes, edges);
  const depth = Math.max(...nodes.map((node) => node.rank)) + 1;
  const ranks = Array.from({ length: depth }, () => []);
  for (const node of nodes) ranks[node.rank].push(node);
  const top = { w: 0, h: 0, rank: -1 }, bottom = { w: 0, h: 0, rank: depth };
  const links = edges.map(([from, to]) => route(from === INTO ? top : nodes[from], to === OUT_OF ? bottom : nodes[to], ranks));
  const all = [[top], ...ranks, [bottom]];
  arrange(all, links);
  place(box, all, links);
}

// A box that waits for nothing stands just above the first that needs it.
function sinkLoneSources(nodes, edges) {
  for (let index = nodes.length - 1; index >= 0; index--) {
    if (edges.some(([, to]) => to === index)) continue;
    const needed = edges.filter(([from, to]) => from === index && to >= 0).map(([, to]) => nodes[to].rank);
    if (needed.length) nodes[index].rank = Math.max(0, Math.min(...needed) - 1);
  }
}

// The nodes an edge passes: a lane of its own in every layer between its ends.
function route(from, to, ranks) {
  const path = [from];
  for (let rank = from.rank + 1; rank < to.rank; rank++) {
    const lane = { w: LANE, h: 0, rank: rank, lane: true };
    ranks[rank].push(lane);
    path.push(lane);
  }
  path.push(to);
  return path;
}

// Order in each layer by the middle of the neighbours, then positions the same way.
function arrange(all, links) {
  const near = new Map(all.flat().map((node) => [node, { up: [], down: [] }]));
  for (const path of links) for (let i = 1; i < path.length; i++) {
    near.get(path[i]).up.push(path[i - 1]);
    near.get(path[i - 1]).down.push(path[i]);
  }
  for (const layer of all) layer.forEach((node, i) => { node.x = i; });
  const mean = (list, other) => (list.length ? list.reduce((sum, node) => sum + node.x, 0) / list.length : other);
  for (let sweep = 0; sweep < 8; sweep++) {
    const side = sweep % 2 ? "down" : "up";
    for (const layer of sweep % 2 ? [...all].reverse() : all) {
      layer.forEach((node) => { node.want = mean(near.get(node)[side], node.x); });
      layer.sort((a, b) => a.want - b.want);
      layer.forEach((node, i) => { node.x = i - (layer.length - 1) / 2; });
    }
  }
  for (const layer of all) {
    const width = layer.reduce((sum, node) => sum + node.w + GAP, -GAP);
    let x = -width / 2;
    for (const node of layer) { node.x = x + node.w / 2; x += node.w + GAP; }
  }
  for (let sweep = 0; sweep < 30; sweep++) {
    for (const layer of sweep % 2 ? [...all].reverse() : all) {
      spread(layer, layer.map((node) => pull(node, [...near.get(node).up, ...near.get(node).down])));
    }
  }
}

// Where its neighbours pull a node: boxes pull each other most, so that the main path runs straight.
function pull(node, list) {
  let sum = 0, weights = 0;
  for (const other of list) {
    const weight = node.box && other.box ? 8 : node.lane && other.lane ? 4 : 0.7;
    sum += weight * other.x; weights += weight;
  }
  return weights ? sum / weights : node.x;
}

// As near to where each wants to be as its layer allows: boxes first, then the lanes in what is left between them.
function spread(layer, wanted) {
  const boxes = layer.map((node, i) => i).filter((i) => !layer[i].lane);
  const apart = (k) => (layer[boxes[k - 1]].w + layer[boxes[k]].w) / 2 + GAP + (boxes[k] - boxes[k - 1] - 1) * (LANE + GAP);
  const right = boxes.map((i) => wanted[i]), left = [...right];
  for (let k = 1; k < boxes.length; k++) right[k] = Math.max(right[k], right[k - 1] + apart(k));
  for (let k = boxes.length - 2; k >= 0; k--) left[k] = Math.min(left[k], left[k + 1] - apart(k + 1));
  boxes.forEach((i, k) => { layer[i].x = (right[k] + left[k]) / 2; });
  const far = (i, j) => (layer[i].w + layer[j].w) / 2 + GAP;
  layer.forEach((node, i) => { if (node.lane) node.x = i ? Math.max(wanted[i], layer[i - 1].x + far(i - 1, i)) : wanted[i]; });
  for (let i = layer.length - 2; i >= 0; i--) if (layer[i].lane) layer[i].x = Math.min(layer[i].x, layer[i + 1].x - far(i, i + 1));
}

function place(box, all, links) {
  const inner = all.slice(1, -1), nodes = inner.flat();
  const low = Math.min(...nodes.map((node) => node.x - node.w / 2)), high = Math.max(...nodes.map((node) => node.x + node.w / 2));
  const width = Math.max(high - low, WIDE), shift = PAD + (width - (high - low)) / 2 - low;
  let y = TITLE;
  for (const layer of inner) {
    const tall = Math.max(...layer.map((node) => node.h), 0);
    y += LAYER / 2;
    for (const node of layer) {
      node.x += shift;
      node.top = node.lane ? y : y + (tall - node.h) / 2;
      node.end = node.lane ? y + tall : node.top + node.h;
      node.row = y; node.rowEnd = y + tall;
      if (node.box) { node.box.x = node.x - node.w / 2; node.box.y = node.top; }
    }
    y += tall + LAYER / 2;
  }
  box.w = width + 2 * PAD; box.h = y + 4;
  const [[first], [last]] = [all[0], all[all.length - 1]];
  first.x = last.x = box.w / 2;
  first.top = first.end = first.rowEnd = TITLE - 4; last.top = last.end = last.row = box.h;
  box.lines = links;
}

// Where edges meet a box they stand side by side.
function portsOf(lines) {
  const ends = new Map();
  const add = (node, key, path, other) => {
    const list = ends.get(node) || ends.set(node, { out: [], in: [] }).get(node);
    list[key].push([path, other]);
  };
  for (const path of lines) { add(path[0], "out", path, path[1].x); add(path[path.length - 1], "in", path, path[path.length - 2].x); }
  const x = new Map();
  for (const [node, sides] of ends) for (const key of ["out", "in"]) {
    sides[key].sort((a, b) => a[1] - b[1]);
    const step = Math.min(14, (node.w * 0.6) / Math.max(1, sides[key].length));
    sides[key].forEach(([path], i) => { x.set(path, { ...x.get(path), [key]: node.x + (i - (sides[key].length - 1) / 2) * step }); });
  }
  return x;
}

// Drawing. The heat of a closed box is its part of the whole against the largest part that is seen.

const warmest = (box) => (box.open && box.boxes ? Math.max(0.05, ...box.boxes.map(warmest)) : share(box));

function draw() {
  layout(data.root);
  hottest = warmest(data.root);
  const root = data.root, width = root.w + 2, height = root.h + 2;
  const svg = element("svg", { viewBox: `-1 -1 ${width} ${height}`, width: width * scale, height: height * scale, role: "group", "aria-label": root.name });
  drawBox(root, 0, 0, svg);
  const kept = document.activeElement && document.activeElement.box;
  stage.replaceChildren(svg);
  if (kept && kept.group) kept.group.focus({ preventScroll: true });
  tell(shown);
}

function element(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

const cut = (text, room, fromStart) => (text.length <= room ? text : fromStart ? "…" + text.slice(1 - room) : text.slice(0, room - 1) + "…");

function drawBox(box, x, y, parent) {
  const open = box.open && box.boxes, value = box.n[COLUMN[metric.value]], part = share(box);
  const words = value ? `${SHOW[metric.value](value)}, ${percent(part)}` : box.n[1] ? bytes(box.n[1]) : "";
  const group = element("g", { class: "box", tabindex: 0, transform: `translate(${x} ${y})`, role: "button", "aria-label": `${box.name}: ${box.does || ""} ${words}` });
  if (box.boxes) group.setAttribute("aria-expanded", String(Boolean(open)));
  group.box = box; box.group = group;
  group.append(element("rect", { class: open ? "frame" : "body", width: box.w, height: box.h, rx: 8 }));
  if (open) {
    const room = Math.floor((box.w - 2 * PAD) / 7);
    group.append(element("text", { class: "name", x: PAD, y: 19 }, cut("− " + box.name, room, false)));
    const left = room - box.name.length - 4;
    if (words.length < left) group.append(element("text", { class: "soft", x: box.w - PAD, y: 19, "text-anchor": "end" }, words));
  } else {
    group.append(element("rect", { class: "heat", width: box.w, height: box.h, rx: 8, "fill-opacity": (0.6 * Math.sqrt(part / hottest)).toFixed(3) }));
    group.append(element("text", { class: "name", x: 10, y: 18 }, cut(box.name, box.boxes ? 24 : 26, true)));
    if (box.boxes) group.append(element("text", { x: box.w - 10, y: 18, "text-anchor": "end" }, "+"));
    group.append(element("text", { class: "soft", x: 10, y: 33 }, cut(box.does || "", 32, false)));
    group.append(element("text", { class: "soft", x: 10, y: 48 }, words));
  }
  group.addEventListener("click", (event) => { event.stopPropagation(); facts.classList.add("picked"); shown = box; toggle(box); });
  group.addEventListener("keydown", (event) => keyOn(event, box));
  group.addEventListener("pointerenter", () => tell(box));
  group.addEventListener("focus", (event) => { if (event.target === group) tell(box); });
  parent.append(group);
  if (!open) return;
  const ports = portsOf(box.lines);
  for (const path of box.lines) group.append(...flow(path, ports.get(path)));
  for (const inner of box.boxes) drawBox(inner, inner.x, inner.y, group);
}

// Down from a box to the end of its layer, over to the next layer, and down to what stands there.
function flow(path, port) {
  let x = port.out, from = path[0].rowEnd, d = `M${x} ${path[0].end}V${from}`;
  path.slice(1).forEach((node, i) => {
    const last = i === path.length - 2, nextX = last ? port.in : node.x, middle = (from + node.row - 4) / 2;
    d += `C${x} ${middle} ${nextX} ${middle} ${nextX} ${node.row - 4}V${last ? node.top - 5 : node.rowEnd}`;
    x = nextX; from = node.rowEnd;
  });
  const end = path[path.length - 1];
  return [element("path", { class: "flow", d: d }), element("path", { class: "tip", d: `M${port.in - 4} ${end.top - 7}h8l-4 6.5z` })];
}

function keyOn(event, box) {
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault(); event.stopPropagation();
    shown = box; toggle(box);
  }
}

function toggle(box) {
  if (box.boxes && box !== data.root) { box.open = !box.open; draw(); } else tell(box);
}

// What is known about one box.

function tell(box) {
  document.querySelectorAll(".shown").forEach((group) => group.classList.remove("shown"));
  if (box.group) box.group.classList.add("shown");
  shown = box;
  const rows = [["operators", String(box.n[OPERATORS])], ["runs in a step", count(box.n[RUNS])]];
  for (const [name, column] of Object.entries(COLUMN)) {
    if (box.n[column]) rows.push([WORDS[name] || name, `${SHOW[name](box.n[column])}, ${percent(share(box, name))}`]);
    if (box.f && box.f[column] && (name === "flops" || name === "time")) rows.push([`  ${data.phase}`, SHOW[name](box.f[column])]);
  }
  if (box.n[0] && box.n[1]) rows.push(["FLOP per byte", (box.n[0] / box.n[1]).toFixed(1)]);
  if (box.binds) rows.push(["bound by", box.binds]);
  const make = (name, text) => Object.assign(document.createElement(name), { textContent: text });
  const table = document.createElement("table");
  for (const [name, value] of rows) {
    const row = table.insertRow();
    row.append(make("th", name), make("td", value));
  }
  facts.replaceChildren(make("h2", box.name), make("p", box.path || ""), make("p", box.does || ""), table);
}

// What is open, and how large.

function walk(box, visit) { visit(box); (box.boxes || []).forEach((inner) => walk(inner, visit)); }
const first = new Set();
walk(data.root, (box) => { if (box.open) first.add(box); });

function setOpen(choose) {
  walk(data.root, (box) => { box.open = box === data.root || choose(box); });
}

function fit() {
  scale = Math.min(1, Math.max(0.3, (stage.clientWidth - 2) / (data.root.w + 2)));
  draw();
}

// On a narrow screen, fold the innermost boxes until what is left can be read.
function reset() {
  setOpen((box) => first.has(box));
  layout(data.root);
  for (let depth = 12; depth > 0 && data.root.w * 0.66 > stage.clientWidth; depth--) {
    const fold = (box, level) => { if (level >= depth) box.open = false; (box.boxes || []).forEach((inner) => fold(inner, level + 1)); };
    fold(data.root, 0);
    layout(data.root);
  }
  fit();
}

const zoom = (factor) => { scale = Math.min(3, Math.max(0.15, scale * factor)); draw(); };
const on = (id, act) => document.getElementById(id).addEventListener("click", act);
on("in", () => zoom(1.25));
on("out", () => zoom(0.8));
on("fit", fit);
on("fold", () => { setOpen(() => false); layout(data.root); fit(); });
on("reset", reset);
metric.addEventListener("change", draw);
document.addEventListener("click", (event) => { if (!facts.contains(event.target)) facts.classList.remove("picked"); });
stage.addEventListener("wheel", (event) => { if (event.ctrlKey) { event.preventDefault(); zoom(event.deltaY < 0 ? 1.1 : 0.9); } }, { passive: false });
let room = 0; // a page that is turned or resized is drawn anew
new ResizeObserver(() => { if (stage.offsetWidth !== room) { room = stage.offsetWidth; reset(); } }).observe(stage);
