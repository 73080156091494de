// The table of all architectures: sorted by any column, filtered, a part of the rows at a time.
// Knows a report's columns. Does not know what is selected.
"use strict";

const ROWS = 100; // rows that are added at a time: twenty thousand would take seconds

class Trials {
  constructor(actions) {
    this.actions = actions;
    this.order = { key: "number", down: false };
    this.shown = ROWS;
    byId("trials-controls").addEventListener("submit", (event) => event.preventDefault());
    byId("trials-rows").addEventListener("change", () => this.restart());
    byId("trials-text").addEventListener("input", () => this.restart());
    byId("trials-more").addEventListener("click", () => { this.shown += ROWS; this.draw(); });
    byId("save-rows").addEventListener("click", () => this.save());
  }

  take(report, frontier) {
    this.report = report;
    this.frontier = frontier;
    this.draw();
  }

  restart() {
    this.shown = ROWS;
    this.draw();
  }

  columns() {
    const { report } = this;
    return [
      { key: "number", label: "evaluation", of: (i) => report.numbers[i] + 1, words: (v) => v.toLocaleString("en") },
      ...report.metrics.map((m) => ({
        key: m.name, label: m.label, of: (i) => report.columns[m.name][i], words: (v) => shown(m, v),
      })),
      { key: "seconds", label: "seconds", of: (i) => report.seconds[i], words: (v) => String(+v.toPrecision(3)) },
    ];
  }

  rows() {
    const { report, frontier } = this;
    const wanted = byId("trials-rows").value;
    const members = new Set(frontier.members);
    const words = byId("trials-text").value.trim().toLowerCase();
    const [name, option] = words.includes("=") ? words.split("=", 2) : [null, null];
    const columns = name === null ? [] : report.choices.map((c, at) => [c.name.toLowerCase(), at])
      .filter(([n]) => n.includes(name.trim())).map(([, at]) => at);
    const has = (i) => {
      if (!words) return true;
      if (name === null) return report.ids[i].includes(words);
      return columns.some((at) => String(report.option(i, at)).toLowerCase() === option.trim());
    };
    const found = [];
    for (let i = 0; i < report.count; i++) {
      if (wanted === "within" && !report.feasible[i]) continue;
      if (wanted === "frontier" && !members.has(i)) continue;
      if (frontier.kept && !frontier.kept[i]) continue;
      if (has(i)) found.push(i);
    }
    const column = this.columns().find((c) => c.key === this.order.key) || this.columns()[0];
    const sign = this.order.down ? -1 : 1;
    const values = new Map(found.map((i) => [i, column.of(i)]));
    const rank = (v) => (v === v ? 0 : 1); // missing values last
    return found.sort((a, b) => {
      const [u, v] = [values.get(a), values.get(b)];
      return rank(u) - rank(v) || (rank(u) ? 0 : sign * (u - v)) || a - b;
    });
  }

  sort(key) {
    this.order = { key, down: this.order.key === key ? !this.order.down : false };
    this.restart();
  }

  draw() {
    const { report } = this;
    if (!report || !report.count) return;
    const columns = this.columns();
    const rows = this.rows();
    const part = rows.slice(0, this.shown);
    const head = (column) => make("th", {
      scope: "col", class: "n",
      "aria-sort": this.order.key !== column.key ? "none" : this.order.down ? "descending" : "ascending",
    }, make("button", { type: "button", onclick: () => this.sort(column.key) }, column.label));
    byId("trials-head").replaceChildren(make("th", { scope: "col" }, "architecture"), ...columns.map(head));
    byId("trials-list").replaceChildren(...part.map((i) => make("tr", { "data-index": i },
      make("td", {}, make("button", { type: "button", onclick: () => this.actions.select(i) }, report.ids[i]),
        i === report.knee ? make("span", { class: "badge" }, "knee") : null,
        i === report.winner ? make("span", { class: "badge" }, "winner") : null,
        report.feasible[i] ? null : make("span", { class: "badge" }, "over budget")),
      columns.map((column) => make("td", { class: "n" }, column.words(column.of(i)))))));
    const kept = this.frontier.kept ? " in the boxes drawn below" : "";
    byId("trials-words").textContent =
      `${rows.length.toLocaleString("en")} of ${report.count.toLocaleString("en")} architectures${kept}` +
      (rows.length > part.length ? `, the first ${part.length.toLocaleString("en")} are shown.` : ".");
    const more = byId("trials-more");
    more.hidden = rows.length <= part.length;
    more.textContent = `Show ${Math.min(ROWS, rows.length - part.length)} more`;
  }

  // Writes all rows of the table, with every choice.
  save() {
    const { report } = this;
    const columns = this.columns();
    saveRows(
      ["id", ...columns.map((c) => c.key), "within_budget", ...report.choices.map((c) => c.name)],
      this.rows().map((i) => [report.ids[i], ...columns.map((c) => c.of(i)), report.feasible[i],
        ...report.choices.map((_, at) => report.option(i, at))]),
      `${report.run.name}.csv`);
  }
}
