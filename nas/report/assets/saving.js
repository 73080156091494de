// Saves parts of the page as files, and prepares it for paper: pictures, rows as CSV.
// Nothing leaves the page but as a download. Knows browsers. Does not know what is saved.
"use strict";

function save(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// A field of CSV: quoted where it must be, and never a formula of a spreadsheet.
function field(value) {
  let text = value === undefined || Number.isNaN(value) ? "" : String(value);
  if (/^[=+@\t\r-]/.test(text) && Number.isNaN(Number(text))) text = `'${text}`;
  return /[",\n\r]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
}

function saveRows(head, rows, name) {
  const lines = [head, ...rows].map((row) => row.map(field).join(","));
  save(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }), name);
}

// An SVG of the page as a file of its own: with the rules of the style sheet that apply inside it.
function saveDrawing(svg, name) {
  const copy = svg.cloneNode(true);
  const originals = [svg, ...svg.querySelectorAll("*")];
  [copy, ...copy.querySelectorAll("*")].forEach((element, at) => {
    const style = getComputedStyle(originals[at]);
    for (const property of ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "font"]) {
      element.style.setProperty(property, style.getPropertyValue(property));
    }
  });
  const { width, height } = svg.viewBox.baseVal;
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  const ground = document.createElementNS(svg.namespaceURI, "rect");
  ground.setAttribute("width", "100%");
  ground.setAttribute("height", "100%");
  ground.style.fill = theme("--surface");
  copy.prepend(ground);
  save(new Blob([new XMLSerializer().serializeToString(copy)], { type: "image/svg+xml" }), name);
}

// Paper has another width than the screen: every chart gets its size as a view box, so that it scales
// as a whole. Sections that have more to prepare listen to `print`.
function forPrint(begins) {
  for (const section of document.querySelectorAll("section")) {
    section.dispatchEvent(new CustomEvent("print", { detail: begins }));
  }
  for (const chart of document.querySelectorAll(".js-plotly-plot")) {
    for (const svg of chart.querySelectorAll(".main-svg")) {
      const [width, height] = [svg.getAttribute("width"), svg.getAttribute("height")];
      chart.style.setProperty("--aspect", `${width} / ${height}`);
      if (begins) svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      else svg.removeAttribute("viewBox");
    }
  }
}
