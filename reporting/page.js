"use strict";
// What all pages share. Everything that comes from a run or a folder reaches the page as text
// (textContent) or as an attribute: no name can become markup.
const data = JSON.parse(document.getElementById("data").textContent);

const byId = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function draw(tag, attributes = {}, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

// ---- Numbers and words ------------------------------------------------------------------------

function short(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  if (Number.isInteger(value)) return String(value);
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e6) return value.toExponential(2).replace(/\.?0+e/, "e");
  return String(Number(value.toPrecision(digits)));
}

const many = (count, one, several = one + "s") => `${count} ${count === 1 ? one : several}`;

/** "0.20 – 0.25", a bar of a histogram. */
function binName({start, width}, index) {
  const digits = Math.max(0, Math.ceil(-Math.log10(width) - 1e-9));
  return `${(start + index * width).toFixed(digits)} – ${(start + (index + 1) * width).toFixed(digits)}`;
}

function addTile(title, value, remark = "") {
  const description = make("dd", {}, value);
  if (remark) description.append(make("small", {}, remark));
  byId("tiles").append(make("div", {}, make("dt", {}, title), description));
}

// ---- Charts and tables -------------------------------------------------------------------------

const MARGIN = {left: 58, right: 14, top: 10, bottom: 26};

function linearTicks(low, high, wanted) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= 0.75 * rough);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; ++i) {
    ticks.push(Number((i * step).toPrecision(12)));
  }
  return ticks;
}

function fillTable(table, caption, heads, rows, classOf = () => "number") {
  const row = (cells, tag, attributes) => {
    const line = make("tr");
    cells.forEach((cell, i) => line.append(make(tag, {class: classOf(i), ...attributes(i)}, cell)));
    return line;
  };
  const body = make("tbody");
  for (const cells of rows) {
    const line = row(cells, "td", () => ({}));
    line.firstChild.replaceWith(make("th", {scope: "row", class: classOf(0)}, cells[0]));
    body.append(line);
  }
  table.append(make("caption", {}, caption),
               make("thead", {}, row(heads, "th", () => ({scope: "col"}))), body);
  return table;
}

/** A table that opens below a drawing, for whoever cannot see or wants the numbers. */
function numbersBelow(title, label, table) {
  return make("details", {}, make("summary", {}, title),
              make("div", {class: "scroll tall", tabindex: "0", role: "region", "aria-label": label}, table));
}

/** A plot that is drawn anew whenever its size changes. paint: its room inside MARGIN → svg. */
function makePlot(paint, attributes = {class: "plot"}) {
  const plot = make("div", attributes);
  new ResizeObserver(() => {
    const box = plot.getBoundingClientRect();
    const width = box.width - MARGIN.left - MARGIN.right, height = box.height - MARGIN.top - MARGIN.bottom;
    if (width > 0) plot.replaceChildren(paint({width, height, right: MARGIN.left + width, bottom: MARGIN.top + height}));
  }).observe(plot);
  return plot;
}

/** Lines and numbers of a plot. ticks: values; x, y: value → pixels; name: value → text. */
function drawAxes(svg, {right, bottom}, {xTicks, x, yTicks, y, name = short}) {
  for (const tick of yTicks) {
    svg.append(draw("line", {class: "grid", x1: MARGIN.left, x2: right, y1: y(tick), y2: y(tick)}),
               draw("text", {x: MARGIN.left - 8, y: y(tick) + 4, "text-anchor": "end"}, name(tick)));
  }
  svg.append(draw("line", {class: "axis", x1: MARGIN.left, x2: right, y1: bottom, y2: bottom}));
  for (const tick of xTicks) {
    svg.append(draw("text", {x: x(tick), y: bottom + 18, "text-anchor": "middle"}, short(tick)));
  }
}

/** What each line of a drawing means. series: [{label, style}] */
function makeLegend(series) {
  const legend = make("div", {class: "legend"});
  for (const {label, style} of series) {
    const sample = draw("svg", {viewBox: "0 0 30 10", "aria-hidden": "true"});
    sample.append(draw("line", {x1: 0, y1: 5, x2: 30, y2: 5, class: `line ${style}`}));
    legend.append(make("span", {}, sample, label));
  }
  return legend;
}
