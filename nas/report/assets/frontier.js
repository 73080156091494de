// The frontier: a plotly chart over a canvas with all evaluated points, and the list beside it.
// The points are on a canvas because twenty thousand SVG elements take seconds to draw and WebGL is
// not always available. Knows the selected axes and state. Does not know what a selection shows.
"use strict";

const NEAR = 14; // largest distance in pixels between the pointer and the point that it selects
const PINS = 4; // most architectures that are pinned at a time

class Frontier {
  constructor(actions) {
    this.actions = actions;
    this.selected = -1;
    this.pins = [];
    this.kept = null; // which points the boxes over the parallel coordinates keep; null: all
    this.members = [];
    this.plot = byId("plot");
    this.chart = byId("chart");
    this.canvas = byId("cloud");
    this.tip = byId("tip");
    for (const id of ["x", "y", "x-log", "y-log", "published", "noise"]) {
      byId(id).addEventListener("change", () => this.redraw());
    }
    byId("after").addEventListener("input", () => this.redraw());
    byId("save-image").addEventListener("click", () => this.saveImage());
    this.plot.closest("section").addEventListener("print", (event) => this.forPrint(event.detail));
    byId("controls").addEventListener("submit", (event) => event.preventDefault());
    this.plot.addEventListener("keydown", (event) => this.key(event));
    byId("list").addEventListener("keydown", (event) => this.key(event));
    let down = null;
    this.plot.addEventListener("pointerdown", (e) => { down = [e.clientX, e.clientY]; }, true);
    window.addEventListener("pointerup", (e) => {
      if (down && Math.hypot(e.clientX - down[0], e.clientY - down[1]) < 4) this.click(e);
      down = null;
    }, true);
    this.plot.addEventListener("pointermove", (event) => this.hover(event), true);
    this.plot.addEventListener("pointerleave", () => { this.tip.hidden = true; });
    new ResizeObserver(() => this.chart._fullLayout && Plotly.Plots.resize(this.chart))
      .observe(this.plot);
  }

  // Shows a report: the first one, or a later state of the same run.
  take(report) {
    const wasLatest = !this.report || +byId("after").value >= this.report.run.evaluations;
    this.report = report;
    const first = report.objectives[0];
    const second = report.objectives.find((o) => o.metric !== first.metric && this.known(o.metric));
    this.options("x", second ? second.metric : "macs");
    this.options("y", first.metric);
    const after = byId("after");
    after.max = Math.max(1, report.run.evaluations);
    if (wasLatest) after.value = after.max;
    byId("published-field").hidden = report.contents.published.length === 0;
    byId("noise-field").hidden = !report.contents.noise;
    this.sources();
    this.draw();
  }

  // Draws after the reader has changed what is drawn: the rest of the page follows.
  redraw() {
    this.draw();
    this.actions.changed();
  }

  known(name) {
    return name in this.report.byName;
  }

  options(id, preferred) {
    const select = byId(id);
    const current = select.value || preferred;
    select.replaceChildren(...this.report.metrics.map((m) =>
      make("option", { value: m.name, selected: m.name === current }, m.label)));
  }

  sources() {
    const networks = this.report.contents.published;
    byId("sources").hidden = networks.length === 0;
    if (!networks.length) return;
    byId("sources-table").replaceChildren(table(
      ["network", "top-1 accuracy", "FLOPs", "parameters", "source"],
      networks.map((n) => [n.name, (100 * n.accuracy).toFixed(1) + " %", size(n.macs),
        n.params ? size(n.params) : "not published", n.source])));
  }

  // Points up to the selected evaluation that no other one dominates in the two metrics, in order of x.
  nondominated() {
    const { report, xs, ys, after } = this;
    return dominating(xs, ys, this.x.less, this.y.less, (i) => report.feasible[i] && report.numbers[i] < after);
  }

  draw() {
    const report = this.report;
    const chosen = (id) => report.byName[byId(id).value];
    [this.x, this.y] = [chosen("x"), chosen("y")];
    if (!this.x || !this.y) {
      byId("plot-words").textContent =
        "No architecture has been evaluated yet; points appear here after the first evaluation.";
      return;
    }
    this.xs = report.columns[this.x.name];
    this.ys = report.columns[this.y.name];
    this.after = +byId("after").value;
    const ended = report.hours[report.numbers.findLastIndex((n) => n < this.after)];
    const hours = ended === ended && ended !== undefined ? `, ${hoursInWords(ended)}` : "";
    byId("after-words").textContent =
      `${this.after.toLocaleString("en")} of ${report.run.evaluations.toLocaleString("en")}${hours}`;
    this.members = this.nondominated();
    this.render();
    this.list();
    this.words();
  }

  words() {
    const { report, members } = this;
    const words =
      `y: ${this.y.label} (${better(this.y)}); x: ${this.x.label} (${better(this.x)}). ` +
      `${members.length} of ${report.count.toLocaleString("en")} evaluated architectures are on ` +
      "the frontier of these two, drawn as a line. ";
    const objectives = report.objectives.map((o) => report.byName[o.metric]?.label || o.metric);
    const all = report.objectives.length > 2
      ? `The run's own frontier is of ${objectives.slice(0, -1).join(", ")} and ${objectives.at(-1)}: ` +
        "its points may lie off this line. " : "";
    const noise = report.contents.noise;
    const bars = noise && this.noisy(this.y)
      ? `Bars are 95 % intervals of ${noise.samples.toLocaleString("en")} ${noise.part} samples: ` +
        "differences within them may be chance. " : "";
    const hidden = this.selected >= 0 && report.numbers[this.selected] >= this.after
      ? `${report.ids[this.selected]} was evaluated later. ` : "";
    byId("plot-words").textContent = `${words}${all}${bars}${hidden}Click a point to show its architecture.`;
  }

  noisy(metric) {
    return Boolean(this.report.contents.noise) && metric.name === this.report.contents.noise.metric && byId("noise").checked;
  }

  // Half of the 95 % interval of a share of `samples`, by Wilson's formula about its own centre.
  interval(value) {
    const n = this.report.contents.noise.samples;
    const z = 1.96;
    const centre = (value + z * z / (2 * n)) / (1 + z * z / n);
    const half = z * Math.sqrt(value * (1 - value) / n + z * z / (4 * n * n)) / (1 + z * z / n);
    return [Math.max(0, value - centre + half), Math.max(0, centre + half - value)];
  }

  bars(metric, values) {
    if (!this.noisy(metric)) return undefined;
    const ends = values.map((v) => this.interval(v));
    return { type: "data", symmetric: false, array: ends.map((e) => e[1]), arrayminus: ends.map((e) => e[0]),
      color: theme("--accent"), thickness: 1, width: 2 };
  }

  references() {
    const shown = byId("published").checked && this.y.name === "accuracy";
    if (!shown || this.y.style !== "share") return [];
    return this.report.contents.published.filter((n) => n[this.x.name] > 0);
  }

  lines() {
    const style = { color: theme("--bound"), width: 1.5, dash: "dash" };
    const shapes = [];
    const annotations = [];
    for (const bound of this.report.contents.bounds) {
      const label = { text: escaped(bound.words), showarrow: false, font: { color: theme("--bound") } };
      if (bound.metric === this.x.name) {
        const x = byId("x-log").checked ? Math.log10(bound.value) : bound.value;
        shapes.push({ type: "line", x0: bound.value, x1: bound.value, yref: "paper", y0: 0, y1: 1, line: style });
        annotations.push({ ...label, x, y: 1, yref: "paper", xanchor: "right", yanchor: "bottom" });
      } else if (bound.metric === this.y.name) {
        const y = byId("y-log").checked ? Math.log10(bound.value) : bound.value;
        shapes.push({ type: "line", y0: bound.value, y1: bound.value, xref: "paper", x0: 0, x1: 1, line: style });
        annotations.push({ ...label, y, x: 0, xref: "paper", xanchor: "left", yanchor: "bottom" });
      }
    }
    return { shapes, annotations };
  }

  range(values, metric, log, others) {
    let low = Infinity;
    let high = -Infinity;
    for (let i = 0; i < values.length; i++) {
      const v = values[i];
      if (v === v && (!log || v > 0)) {
        if (v < low) low = v;
        if (v > high) high = v;
      }
    }
    // A bound far outside of the data would leave little room for the points.
    const spread = high - low || Math.abs(high) || 1;
    for (const bound of this.report.contents.bounds) {
      if (bound.metric !== metric.name) continue;
      if (bound.value < high + spread && bound.value > low - spread) others.push(bound.value);
    }
    for (const v of others) {
      low = Math.min(low, v);
      high = Math.max(high, v);
    }
    if (log) {
      const pad = 0.04 * (Math.log10(high / low) || 1);
      return [Math.log10(low) - pad, Math.log10(high) + pad];
    }
    const pad = 0.045 * (high - low || Math.abs(high) || 1);
    return [low - pad, high + pad];
  }

  render() {
    const { report, xs, ys, members, x, y } = this;
    const [xLog, yLog] = [byId("x-log").checked, byId("y-log").checked];
    const references = this.references();
    const at = (indices, extra) => ({
      type: "scatter", mode: "markers", hoverinfo: "skip", showlegend: true,
      x: indices.map((i) => xs[i]), y: indices.map((i) => ys[i]), customdata: indices, ...extra,
    });
    const open = (symbol, color, width) => ({ symbol, size: 17, color, line: { width, color } });
    const known = (index) => index >= 0 && report.numbers[index] < this.after;
    const marked = (name, index, symbol) => known(index)
      ? [at([index], { name, marker: open(symbol, theme("--bound"), 2) })] : [];
    const pins = this.pins.filter(known);
    const traces = [
      // Legend entry of the points on the canvas.
      { type: "scatter", mode: "markers", x: [null], y: [null], name: "evaluated", hoverinfo: "skip",
        marker: { size: 6, symbol: "square", color: theme("--muted") } },
      at(members, {
        name: "frontier", mode: "lines+markers",
        line: { shape: x.less ? "hv" : "vh", color: theme("--accent"), width: 2 },
        marker: { size: 8, color: theme("--accent") },
        error_y: this.bars(y, members.map((i) => ys[i])), error_x: this.bars(x, members.map((i) => xs[i])),
      }),
      ...this.others(),
      ...marked("knee", report.knee, "diamond-open"),
      ...marked("winner", report.winner, "star-open"),
      ...(pins.length ? [at(pins, { name: "pinned", marker: open("square-open", theme("--third"), 3) })] : []),
      ...(known(this.selected) ? [at([this.selected], { name: "selected", marker: open("circle-open", theme("--ink"), 3) })] : []),
    ];
    if (references.length) {
      traces.push({
        type: "scatter", mode: "markers+text", name: "published", hoverinfo: "text",
        x: references.map((n) => n[x.name]), y: references.map((n) => n.accuracy),
        text: references.map((n) => n.name), textposition: "top center",
        textfont: { size: 10, color: theme("--soft") },
        hovertext: references.map((n) => `${n.name}<br>${(100 * n.accuracy).toFixed(1)} %, ${size(n.macs)} FLOPs<br>${n.source}`),
        marker: { symbol: "triangle-up-open", size: 9, color: theme("--third"), line: { width: 1.6 } },
      });
    }
    const axis = (metric, log, range) => ({
      title: { text: escaped(metric.label), standoff: 8 }, type: log ? "log" : "linear", range, autorange: false,
      gridcolor: theme("--line"), zeroline: false, automargin: true, linecolor: theme("--line"),
      tickformat: metric.style === "share" ? ".1%" : metric.style === "number" ? "" : "~s",
    });
    const layout = {
      ...plain(), margin: { l: 64, r: 20, t: 46, b: 58 },
      xaxis: axis(x, xLog, this.range(xs, x, xLog, [...references.map((n) => n[x.name]), ...this.elsewhere(x)])),
      yaxis: axis(y, yLog, this.range(ys, y, yLog, [...references.map((n) => n.accuracy), ...this.elsewhere(y)])),
      ...this.lines(), uirevision: [x.name, y.name, xLog, yLog].join(),
    };
    const config = {
      displaylogo: false, responsive: false, scrollZoom: false,
      modeBarButtons: [["zoom2d", "pan2d", "resetScale2d"]],
    };
    Plotly.react(this.chart, traces, layout, config);
    if (!this.listening) {
      this.listening = true;
      this.chart.on("plotly_afterplot", () => this.cloud());
      this.chart.on("plotly_relayouting", () => this.cloud());
      this.cloud();
    }
  }

  // The frontiers of other runs in the same two metrics.
  others() {
    return this.report.contents.others.flatMap((run, at) => {
      const columns = [this.x, this.y].map((m) => run.columns[m.name]);
      if (columns.some((c) => !c)) return [];
      const order = dominating(columns[0], columns[1], this.x.less, this.y.less);
      const hues = ["--third", "--bound", "--less", "--soft"];
      return [{
        type: "scatter", mode: "lines+markers", name: run.name, hoverinfo: "text",
        x: order.map((i) => columns[0][i]), y: order.map((i) => columns[1][i]),
        hovertext: order.map((i) => escaped(`${run.name}: ${run.ids[i]}`)),
        line: { shape: this.x.less ? "hv" : "vh", color: theme(hues[at % hues.length]), width: 1.5,
          dash: ["dash", "dot", "dashdot"][Math.floor(at / hues.length) % 3] },
        marker: { size: 6, symbol: ["square", "diamond", "triangle-up", "cross"][at % 4], color: theme(hues[at % hues.length]) },
      }];
    });
  }

  elsewhere(metric) {
    return this.report.contents.others.flatMap((run) => run.columns[metric.name] || []).filter((v) => v === v);
  }

  // Position of a point in the plot in pixels, from plotly's axes.
  pixel(index) {
    const { xaxis, yaxis } = this.chart._fullLayout;
    return [
      xaxis._offset + xaxis.d2p(this.xs[index]),
      yaxis._offset + yaxis.d2p(this.ys[index]),
    ];
  }

  cloud() {
    const { canvas } = this;
    const scale = window.devicePixelRatio || 1;
    const [width, height] = [this.plot.clientWidth, this.plot.clientHeight];
    canvas.width = width * scale;
    canvas.height = height * scale;
    const draw = canvas.getContext("2d");
    draw.scale(scale, scale);
    const { xaxis, yaxis } = this.chart._fullLayout;
    draw.beginPath();
    draw.rect(xaxis._offset, yaxis._offset, xaxis._length, yaxis._length);
    draw.clip();
    this.points(draw);
  }

  points(draw) {
    const { report } = this;
    draw.fillStyle = draw.strokeStyle = theme("--muted");
    const plain = report.count > 3000 ? 0.45 : 0.7;
    const half = report.count > 3000 ? 1.5 : 2.5;
    for (let i = 0; i < report.count; i++) {
      if (report.numbers[i] >= this.after) continue;
      draw.globalAlpha = this.kept && !this.kept[i] ? 0.1 : plain;
      const [x, y] = this.pixel(i);
      if (report.feasible[i]) draw.fillRect(x - half, y - half, 2 * half, 2 * half);
      else draw.strokeRect(x - half, y - half, 2 * half, 2 * half);
    }
  }

  // The points as a picture in the chart itself, where paper or a file scale both alike.
  picture() {
    const { xaxis, yaxis } = this.chart._fullLayout;
    const canvas = make("canvas", { width: 2 * xaxis._length, height: 2 * yaxis._length });
    const draw = canvas.getContext("2d");
    draw.scale(2, 2);
    draw.translate(-xaxis._offset, -yaxis._offset);
    this.points(draw);
    return { source: canvas.toDataURL(), xref: "paper", yref: "paper", x: 0, y: 1, sizex: 1, sizey: 1,
      sizing: "stretch", layer: "below" };
  }

  forPrint(begins) {
    if (!this.chart._fullLayout || !this.x) return;
    Plotly.relayout(this.chart, { images: begins ? [this.picture()] : [] });
    this.canvas.hidden = begins;
  }

  async saveImage() {
    if (!this.x) return;
    const { width, height } = this.chart._fullLayout;
    const layout = { ...this.chart.layout, images: [this.picture()], paper_bgcolor: theme("--surface") };
    const source = await Plotly.toImage({ data: this.chart.data, layout, config: {} }, { format: "png", width, height, scale: 2 });
    const bytes = Uint8Array.from(atob(source.split(",")[1]), (c) => c.charCodeAt(0));
    save(new Blob([bytes], { type: "image/png" }), `${this.report.run.name}-frontier.png`);
  }

  nearest(event) {
    if (!this.chart._fullLayout || !this.xs || event.target.closest(".modebar, .legend")) return -1;
    const box = this.plot.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    if (px < 0 || py < 0 || px > box.width || py > box.height) return -1;
    let found = -1;
    let least = NEAR * NEAR;
    const consider = (i, bonus) => {
      if (this.report.numbers[i] >= this.after) return;
      const [x, y] = this.pixel(i);
      const distance = (x - px) ** 2 + (y - py) ** 2 - bonus;
      if (distance < least) [found, least] = [i, distance];
    };
    for (let i = 0; i < this.report.count; i++) consider(i, 0);
    for (const i of this.members) consider(i, 20); // frontier points are drawn larger
    return found;
  }

  click(event) {
    if (!this.plot.contains(event.target) && !event.target.closest(".dragcover")) return;
    const index = this.nearest(event);
    if (index >= 0) this.select(index);
  }

  hover(event) {
    const index = event.buttons ? -1 : this.nearest(event);
    this.tip.hidden = index < 0;
    this.plot.style.cursor = index < 0 ? "" : "pointer";
    if (index < 0) return;
    this.tip.textContent = [
      this.report.ids[index],
      `${this.y.label} ${shown(this.y, this.ys[index])}`,
      `${this.x.label} ${shown(this.x, this.xs[index])}`,
    ].join("\n");
    const [x, y] = this.pixel(index);
    const right = x > this.plot.clientWidth - 190;
    this.tip.style.left = right ? "" : `${x + 12}px`;
    this.tip.style.right = right ? `${this.plot.clientWidth - x + 12}px` : "";
    this.tip.style.top = `${Math.max(4, y - 30)}px`;
  }

  key(event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const end = { Home: 0, End: this.members.length - 1 }[event.key];
    if ((step === undefined && end === undefined) || !this.members.length) return;
    event.preventDefault();
    const at = this.members.indexOf(this.selected);
    const next = end ?? (at < 0 ? 0 : Math.min(this.members.length - 1, Math.max(0, at + step)));
    this.select(this.members[next]);
    if (event.currentTarget.id === "list") {
      const button = byId("list").querySelector("[aria-current=true] button");
      if (button) button.focus();
    }
  }

  select(index) {
    this.selected = index;
    this.actions.selected(index);
    // The architecture is shown first; the mark in the chart follows in the next frame.
    this.mark();
    requestAnimationFrame(() => { this.render(); this.words(); });
  }

  list() {
    const { report, x, y } = this;
    byId("list-head").replaceChildren(
      make("th", { scope: "col" }, "architecture"),
      make("th", { scope: "col", class: "n" }, x.label),
      make("th", { scope: "col", class: "n" }, y.label));
    byId("list").replaceChildren(...this.members.map((i) =>
      make("tr", { "data-index": i, onclick: () => this.select(i) },
        make("td", {}, make("button", { type: "button", tabindex: -1 }, report.ids[i].slice(0, 8)),
          i === report.knee ? make("span", { class: "badge" }, "knee") : null,
          i === report.winner ? make("span", { class: "badge" }, "winner") : null),
        make("td", { class: "n" }, shown(x, this.xs[i])),
        make("td", { class: "n" }, shown(y, this.ys[i])))));
    this.mark();
  }

  // Only one row takes part in tab navigation: the selected one, or the first.
  mark() {
    const rows = [...byId("list").children];
    let current = rows.find((row) => +row.dataset.index === this.selected);
    for (const row of rows) {
      row.setAttribute("aria-current", row === current);
      row.querySelector("button").tabIndex = -1;
    }
    const box = byId("list-scroll");
    if (current) {
      const top = current.offsetTop - 34;
      if (top < box.scrollTop || top + 70 > box.scrollTop + box.clientHeight) box.scrollTop = top - 60;
    }
    current = current || rows[0];
    if (current) current.querySelector("button").tabIndex = 0;
  }
}

// Indices of the points that no other one dominates, in ascending order of x.
function dominating(xs, ys, xLess, yLess, admitted = () => true) {
  const [sx, sy] = [xLess ? 1 : -1, yLess ? 1 : -1];
  const order = [];
  for (let i = 0; i < xs.length; i++) {
    if (xs[i] === xs[i] && ys[i] === ys[i] && admitted(i)) order.push(i);
  }
  order.sort((a, b) => sx * (xs[a] - xs[b]) || sy * (ys[a] - ys[b]) || a - b);
  const members = [];
  let best = Infinity;
  for (const i of order) {
    if (sy * ys[i] < best) {
      best = sy * ys[i];
      members.push(i);
    }
  }
  return xLess ? members : members.reverse();
}

function better(metric) {
  return metric.less ? "lower is better" : "higher is better";
}

function hoursInWords(hours) {
  const seconds = Math.round(hours * 3600);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}
