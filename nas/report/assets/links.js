// The state of the page in its address: axes, selected and pinned architectures, time.
// A link such as report.html#arch=51c4e1&x=params leads to what its sender saw.
"use strict";

const AXES = ["x", "y"];
const TICKS = ["x-log", "y-log"];

function readLink(report, frontier) {
  const given = new URLSearchParams(location.hash.slice(1));
  if (![...given.keys()].some((key) => ["arch", "pin", "after", ...AXES, ...TICKS].includes(key))) {
    return -1; // a link to a section, or none
  }
  for (const id of AXES) {
    if (report.byName[given.get(id)]) byId(id).value = given.get(id);
  }
  for (const id of TICKS) byId(id).checked = given.has(id);
  const after = parseInt(given.get("after"), 10);
  if (after >= 1) byId("after").value = Math.min(after, byId("after").max);
  const find = (prefix) => (prefix ? report.ids.findIndex((id) => id.startsWith(prefix)) : -1);
  frontier.pins = (given.get("pin") || "").split(",").map(find).filter((i) => i >= 0).slice(0, PINS);
  return find(given.get("arch"));
}

function writeLink(report, frontier) {
  if (!frontier.x) return;
  const state = new URLSearchParams();
  if (frontier.selected >= 0) state.set("arch", report.ids[frontier.selected]);
  if (frontier.pins.length) state.set("pin", frontier.pins.map((i) => report.ids[i]).join(","));
  for (const id of AXES) state.set(id, byId(id).value);
  for (const id of TICKS) if (byId(id).checked) state.set(id, "1");
  if (frontier.after < report.run.evaluations) state.set("after", frontier.after);
  const text = `#${state.toString().replaceAll("%2C", ",")}`;
  try {
    history.replaceState(null, "", text);
  } catch { /* a browser may refuse it for a file; the page works without */ }
}
