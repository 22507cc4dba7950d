// The moving parts of the section that explorer.py writes.
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
  const line = {x2: 22, y1: 4, y2: 4, "stroke-width": 2.5, "stroke-dasharray": a.dash};
  draw(box, "line", line).style.stroke = a.colour;
};
const named = (parent, tag, kind, text) => { make(parent, tag, kind, text).title = text; };

// One chart for each attribute; the function that it returns sets the chart to a level.
const chart = (a) => {
  const box = make(at("charts"), "div", "chart");
  box.style.setProperty("--colour", a.colour);
  const head = make(box, "p", "head");
  swatch(head, a);
  named(head, "b", "", a.name);
  const nats = make(box, "p", "nats");
  const size = a.posterior[0].length, rows = size <= data.likeliest, sorted = a.order !== null;
  const all = make(box, "div", rows ? "rows" : "slots");
  const bars = Array.from({length: size}, () => {
    const outer = make(all, "div", ""), label = rows && make(outer, "span", "label");
    const bar = make(rows ? make(outer, "span", "track") : outer, "i", "bar");
    return {outer, label, bar, p: rows && make(outer, "span", "p")};
  });
  const words = rows && !sorted ? [] : [make(box, "p", "words"), make(box, "p", "words")];
  return (level) => {
    const posterior = a.posterior[level], likeliest = posterior.indexOf(Math.max(...posterior));
    const value = (k) => (sorted ? a.order[level][k] : k);
    const information = a.information ? `I ${a.information[level]} of ${a.ceiling} · ` : "";
    nats.textContent = `${information}H(A|y) ${a.open[level]}`;
    bars.forEach(({outer, label, bar, p}, k) => {
      const name = a.values[value(k)], p_value = posterior[k].toFixed(3);
      outer.className = (rows ? "row" : "slot") + (value(k) === a.truth ? " true" : "");
      outer.style.setProperty("--prior", a.prior[value(k)]);
      outer.title = `${name}: ${p_value}`;
      bar.style[rows ? "width" : "height"] = `${100 * posterior[k]}%`;
      if (rows) { label.textContent = name; p.textContent = p_value; }
    });
    const lines = [`likeliest: ${a.values[value(likeliest)]}, ${posterior[likeliest].toFixed(3)}`];
    if (a.truth >= 0) lines.push(`its own: ${a.values[a.truth]}, ${a.own[level].toFixed(3)}`);
    words.forEach((line, k) => { line.textContent = line.title = lines[k] ?? ""; });
  };
};
// Labels take the room of the longest in any chart, so that all bars begin at one line.
const labels = (a) => (a.posterior[0].length <= data.likeliest ? a.values.map((name) => name.length) : []);
const longest = Math.max(0, ...data.attributes.flatMap(labels));
at("charts").style.setProperty("--label", `calc(${longest}ch + 1.4rem)`);
const charts = data.attributes.map(chart);
const drawn = data.attributes.filter((a) => a.height !== null);
const dots = drawn.map((a) => draw(plot, "circle", {r: 3.2, stroke: "#fff"}));
dots.forEach((dot, k) => { dot.style.fill = drawn[k].colour; });
for (const a of drawn) {
  const entry = make(at("legend"), "span", "");
  swatch(entry, a);
  named(entry, "i", "", a.name);
}
const children = data.levels[0].children.map(() => make(at("children"), "img", "child"));
for (const picture of [at("noised"), at("denoised"), ...children]) picture.decoding = "sync";

const labelled = (a, value) => `${data.attributes[a].name}: ${data.attributes[a].values[value] ?? "unknown"}`;
const describe = (level) => {
  data.levels[level].read.forEach((text, k) => { read.children[k].textContent = text; });
  if (!children.length || !data.levels[0].labels[0].length) return;
  const words = data.levels[level].agreed.map(([a, value]) => labelled(a, value));
  const all = `${children.length} continuations agree in`;
  agreed.textContent = words.length ? `All ${all}` : `The ${all} nothing.`;
  for (const text of words) { agreed.append(" "); make(agreed, "span", "value", text); }
};
const show = (level) => {
  const now = data.levels[level];
  slider.value = level;
  slider.setAttribute("aria-valuetext", now.read[0]);
  describe(level);
  at("noised").src = data.pictures[now.noised];
  at("noised").alt = `the image with noise of ${now.read[0]}`;
  at("denoised").src = data.pictures[now.denoised];
  at("denoised").alt = `the posterior mean at ${now.read[0]}`;
  children.forEach((child, k) => {
    child.src = data.pictures[now.children[k]];
    child.title = now.labels[k].map(([a, value]) => labelled(a, value)).join("\n");
    child.alt = child.title || `continuation ${k + 1}`;
  });
  for (const end of ["x1", "x2"]) at("cursor").setAttribute(end, now.x);
  dots.forEach((dot, k) => { dot.setAttribute("cx", now.x); dot.setAttribute("cy", drawn[k].height[level]); });
  for (const set of charts) set(level);
};
// The words take the room of the longest of all levels, so that nothing below moves with the slider.
const reserve = () => {
  const texts = [read, agreed], heights = [0, 0];
  for (const text of texts) text.style.minHeight = "";
  data.levels.forEach((_, level) => {
    describe(level);
    texts.forEach((text, k) => { heights[k] = Math.max(heights[k], text.getBoundingClientRect().height); });
  });
  texts.forEach((text, k) => { text.style.minHeight = `${Math.ceil(heights[k])}px`; });
  describe(Number(slider.value));
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
