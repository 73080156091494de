// Draws the panels that `panels.py` describes, and the parallel coordinates of choices.
"use strict";

const LINES = 300; // architectures in the background of the parallel coordinates

class Panels {
  constructor() {
    this.pending = new Map();
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
    });
  }

  take(report) {
    this.report = report;
    for (const [section, panels] of Object.entries(report.contents.panels)) {
      byId(`${section}-panels`).replaceChildren(...panels.map((panel) => this.panel(section, panel)));
    }
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
      panel.rows.length ? make("details", { open: !figure && panel.rows.length < 12 },
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
    const stride = Math.max(1, Math.ceil(all.length / LINES));
    const others = all.filter((i) => i % stride === 0);
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
      line(frontier.members, "frontier", theme("--accent"), 2, 0.8),
    ];
    if (frontier.selected >= 0) traces.push(line([frontier.selected], "selected", theme("--bound"), 3.5, 1));
    const layout = {
      ...plain(), height: 380, margin: { l: 40, r: 40, t: 64, b: 92 }, dragmode: false,
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
    this.draw(figure, () => Plotly.react(figure, traces, layout, { displayModeBar: false, responsive: true }));
    // The observer reports a figure that is in view only when it is observed again.
    this.watch.unobserve(figure);
    this.watch.observe(figure);
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
