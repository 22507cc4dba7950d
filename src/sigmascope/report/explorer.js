// What moves in the section that explorer.py writes.
(() => {
"use strict";
const data = JSON.parse(document.getElementById("explorer-data").textContent);
const at = (name) => document.getElementById("explorer-" + name);
const slider = at("level"), plot = at("plot"), agreed = at("agreed"), read = at("read");
const make = (parent, tag, kind, text = "") => {
  const made = document.createElement(tag);
  made.className = kind;
  made.textContent = text;
  parent.append(made);
  return made;
};
const draw = (parent, tag, attributes) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  parent.append(made);
  return made;
};
const swatch = (parent, a) => {
  const box = draw(parent, "svg", {class: "swatch", viewBox: "0 0 22 8", "aria-hidden": "true"});
  draw(box, "line", {x2: 22, y1: 4, y2: 4, stroke: a.colour, "stroke-width": 2.5, "stroke-dasharray": a.dash});
};
const named = (parent, tag, kind, text) => { make(parent, tag, kind, text).title = text; };

// One chart for each attribute; what it returns sets the chart to a level.
const chart = (a) => {
  const box = make(at("charts"), "div", "chart");
  box.style.setProperty("--colour", a.colour);
  const head = make(box, "p", "head");
  swatch(head, a);
  named(head, "b", "", a.name);
  const nats = make(box, "p", "nats");
  const size = a.posterior[0].length, rows = size <= data.likeliest, moves = a.which !== null;
  const all = make(box, "div", rows ? "rows" : "slots");
  const bars = Array.from({length: size}, () => {
    const outer = make(all, "div", ""), label = rows && make(outer, "span", "label");
    const bar = make(rows ? make(outer, "span", "track") : outer, "i", "bar");
    return {outer, label, bar, p: rows && make(outer, "span", "p")};
  });
  const words = rows && !moves ? [] : [make(box, "p", "words"), make(box, "p", "words")];
  return (level) => {
    const posterior = a.posterior[level], most = posterior.indexOf(Math.max(...posterior));
    const value = (k) => (moves ? a.which[level][k] : k);
    const known = a.information ? `I ${a.information[level]} of ${a.ceiling} · ` : "";
    nats.textContent = `${known}H(A|y) ${a.open[level]}`;
    bars.forEach(({outer, label, bar, p}, k) => {
      const name = a.values[value(k)], said = posterior[k].toFixed(3);
      outer.className = (rows ? "row" : "slot") + (value(k) === a.truth ? " true" : "");
      outer.style.setProperty("--prior", a.prior[value(k)]);
      outer.title = `${name}: ${said}`;
      bar.style[rows ? "width" : "height"] = `${100 * posterior[k]}%`;
      if (rows) { label.textContent = name; p.textContent = said; }
    });
    const lines = [`likeliest: ${a.values[value(most)]}, ${posterior[most].toFixed(3)}`];
    if (a.truth >= 0) lines.push(`its own: ${a.values[a.truth]}, ${a.own[level].toFixed(3)}`);
    words.forEach((line, k) => { line.textContent = line.title = lines[k] ?? ""; });
  };
};
// Labels take the room of the longest in any chart, so that all bars begin at one line.
const labels = (a) => (a.posterior[0].length <= data.likeliest ? a.values.map((name) => name.length) : []);
const longest = Math.max(0, ...data.attributes.flatMap(labels));
at("charts").style.setProperty("--label", `calc(${longest}ch + 1.4rem)`);
const charts = data.attributes.map(chart);
const told = data.attributes.filter((a) => a.height !== null);
const dots = told.map((a) => draw(plot, "circle", {r: 3.2, fill: a.colour, stroke: "#fff"}));
for (const a of told) {
  const entry = make(at("legend"), "span", "");
  swatch(entry, a);
  named(entry, "i", "", a.name);
}
const children = data.levels[0].children.map(() => make(at("children"), "img", "child"));
for (const picture of [at("noised"), at("denoised"), ...children]) picture.decoding = "sync";

const said = (a, value) => `${data.attributes[a].name}: ${data.attributes[a].values[value] ?? "unknown"}`;
const speak = (level) => {
  data.levels[level].read.forEach((text, k) => { read.children[k].textContent = text; });
  if (!children.length) return;
  const words = data.levels[level].agreed.map(([a, value]) => said(a, value));
  const all = `${children.length} continuations agree in`;
  agreed.textContent = words.length ? `All ${all}` : `The ${all} nothing.`;
  for (const text of words) { agreed.append(" "); make(agreed, "span", "said", text); }
};
const show = (level) => {
  const now = data.levels[level];
  slider.value = level;
  slider.setAttribute("aria-valuetext", now.read[0]);
  speak(level);
  at("noised").src = data.pictures[now.noised];
  at("noised").alt = `the image with noise of ${now.read[0]}`;
  at("denoised").src = data.pictures[now.denoised];
  at("denoised").alt = `the mean of what it may be, at ${now.read[0]}`;
  children.forEach((child, k) => {
    child.src = data.pictures[now.children[k]];
    child.title = now.labels[k].map(([a, value]) => said(a, value)).join("\n");
    child.alt = child.title || `continuation ${k + 1}`;
  });
  for (const end of ["x1", "x2"]) at("cursor").setAttribute(end, now.x);
  dots.forEach((dot, k) => { dot.setAttribute("cx", now.x); dot.setAttribute("cy", told[k].height[level]); });
  for (const set of charts) set(level);
};
// The words take the room of the longest of all levels, so that nothing below moves with the slider.
const reserve = () => {
  const texts = [read, agreed], most = [0, 0];
  for (const text of texts) text.style.minHeight = "";
  data.levels.forEach((_, level) => {
    speak(level);
    texts.forEach((text, k) => { most[k] = Math.max(most[k], text.getBoundingClientRect().height); });
  });
  texts.forEach((text, k) => { text.style.minHeight = `${Math.ceil(most[k])}px`; });
  speak(Number(slider.value));
};
const point = (event) => {
  if (event.type === "pointermove" && !event.buttons) return;
  const box = plot.getBoundingClientRect();
  const x = (event.clientX - box.left) * plot.viewBox.baseVal.width / box.width;
  const far = data.levels.map((level) => Math.abs(level.x - x));
  show(far.indexOf(Math.min(...far)));
};
at("body").hidden = false;
show(data.first);
reserve();
addEventListener("resize", reserve);
slider.addEventListener("input", () => show(Number(slider.value)));
plot.addEventListener("pointerdown", point);
plot.addEventListener("pointermove", point);
})();
