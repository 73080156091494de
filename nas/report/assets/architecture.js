// Shows the selected architecture: metrics, choices, pictures, and the command that exports it.
// Knows a report's architectures. Does not know what is selected.
"use strict";

// Choices by stage, with those of a kind on one line: `stage2: depth 2, kernel 3 · 5`.
function choicesByStage(report, index) {
  const stages = new Map();
  report.choices.forEach((choice, column) => {
    const value = report.option(index, column);
    if (value === undefined) return;
    const words = choice.name.split("_");
    const stage = words.length > 1 ? words[0] : "network";
    const kind = words.length > 1 ? words[words.length - 1] : choice.name;
    if (!stages.has(stage)) stages.set(stage, new Map());
    const kinds = stages.get(stage);
    kinds.set(kind, [...(kinds.get(kind) || []), value]);
  });
  return [...stages].map(([stage, kinds]) => [
    stage, [...kinds].map(([kind, values]) => `${kind} ${values.join(" · ")}`).join(", "),
  ]);
}

function command(text) {
  const code = make("code", { tabindex: 0 }, text);
  const button = make("button", { type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    const done = await copied(text, code);
    button.textContent = done ? "Copied" : "Selected";
    announce(done ? "Command copied" : "Command selected");
    setTimeout(() => { button.textContent = "Copy"; }, 1600);
  });
  return make("div", { class: "command" }, code, button);
}

async function copied(text, code) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Some browsers do not let a local file write to the clipboard.
    getSelection().selectAllChildren(code);
    return document.execCommand("copy");
  }
}

const quoted = (text) => (/^[\w./~-]+$/.test(text) ? text : `'${text.replace(/'/g, "'\\''")}'`);

class ArchitectureView {
  constructor(body, actions) {
    this.body = body;
    this.actions = actions;
  }

  show(report, index, frontier) {
    this.body.replaceChildren();
    if (index < 0) {
      this.body.append(make("p", { class: "hint" },
        "Select a point in the chart or a row of the list to show its network."));
      return;
    }
    const id = report.ids[index];
    const at = frontier.members.indexOf(index);
    const place = at >= 0 ? `${at + 1} of ${frontier.members.length} on the frontier` : "not on the frontier";
    const step = (by, words) => make("button", {
      type: "button", disabled: at < 0 || !(at + by in frontier.members),
      onclick: () => this.actions.select(frontier.members[at + by]),
    }, words);
    const pinned = frontier.pins.includes(index);
    this.body.append(make("div", { class: "head" },
      make("h3", { class: "mono" }, id),
      index === report.knee ? make("span", { class: "badge" }, "knee") : null,
      index === report.winner ? make("span", { class: "badge" }, "winner") : null,
      make("span", { class: "hint" },
        `${place}, evaluation ${report.numbers[index] + 1}` +
        (report.feasible[index] ? "" : ", outside the budget")),
      make("div", { class: "steps" }, step(-1, "← Previous"), step(1, "Next →"),
        make("button", { type: "button", id: "pin", "aria-pressed": pinned, onclick: () => this.actions.pin(index) },
          pinned ? "Pinned for comparison" : "Pin for comparison"))));
    this.body.append(make("dl", { class: "metrics" }, report.metrics.map((m) => make("div", {},
      make("dt", {}, m.label), make("dd", {}, shown(m, report.columns[m.name][index])), this.spread(frontier, m, index)))),
      ...report.metrics.filter((m) => m.note).map((m) => make("p", { class: "hint" }, `${m.label}: ${m.note}.`)));
    const folder = quoted(report.run.folder);
    this.body.append(make("h3", {}, "Export"),
      command(`nas export ${folder} --arch ${id} --out ${quoted(`${report.run.name}-${id}`)}`));
    const blocks = report.blocks(index);
    if (!blocks) {
      this.body.append(make("p", { class: "hint" },
        `Layers are not shown, the space is not available: ${report.contents.missing}`),
      this.choices(report, index));
    } else {
      this.pictures(report, index, blocks);
    }
  }

  pictures(report, index, blocks) {
    const id = report.ids[index];
    const total = blocks.reduce((sum, b) => sum + b.costs.macs, 0) || 1;
    const canvas = make("div", { class: "figure" });
    const drawn = make("div", { class: "graph", tabindex: 0, role: "group", "aria-label": "Network, op by op" });
    const attributes = make("div", { class: "attributes", role: "status" });
    this.body.append(make("h3", {}, "Stages"), strip(blocks));
    this.body.append(make("div", { class: "two" },
      make("div", { class: "panel" }, make("h3", {}, "Network, op by op"),
        make("p", {}, "Ops with a blue border have FLOPs; ops with a dashed border join branches; orange lines skip ops. " +
          "Shapes are those of one sample. Click an op for its attributes."),
        this.finder(drawn, attributes, blocks, `${report.run.name}-${id}.svg`), drawn, attributes),
      make("div", { class: "panel" }, make("h3", {}, "Compute by layer"),
        make("p", {}, "Width is FLOPs. Rows are stages, blocks and ops; click one to zoom in."), canvas,
        make("details", { ontoggle: (event) => this.layers(event.target, blocks, total) },
          make("summary", {}, "Layers as a table"), make("div", { class: "wide", tabindex: 0 })),
        this.choices(report, index))));
    const ops = blocks.reduce((sum, b) => sum + b.ops.length, 0);
    // Draw the pictures after the browser has shown the metrics.
    this.wanted = index;
    later(() => {
      if (this.wanted !== index || !drawn.isConnected) return;
      drawn.innerHTML = graph(blocks, `Graph of ${ops} ops in ${blocks.length} blocks of ${id}`);
      later(() => {
        if (this.wanted === index && canvas.isConnected) icicle(canvas, blocks, id);
      });
    });
  }

  // The 95 % interval of a score, where the number of its samples is known.
  spread(frontier, metric, index) {
    const value = frontier.report.columns[metric.name][index];
    if (!frontier.report.contents.noise || metric.name !== frontier.report.contents.noise.metric || value !== value) return null;
    const [below, above] = frontier.interval(value);
    return make("dd", { class: "note" }, `95 %: ${shown(metric, value - below)} to ${shown(metric, value + above)}`);
  }

  // A field that finds ops by name or kind, one after another, and the drawing as a file.
  finder(drawn, attributes, blocks, file) {
    const ops = new Map(blocks.flatMap((block) => block.ops.map((op) => [`${block.name}/${op.name}`, op])));
    const total = blocks.reduce((sum, b) => sum + b.costs.macs, 0) || 1;
    const words = make("span", { class: "hint", role: "status" });
    const field = make("input", { type: "search", placeholder: "find an op: conv 3x3, stage2", "aria-label": "Find an op" });
    let at = -1;
    const choose = (node) => {
      drawn.querySelector(".chosen")?.classList.remove("chosen");
      node.classList.add("chosen");
      const [name, op] = [node.dataset.op, ops.get(node.dataset.op)];
      const facts = [["op", name], ["kind", inWords(op)], ["input", op.in.map(shape).join(", ")], ["output", shape(op.out)],
        ["FLOPs", `${op.macs.toLocaleString("en")} (${(100 * op.macs / total).toFixed(1)} %)`],
        ["parameters", op.params.toLocaleString("en")]];
      attributes.replaceChildren(make("dl", { class: "metrics" },
        facts.map(([term, text]) => make("div", {}, make("dt", {}, term), make("dd", {}, text)))));
    };
    const matches = () => {
      const wanted = field.value.trim().toLowerCase();
      return [...drawn.querySelectorAll(".node")].filter((node) => {
        const found = wanted !== "" && `${node.dataset.op} ${inWords(ops.get(node.dataset.op))}`.toLowerCase().includes(wanted);
        node.classList.toggle("found", found);
        return found;
      });
    };
    const next = () => {
      const found = matches();
      words.textContent = field.value.trim() === "" ? "" : `${found.length} found`;
      if (!found.length) return;
      at = (at + 1) % found.length;
      const box = found[at].getBoundingClientRect();
      drawn.scrollTop += box.top - drawn.getBoundingClientRect().top - drawn.clientHeight / 2;
      words.textContent = `${at + 1} of ${found.length}`;
      choose(found[at]);
    };
    field.addEventListener("input", () => { at = -1; next(); });
    field.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); next(); } });
    drawn.addEventListener("click", (event) => {
      const node = event.target.closest(".node");
      if (node) choose(node);
    });
    return make("div", { class: "controls" }, field, words,
      make("button", { type: "button", onclick: () => saveDrawing(drawn.querySelector("svg"), file) }, "SVG"));
  }

  choices(report, index) {
    return make("div", {}, make("h3", {}, "Choices"),
      make("div", { class: "wide", tabindex: 0 }, table(["part", "choices"], choicesByStage(report, index))));
  }

  layers(details, blocks, total) {
    const place = details.querySelector(".wide");
    if (!details.open || place.firstChild) return;
    const rows = blocks.flatMap((block) => block.ops.map((op) => [
      block.name, op.name, `${op.kind} ${op.detail}`.trim(), shape(op.out), op.macs.toLocaleString("en"),
      `${(100 * op.macs / total).toFixed(1)} %`, op.params.toLocaleString("en"),
    ]));
    place.append(table(["block", "op", "kind", "output", "FLOPs", "share", "parameters"], rows));
  }
}

// Runs `work` after the browser has painted.
function later(work) {
  requestAnimationFrame(() => setTimeout(work, 0));
}
