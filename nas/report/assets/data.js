// Unpacks the report's contents: columns, choices, and the layers of any architecture.
// Knows the JSON of `contents.py`. Does not know the page.
"use strict";

const ABSENT = 255;
const OFF = 0xffffffff;

function unpack(packed) {
  const text = atob(packed.data);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const kind = { Uint8Array, Uint16Array, Uint32Array, Float64Array }[packed.type];
  return new kind(bytes.buffer);
}

function unpackAll(columns) {
  return Object.fromEntries(Object.entries(columns).map(([name, c]) => [name, unpack(c)]));
}

class Report {
  constructor(contents) {
    this.contents = contents;
    this.run = contents.run;
    this.metrics = contents.metrics;
    this.byName = Object.fromEntries(contents.metrics.map((m) => [m.name, m]));
    this.choices = contents.choices;
    const points = contents.points;
    this.count = points.count;
    this.winner = points.winner;
    this.knee = points.knee;
    this.columns = unpackAll(points.columns);
    this.numbers = unpack(points.numbers);
    this.hours = unpack(points.hours);
    this.seconds = unpack(points.seconds);
    this.feasible = unpack(points.feasible);
    this.front = unpack(points.front);
    this.codes = unpack(contents.codes);
    const bytes = unpack(points.ids);
    this.ids = [];
    for (let i = 0; i < this.count; i++) {
      let id = "";
      for (let j = 0; j < 6; j++) id += bytes[6 * i + j].toString(16).padStart(2, "0");
      this.ids.push(id);
    }
    this.networks = contents.networks && unpackNetworks(contents.networks);
  }

  code(index, column) {
    return this.codes[index * this.choices.length + column];
  }

  // The option of an architecture; undefined if it does not have the choice.
  option(index, column) {
    const code = this.code(index, column);
    return code === ABSENT ? undefined : this.choices[column].options[code];
  }

  // The active blocks of an architecture, each with its ops and costs; null if there is no space.
  blocks(index) {
    if (!this.networks) return null;
    const { blocks, ops, templates, forms } = this.networks;
    const found = [];
    for (const block of blocks) {
      let key = 0;
      block.columns.forEach((column, at) => {
        const code = this.code(index, column);
        key += (code === ABSENT ? 0 : code) * block.weights[at];
      });
      const form = block.forms[position(block.keys, key)];
      if (form === OFF) continue;
      const members = [];
      for (let i = forms.start[form]; i < forms.start[form + 1]; i++) members.push(ops[forms.ops[i]]);
      const costs = {};
      for (const name of Object.keys(forms.costs)) costs[name] = forms.costs[name][form];
      found.push({
        name: block.name, stage: block.stage, columns: block.columns, form, ops: members,
        template: templates[forms.template[form]], costs,
      });
    }
    return found;
  }
}

function unpackNetworks(packed) {
  return {
    ops: packed.ops,
    templates: packed.templates,
    blocks: packed.blocks.map((b) => ({ ...b, keys: unpack(b.keys), forms: unpack(b.forms) })),
    forms: {
      template: unpack(packed.forms.template),
      start: unpack(packed.forms.start),
      ops: unpack(packed.forms.ops),
      costs: unpackAll(packed.forms.costs),
    },
  };
}

function position(sorted, wanted) {
  let low = 0;
  let high = sorted.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}

// Formatting of numbers, as on the command line

function digits(value) {
  const size = Math.abs(value);
  return size >= 99.95 || Number.isInteger(value) ? value.toFixed(0) : String(+value.toPrecision(3));
}

function size(value) {
  for (const [suffix, factor] of [["P", 1e15], ["T", 1e12], ["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
    if (Math.abs(value) >= 0.9995 * factor) return digits(value / factor) + suffix;
  }
  return digits(value);
}

function shown(metric, value) {
  if (value === undefined || Number.isNaN(value)) return "–";
  if (metric.style === "share") return (100 * value).toFixed(2) + " %";
  if (metric.style === "size") return size(value);
  if (metric.style === "bytes") return size(value) + "B";
  return String(+value.toPrecision(4));
}

function signed(metric, difference) {
  if (difference === 0) return "0";
  const sign = difference > 0 ? "+" : "−";
  return sign + shown(metric, Math.abs(difference)).replace(" %", " points");
}

function shape(sizes) {
  return sizes.join("×");
}

// Construction of elements; text is never parsed as HTML

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("aria-")) element.setAttribute(name, String(value));
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined) element.setAttribute(name, value);
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined) element.append(child);
  }
  return element;
}

function table(head, rows, caption) {
  const numeric = head.map((_, i) => rows.length > 0 && rows.every((row) => /^[−+\d.,]/.test(row[i])));
  const cells = (tag, row, extra) => row.map((text, i) =>
    make(tag, { ...extra, class: numeric[i] ? "n" : undefined }, text));
  return make("table", {},
    caption ? make("caption", { class: "hidden" }, caption) : null,
    make("thead", {}, make("tr", {}, cells("th", head, { scope: "col" }))),
    make("tbody", {}, rows.map((row) => make("tr", {}, cells("td", row, {})))));
}

const byId = (id) => document.getElementById(id);
