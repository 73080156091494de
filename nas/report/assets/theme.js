// Colours of the page for drawings: plotly does not read style sheets.
"use strict";

const dark = window.matchMedia("(prefers-color-scheme: dark)");
let colours = null;

function theme(name) {
  if (!colours) {
    const style = getComputedStyle(document.documentElement);
    colours = new Proxy({}, { get: (known, n) => (known[n] ??= style.getPropertyValue(n).trim()) });
  }
  return colours[name];
}

dark.addEventListener("change", () => { colours = null; });

// Settings that all layouts share.
function plain() {
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, -apple-system, 'Segoe UI', sans-serif", size: 13, color: theme("--ink") },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 }, itemclick: false, itemdoubleclick: false },
    hovermode: "closest", dragmode: "zoom",
    hoverlabel: { bgcolor: theme("--ink"), font: { color: theme("--ground") }, bordercolor: theme("--ink") },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: theme("--muted"), activecolor: theme("--accent") },
  };
}

// A figure from Python in the colours of this page.
function recoloured(value, palette) {
  if (typeof value === "string") {
    const role = Object.keys(palette.light).find((name) => palette.light[name] === value);
    return role && dark.matches ? palette.dark[role] : value;
  }
  if (Array.isArray(value)) return value.map((item) => recoloured(item, palette));
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, recoloured(v, palette)]));
  }
  return value;
}

// Escapes text for plotly, which interprets some HTML.
function escaped(text) {
  return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/"/g, "&#34;");
}
