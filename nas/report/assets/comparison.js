// Compares architectures: metrics, choices, and each differing layer of two with its costs.
// Knows a report's architectures. Does not know what is selected.
"use strict";

class ComparisonView {
  constructor(body, actions) {
    this.body = body;
    this.actions = actions;
  }

  // Compares the pinned architectures and the selected one; layers of the first pinned one and the last.
  show(report, pins, selected) {
    const others = pins.filter((i) => i !== selected);
    const all = selected < 0 ? others : [...others, selected];
    this.body.replaceChildren();
    if (all.length < 2) {
      this.body.append(make("p", { class: "hint" }, pins.length
        ? `${report.ids[pins[0]]} is pinned. Select another architecture to compare it with.`
        : `Pin an architecture, then select another one to compare the two; up to ${PINS} can be pinned.`));
      if (pins.length) this.body.append(this.unpin(report, pins[0]));
      return;
    }
    const [first, second] = [all[0], all.at(-1)];
    const [a, b] = [report.ids[first], report.ids[second]];
    this.body.append(make("div", { class: "head" },
      make("h3", {}, all.flatMap((i, at) => [
        at === 0 ? "" : at === all.length - 1 ? " and " : ", ", make("span", { class: "mono" }, report.ids[i])])),
      make("div", { class: "steps" },
        pins.includes(first) && selected >= 0 ? make("button", { type: "button", onclick: () => this.actions.swap() }, "Swap") : null,
        others.map((i) => this.unpin(report, i)))));
    this.body.append(make("div", { class: "two" },
      make("div", { class: "panel" }, make("h3", {}, "Metrics"),
        make("div", { class: "wide", tabindex: 0 }, this.metrics(report, all))),
      make("div", { class: "panel" }, make("h3", {}, "Choices that differ"),
        make("div", { class: "wide", tabindex: 0 }, this.choices(report, all)))));
    const [left, right] = [report.blocks(first), report.blocks(second)];
    if (left && right) {
      this.body.append(make("div", { class: "panel across" },
        make("h3", {}, "Differences by layer"),
        make("p", {}, `Values are those of ${b} minus those of ${a}. FLOPs and parameters add up to the ` +
          "total difference; memory is the peak of each block."),
        make("div", { class: "wide", tabindex: 0 }, this.layers(report, left, right, a, b))));
    }
    this.body.append(make("div", {}, make("h3", {}, "Command"),
      command(`nas diff ${quoted(report.run.folder)} ${a} ${b}`)));
  }

  unpin(report, index) {
    return make("button", { type: "button", onclick: () => this.actions.pin(index) }, `Unpin ${report.ids[index].slice(0, 8)}`);
  }

  metrics(report, all) {
    const two = all.length === 2;
    const rows = report.metrics.map((m) => {
      const values = all.map((i) => report.columns[m.name][i]);
      const known = values.filter((v) => v === v);
      const best = m.less ? Math.min(...known) : Math.max(...known);
      const [from, to] = values;
      return make("tr", {}, make("th", { scope: "row" }, m.label),
        values.map((v) => make("td", { class: !two && v === best ? "n less" : "n" }, shown(m, v))),
        two ? make("td", { class: `n ${to === from ? "" : (to < from) === m.less ? "less" : "more"}` },
          signed(m, to - from), m.style === "share" || !from || to === from ? "" : ` (${percent(to / from - 1)})`) : null);
    });
    return headed(["metric", ...all.map((i) => report.ids[i].slice(0, 8)), ...(two ? ["difference"] : [])], rows);
  }

  choices(report, all) {
    const rows = [];
    report.choices.forEach((choice, column) => {
      const options = all.map((i) => report.option(i, column));
      if (options.some((o) => o !== options[0])) {
        rows.push(make("tr", {}, make("th", { scope: "row" }, choice.name),
          options.map((o) => make("td", {}, o === undefined ? "absent" : String(o)))));
      }
    });
    return headed(["choice", ...all.map((i) => report.ids[i].slice(0, 8))], rows);
  }

  layers(report, left, right, a, b) {
    const costs = Object.keys(report.networks.forms.costs)
      .map((name) => report.byName[name] || { name, label: name, style: "number" });
    const names = [...new Set([...left, ...right].map((block) => block.name))];
    const order = new Map(report.networks.blocks.map((block, i) => [block.name, i]));
    names.sort((m, n) => order.get(m) - order.get(n));
    const of = (blocks) => new Map(blocks.map((block) => [block.name, block]));
    const [from, to] = [of(left), of(right)];
    const differing = names.filter((n) => !from.has(n) || !to.has(n) || from.get(n).form !== to.get(n).form);
    const cost = (block, name) => (block ? block.costs[name] : 0);
    const widest = Math.max(1, ...differing.map((n) => Math.abs(cost(to.get(n), "macs") - cost(from.get(n), "macs"))));
    const rows = differing.map((name) => {
      const [x, y] = [from.get(name), to.get(name)];
      return make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, opsThatDiffer(x, y)),
        costs.map((metric) => {
          const key = metric.name;
          const difference = cost(y, key) - cost(x, key);
          const cell = make("td", { class: `n ${sense(difference)}` }, signed(metric, difference));
          if (key === "macs" && difference) {
            const bar = make("span", { class: `bar ${sense(difference)}`, "aria-hidden": true });
            bar.style.width = `${100 * Math.abs(difference) / widest}%`;
            cell.append(bar);
          }
          return cell;
        }));
    });
    const total = (key) => names.reduce((sum, n) => sum + cost(to.get(n), key) - cost(from.get(n), key), 0);
    rows.push(make("tr", { class: "total" }, make("th", { scope: "row" }, "all layers"),
      make("td", {}, `${differing.length} of ${names.length} blocks differ`),
      costs.map((metric) => make("td", { class: `n ${metric.name === "memory" ? "" : sense(total(metric.name))}` },
        metric.name === "memory" ? "" : signed(metric, total(metric.name))))));
    return headed(["block", `from ${a.slice(0, 8)} to ${b.slice(0, 8)}`, ...costs.map((metric) => metric.label)], rows);
  }
}

function sense(difference) {
  return difference === 0 ? "" : difference < 0 ? "less" : "more";
}

function percent(share) {
  return `${share > 0 ? "+" : "−"}${Math.abs(100 * share).toFixed(1)} %`;
}

// A table with a heading; a column is aligned as the cells of its first row are.
function headed(head, rows) {
  const kind = (at) => (rows[0]?.children[at]?.classList.contains("n") ? "n" : undefined);
  return make("table", {},
    make("thead", {}, make("tr", {}, head.map((text, at) => make("th", { scope: "col", class: kind(at) }, text)))),
    make("tbody", {}, rows));
}

const inWords = (op) => `${op.kind} ${op.detail}`.trim();
const passes = (op) => `${shape(op.in[0])} → ${shape(op.out)}`;

// Lists the differences within a block; ops without FLOPs whose shapes alone differ are omitted.
function opsThatDiffer(first, second) {
  if (!first) return `added: ${second.ops.length} ops, output ${shape(outputOf(second))}`;
  if (!second) return `removed: ${first.ops.length} ops, output ${shape(outputOf(first))}`;
  const of = (block) => new Map(block.ops.map((op) => [op.name, op]));
  const [before, after] = [of(first), of(second)];
  const only = (here, there) => [...here.keys()].filter((name) => !there.has(name)).join(", ");
  const changes = [];
  if (only(after, before)) changes.push(`added: ${only(after, before)}`);
  if (only(before, after)) changes.push(`removed: ${only(before, after)}`);
  for (const [name, x] of before) {
    const y = after.get(name);
    if (!y) continue;
    if (inWords(x) !== inWords(y) && passes(x) === passes(y)) {
      changes.push(`${name}: ${inWords(x)} becomes ${inWords(y)}, ${passes(x)}`);
    } else if (inWords(x) !== inWords(y)) {
      changes.push(`${name}: ${inWords(x)} ${passes(x)} becomes ${inWords(y)} ${passes(y)}`);
    } else if ((x.macs || y.macs) && passes(x) !== passes(y)) {
      changes.push(`${name}, ${inWords(x)}: ${passes(x)} becomes ${passes(y)}`);
    }
  }
  return make("ul", { class: "ops" }, (changes.length ? changes : ["shapes only"]).map((text) => make("li", {}, text)));
}
