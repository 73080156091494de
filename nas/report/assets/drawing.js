// Draws one architecture: its stages as a strip, its ops as a graph, its compute as an icicle chart.
// networkx has laid out the ops of each block (`networks.py`); this file stacks the blocks.
"use strict";

const ROW = 30;
const WIDTH = 680;
const LEFT = 104;

// Consecutive blocks of a stage, in order.
function stagesOf(blocks) {
  const stages = [];
  for (const block of blocks) {
    const last = stages[stages.length - 1];
    if (last && last.name === block.stage) last.blocks.push(block);
    else stages.push({ name: block.stage, blocks: [block] });
  }
  return stages;
}

const outputOf = (block) => block.ops[block.ops.length - 1].out;
// Number of channels of a feature map, or of features of tokens.
const widthOf = (sizes) => (sizes.length === 3 ? sizes[0] : sizes[sizes.length - 1]);

function strip(blocks) {
  const most = Math.max(...blocks.map((b) => widthOf(outputOf(b))));
  const total = blocks.reduce((sum, b) => sum + b.costs.macs, 0) || 1;
  const greatest = Math.max(...blocks.map((b) => b.costs.macs)) || 1;
  const words = stagesOf(blocks).map((stage) =>
    `${stage.name}: ${stage.blocks.length} blocks to ${shape(outputOf(stage.blocks.at(-1)))}`);
  return make("div", { class: "strip", role: "img", tabindex: 0, "aria-label": `Stages. ${words.join("; ")}` },
    stagesOf(blocks).map((stage) => make("div", { class: "stage" },
      make("div", { class: "bars" }, stage.blocks.map((block) => {
        const bar = make("i", {
          title: `${block.name}: ${shape(outputOf(block))}, ${size(block.costs.macs)} FLOPs ` +
            `(${(100 * block.costs.macs / total).toFixed(1)} %)`,
        });
        bar.style.height = `${8 + 62 * Math.log1p(widthOf(outputOf(block))) / Math.log1p(most)}px`;
        bar.style.setProperty("--share", `${(8 + 92 * block.costs.macs / greatest).toFixed(0)}%`);
        return bar;
      })),
      make("b", {}, stage.name), shape(outputOf(stage.blocks.at(-1))))));
}

// Level of each block in the graph: below all blocks that it reads.
function levels(blocks) {
  const level = {};
  let before = null;
  for (const block of blocks) {
    let own = 0;
    for (const [source] of block.template.edges) {
      const name = source === -1 ? before : typeof source === "string" ? source.slice(1) : null;
      if (name !== null && name in level) own = Math.max(own, level[name] + 1);
    }
    level[block.name] = own;
    before = block.name;
  }
  return level;
}

const columnsOf = (block) => Math.max(1, ...block.template.x.map((x) => 2 * Math.abs(x) + 1));
const rowsOf = (block) => Math.max(...block.template.y) + 1;

function kindOf(op) {
  if (op.macs > 0) return "op work";
  return ["add", "multiply", "scale", "concat"].includes(op.kind) ? "op join" : "op";
}

function graph(blocks, label) {
  const level = levels(blocks);
  const shelves = [];
  for (const block of blocks) (shelves[level[block.name]] ??= []).push(block);
  const parts = { bands: "", edges: "", nodes: "" };
  const ends = {};
  const input = { x: (WIDTH + LEFT) / 2, y: 16, row: -1 };
  parts.nodes += `<text x="${input.x}" y="${input.y + 4}" text-anchor="middle" class="block">input ` +
    `${shape(blocks[0].ops[0].in[0])}</text>`;
  const places = {};
  let top = 44;
  for (const shelf of shelves.filter(Boolean)) {
    const columns = shelf.reduce((sum, b) => sum + columnsOf(b), 0);
    const cell = Math.min(300, (WIDTH - LEFT - 24) / columns);
    const tallest = Math.max(...shelf.map(rowsOf));
    let left = LEFT + (WIDTH - LEFT - 24 - cell * columns) / 2;
    const name = shelf.length === 1 ? shelf[0].name : common(shelf.map((b) => b.name));
    parts.bands += `<rect class="band" x="0" y="${top - 6}" width="${WIDTH}" height="${tallest * ROW}" rx="6"/>`;
    parts.nodes += `<text class="block" x="8" y="${top + 12}">${escaped(name)}</text>`;
    for (const block of shelf) {
      const middle = left + cell * columnsOf(block) / 2;
      places[block.name] = block.ops.map((op, i) => ({
        x: middle + block.template.x[i] * cell, y: top + block.template.y[i] * ROW + 10, width: cell - 12,
      }));
      ends[block.name] = places[block.name].at(-1);
      left += cell * columnsOf(block);
    }
    top += tallest * ROW + 12;
  }
  blocks.forEach((block, at) => {
    const own = places[block.name];
    for (const [source, target] of block.template.edges) {
      let from;
      if (source === -1) from = at === 0 ? input : ends[blocks[at - 1].name];
      else if (typeof source === "string") from = ends[source.slice(1)];
      else from = own[source];
      parts.edges += edge(from || input, own[target]);
    }
    block.ops.forEach((op, i) => { parts.nodes += node(block, op, own[i]); });
  });
  return `<svg viewBox="0 0 ${WIDTH} ${top}" role="img" aria-label="${escaped(label)}" ` +
    `xmlns="http://www.w3.org/2000/svg">${parts.bands}${parts.edges}${parts.nodes}</svg>`;
}

// The common prefix of names, in whole words: `stage0_cell0` for two of its edges.
function common(names) {
  const words = names.map((name) => name.split("_"));
  const alike = words[0].findIndex((word, at) => words.some((other) => other[at] !== word));
  return words[0].slice(0, alike < 0 ? undefined : alike).join("_");
}

function edge(from, to) {
  const [y0, y1] = [from.y + 10, to.y - 10];
  if (y1 - y0 < ROW + 4 || Math.abs(from.x - to.x) > 40) {
    return `<path d="M${from.x} ${y0}C${from.x} ${(y0 + y1) / 2} ${to.x} ${(y0 + y1) / 2} ${to.x} ${y1}"/>`;
  }
  // A connection that skips ops is drawn around them.
  const side = to.x + to.width / 2 + Math.min(70, 10 + (y1 - y0) / 9);
  return `<path class="far" d="M${from.x + (from.width || 0) / 2} ${from.y}C${side} ${from.y} ` +
    `${side} ${to.y} ${to.x + to.width / 2} ${to.y}"/>`;
}

function node(block, op, at) {
  const words = [op.kind === "activation" ? op.detail : `${op.kind} ${op.detail}`.trim()];
  words.push(shape(op.out));
  const costs = op.macs ? ` ${size(op.macs)}` : "";
  const letters = Math.floor(at.width / 6.1);
  let text = words.join(" · ");
  if (text.length + costs.length > letters) text = text.slice(0, Math.max(1, letters - costs.length - 1)) + "…";
  return `<g class="node" data-op="${escaped(`${block.name}/${op.name}`)}"><title>${escaped(`${block.name}/${op.name}: ${words.join(", ")}; ${op.macs.toLocaleString("en")} ` +
    `FLOPs, ${op.params.toLocaleString("en")} parameters`)}</title>` +
    `<rect class="${kindOf(op)}" x="${at.x - at.width / 2}" y="${at.y - 10}" width="${at.width}" height="20" rx="5"/>` +
    `<text x="${at.x}" y="${at.y + 4}" text-anchor="middle">${escaped(text)}` +
    `<tspan class="costs">${costs}</tspan></text></g>`;
}

// Compute by layer: stages, blocks and ops as nested bars whose widths are their FLOPs.
function icicle(div, blocks, id) {
  const [ids, labels, parents, values, texts, hues] = [[], [], [], [], [], []];
  const total = blocks.reduce((sum, b) => sum + b.costs.macs, 0) || 1;
  const add = (key, label, parent, macs, params, hue) => {
    ids.push(key);
    labels.push(escaped(label));
    parents.push(parent);
    values.push(macs);
    hues.push(hue);
    texts.push(`${escaped(label)}<br>${macs.toLocaleString("en")} FLOPs (${(100 * macs / total).toFixed(1)} %)` +
      `<br>${params.toLocaleString("en")} parameters`);
  };
  const sum = (list, name) => list.reduce((all, b) => all + b.costs[name], 0);
  const shades = [theme("--accent"), theme("--third")];
  add("/", id, "", total, sum(blocks, "params"), theme("--muted"));
  stagesOf(blocks).forEach((stage, at) => {
    const macs = sum(stage.blocks, "macs");
    if (!macs) return;
    const key = `${at}`;
    add(key, stage.name, "/", macs, sum(stage.blocks, "params"), shades[at % 2]);
    for (const block of stage.blocks) {
      if (!block.costs.macs) continue;
      const own = `${key}/${block.name}`;
      add(own, block.name.slice(stage.name.length + 1) || block.name, key, block.costs.macs, block.costs.params, shades[at % 2]);
      for (const op of block.ops) {
        if (op.macs) add(`${own}/${op.name}`, op.name, own, op.macs, op.params, shades[at % 2]);
      }
    }
  });
  const trace = {
    type: "icicle", ids, labels, parents, values, branchvalues: "total", hovertext: texts, hoverinfo: "text",
    marker: { colors: hues, line: { width: 1, color: theme("--surface") } },
    tiling: { orientation: "v" }, pathbar: { visible: false },
    textfont: { color: theme("--surface") }, sort: false, root: { color: theme("--muted") },
  };
  Plotly.react(div, [trace], { ...plain(), height: 300, margin: { l: 0, r: 0, t: 0, b: 0 } },
    { displayModeBar: false, responsive: true });
}
