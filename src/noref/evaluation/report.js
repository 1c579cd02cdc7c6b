"use strict";

// Columns sort by their data-value, or by their text.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const value = (row, column) => {
    const cell = row.cells[column];
    return column === 0 ? cell.textContent : parseFloat(cell.dataset.value ?? "NaN");
  };
  table.querySelectorAll("thead th").forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const sign = head.ariaSort === "ascending" ? -1 : 1;
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [value(a, column), value(b, column)];
        if (typeof x === "string") return sign * x.localeCompare(y, undefined, { numeric: true });
        // Rows without a number stay below.
        return isNaN(x) - isNaN(y) || sign * (x - y) || 0;
      });
      body.append(...rows);
    });
  });
}

// A click enlarges a picture; the arrow keys go through the case's pictures of the same kind, in place.
const dialog = document.querySelector("dialog");
let series = [];
let shown = 0;

const show = (index) => {
  shown = (index + series.length) % series.length;
  const picture = series[shown].querySelector("img");
  dialog.querySelector("img").src = picture.src;
  dialog.querySelector("img").alt = picture.alt;
  const spans = series[shown].parentElement.querySelectorAll("figcaption span");
  dialog.querySelector("p").textContent = [picture.alt, ...[...spans].map((span) => span.textContent)].join(" · ");
};

for (const button of document.querySelectorAll(".case button")) {
  button.addEventListener("click", () => {
    series = [...button.closest(".case").querySelectorAll(`button[data-kind="${button.dataset.kind}"]`)];
    show(series.indexOf(button));
    dialog.showModal();
  });
}
dialog.addEventListener("click", () => dialog.close());
dialog.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step) show(shown + step);
});
