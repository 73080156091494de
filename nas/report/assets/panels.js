// Draws the panels that `panels.py` describes, and the parallel coordinates of choices.
"use strict";

const LINES = 300; // architectures in the background of the parallel coordinates

class Panels {
  constructor(onBrush) {
    this.pending = new Map();
    this.boxes = []; // over the parallel coordinates: an axis' label with the least and largest value
    this.onBrush = onBrush;
    byId("unbrush").addEventListener("click", () => this.brush([]));
    // Figures are drawn when they come into view, so that the page opens quickly.
    this.watch = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting || !this.pending.has(entry.target)) continue;
        const draw = this.pending.get(entry.target);
        this.pending.delete(entry.target);
        draw();
      }
    }, { rootMargin: "400px" });
    // Printing needs all figures.
    window.addEventListener("beforeprint", () => {
      for (const draw of this.pending.values()) draw();
      this.pending.clear();
      forPrint(true);
    });
    window.addEventListener("afterprint", () => forPrint(false));
  }

  take(report) {
    this.report = report;
    for (const [section, panels] of Object.entries(report.contents.panels)) {
      this.fill(byId(`${section}-panels`), section, panels);
    }
  }

  // Puts the panels into two columns of about equal height, each into the shorter one.
  fill(place, section, panels) {
    const columns = panels.length < 2 ? 1 : 2;
    const heights = Array(columns).fill(0);
    const members = Array.from({ length: columns }, () => []);
    panels.forEach((panel, at) => {
      const column = heights.indexOf(Math.min(...heights));
      const rows = panel.rows.length && !panel.figure ? 34 * Math.min(12, panel.rows.length) : 24;
      heights[column] += (panel.figure ? panel.figure.layout.height : 0) + 30 * panel.pictures.length + rows + 90 + panel.text.length / 3;
      const article = this.panel(section, panel);
      article.style.order = at; // where the columns are stacked
      members[column].push(article);
    });
    place.replaceChildren(...members.map((articles) => make("div", { class: "column" }, articles)));
  }

  panel(section, panel) {
    const id = `${section}-${panel.key}`;
    const figure = panel.figure && make("div", {
      class: "figure", role: "img", "aria-labelledby": `${id}-title ${id}-text`,
    });
    if (figure) {
      figure.style.height = `${panel.figure.layout.height}px`;
      this.draw(figure, () => {
        const drawing = recoloured(panel.figure, this.report.contents.palette);
        const layout = { ...drawing.layout };
        for (const [key, value] of Object.entries(plain())) {
          layout[key] = key === "legend" ? { ...value, ...layout.legend } : value;
        }
        Plotly.react(figure, drawing.data, layout, { displayModeBar: false, responsive: true });
      });
    }
    return make("article", { class: "panel", id },
      make("h3", { id: `${id}-title` }, panel.title), make("p", { id: `${id}-text` }, panel.text), figure,
      panel.pictures.length ? make("div", { class: "pictures" }, panel.pictures.map(([data, words]) =>
        make("figure", {}, make("img", { src: `data:image/png;base64,${data}`, alt: words }),
          make("figcaption", {}, words)))) : null,
      panel.rows.length ? make("details", { open: !figure && !panel.pictures.length && panel.rows.length < 12 },
        make("summary", {}, "As a table"),
        make("div", { class: "wide" }, table(panel.head, panel.rows, panel.title))) : null);
  }

  draw(figure, work) {
    this.pending.set(figure, work);
    this.watch.observe(figure);
  }

  // One line per architecture, across its choices (or means of groups of choices) and two metrics.
  parallel(frontier) {
    const { report } = this;
    const figure = byId("parallel");
    const axes = [...report.contents.axes.map((axis) => this.choiceAxis(axis)),
      ...[frontier.x, frontier.y].filter(Boolean).map((m) => ({
        label: m.label, of: (i) => report.columns[m.name][i], words: (v) => shown(m, v),
      }))];
    if (!report.count || axes.length < 2) {
      byId("parallel-words").textContent = "No architecture has been evaluated yet.";
      return;
    }
    const all = Array.from({ length: report.count }, (_, i) => i);
    const kept = this.kept(axes);
    const background = kept ? all.filter((i) => kept[i]) : all;
    const stride = Math.max(1, Math.ceil(background.length / LINES));
    const others = background.filter((_, at) => at % stride === 0);
    const members = kept ? frontier.members.filter((i) => kept[i]) : frontier.members;
    const ends = axes.map((axis) => {
      let [low, high] = [Infinity, -Infinity];
      for (let i = 0; i < report.count; i++) {
        const v = axis.of(i);
        if (v < low) low = v;
        if (v > high) high = v;
      }
      return [low, high];
    });
    const line = (indices, name, color, width, opacity) => ({
      type: "scatter", mode: "lines", name, opacity, line: { color, width }, hoverinfo: "skip",
      x: indices.flatMap(() => [...axes.map((_, at) => at), null]),
      y: indices.flatMap((i) => [...axes.map((axis, at) => {
        const [low, high] = ends[at];
        return high > low ? (axis.of(i) - low) / (high - low) : 0.5;
      }), null]),
    });
    const traces = [
      line(others, others.length < all.length ? `${others.length} of all evaluated` : "all evaluated", theme("--muted"), 1, 0.28),
      line(members, "frontier", theme("--accent"), 2, 0.8),
    ];
    if (frontier.selected >= 0) traces.push(line([frontier.selected], "selected", theme("--bound"), 3.5, 1));
    const layout = {
      ...plain(), height: 380, margin: { l: 40, r: 40, t: 64, b: 92 }, dragmode: "select",
      newselection: { line: { color: theme("--bound"), width: 1 } }, selections: [],
      shapes: this.boxes.flatMap((box) => {
        const at = axes.findIndex((axis) => axis.label === box.label);
        if (at < 0) return [];
        const [low, high] = ends[at];
        const y = (v) => (high > low ? (v - low) / (high - low) : 0.5);
        return [{ type: "rect", x0: at - 0.08, x1: at + 0.08, y0: Math.max(-0.05, y(box.low)), y1: Math.min(1.05, y(box.high)),
          fillcolor: theme("--bound"), opacity: 0.25, line: { width: 0 } }];
      }),
      xaxis: { tickvals: axes.map((_, at) => at), ticktext: axes.map((axis) => escaped(axis.label)), tickangle: axes.length > 6 ? -30 : 0,
        zeroline: false, gridcolor: theme("--line"), range: [-0.35, axes.length - 0.65], fixedrange: true },
      yaxis: { visible: false, range: [-0.06, 1.06], fixedrange: true },
      annotations: axes.flatMap((axis, at) => [0, 1].map((end) => ({
        x: at, y: end, text: escaped(axis.words(ends[at][end])), showarrow: false, yshift: end ? 11 : -11,
        font: { size: 11, color: theme("--soft") },
      }))),
    };
    layout.legend = { ...layout.legend, y: 1.1 };
    byId("parallel-words").textContent =
      `Each line is an architecture across its choices, ${frontier.x.label} and ${frontier.y.label}; ` +
      `${frontier.members.length} are on the frontier. Each axis spans the minimum to the maximum of its values.`;
    this.axes = axes;
    this.draw(figure, () => {
      Plotly.react(figure, traces, layout, { displayModeBar: false, responsive: true });
      if (this.listening) return;
      this.listening = true;
      figure.on("plotly_selected", (event) => this.drawn(event));
    });
    this.frontier = frontier;
    this.ends = ends;
    // The observer reports a figure that is in view only when it is observed again.
    this.watch.unobserve(figure);
    this.watch.observe(figure);
  }

  // A box that was drawn: it narrows every axis that it crosses.
  drawn(event) {
    if (!event || !event.range) return;
    const [left, right] = [...event.range.x].sort((a, b) => a - b);
    const [below, above] = [...event.range.y].sort((a, b) => a - b);
    const crossed = this.axes.flatMap((axis, at) => {
      if (at < left - 0.02 || at > right + 0.02) return [];
      const [low, high] = this.ends[at];
      return [{ label: axis.label, low: low + below * (high - low), high: low + above * (high - low) }];
    });
    const labels = new Set(crossed.map((box) => box.label));
    this.brush(crossed.length ? [...this.boxes.filter((box) => !labels.has(box.label)), ...crossed] : this.boxes);
  }

  // Keeps the architectures that pass all boxes.
  brush(boxes) {
    this.boxes = boxes;
    const kept = this.kept(this.axes);
    byId("unbrush").hidden = !kept;
    byId("brushed-words").textContent = kept
      ? `${kept.reduce((sum, v) => sum + v, 0).toLocaleString("en")} of ${this.report.count.toLocaleString("en")} ` +
        `architectures pass ${boxes.length === 1 ? "the box" : `all ${boxes.length} boxes`}; the table and the chart show them.`
      : "Draw a box over an axis to keep the lines that pass it.";
    this.onBrush(kept);
    this.parallel(this.frontier);
  }

  // One byte an architecture: whether it passes all boxes; null without boxes.
  kept(axes) {
    const used = this.boxes.map((box) => [box, axes.find((axis) => axis.label === box.label)]).filter(([, axis]) => axis);
    if (!used.length) return null;
    return Uint8Array.from({ length: this.report.count }, (_, i) => {
      const passes = used.every(([box, axis]) => {
        const v = axis.of(i);
        return v >= box.low && v <= box.high;
      });
      return passes ? 1 : 0;
    });
  }

  choiceAxis(axis) {
    const { report } = this;
    const options = axis.columns.map((column) => report.choices[column].options);
    const value = (column, i) => {
      const option = report.option(i, column);
      if (option === undefined) return NaN;
      return axis.numeric ? Number(option) : report.choices[column].options.indexOf(option);
    };
    const of = (i) => {
      let [sum, count] = [0, 0];
      for (const column of axis.columns) {
        const v = value(column, i);
        if (v === v) [sum, count] = [sum + v, count + 1];
      }
      return count ? sum / count : NaN;
    };
    const whole = axis.columns.length === 1;
    const words = (v) => whole && !axis.numeric ? String(options[0][Math.round(v)]) : String(+Number(v).toPrecision(3));
    return { label: axis.label, of, words };
  }
}
