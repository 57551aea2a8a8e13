"use strict";
// The confusion matrix: its numbers in three units and two orientations, and the images of a cell.
{
  const { matrix, confused, cells } = page.answers; // No matrix where there are too many classes.
  const ofTrue = page.answers.classes.map((row) => row.support);
  const ofPredicted = matrix?.[0].map((_, column) => matrix.reduce((sum, row) => sum + row[column], 0));
  const counts = new Map(confused.map((pair) => [`${pair.true},${pair.predicted}`, pair.count]));
  let chosen = null;
  let place = [0, 0]; // Row and column of the one cell that the tab key stops at.

  function countOf(is, said) {
    return matrix ? matrix[is][said] : counts.get(`${is},${said}`) ?? 0;
  }

  function share(unit, is, said) {
    const whole = unit === "predicted" ? ofPredicted[said] : ofTrue[is];
    return whole ? countOf(is, said) / whole : 0;
  }

  function render() {
    const unit = byId("confusion-unit").value;
    const byTrue = byId("confusion-rows").value === "true";
    const head = make(
      "thead", {},
      make("tr", {}, make("th", { scope: "col" }, byTrue ? "true \\ predicted" : "predicted \\ true"),
        page.classes.map((name) => make("th", { scope: "col" }, make("div", { class: "sideways" }, name)))),
    );
    const body = make("tbody", {}, page.classes.map((name, row) => make(
      "tr", {}, make("th", { scope: "row" }, name),
      page.classes.map((_, column) => {
        const [is, said] = byTrue ? [row, column] : [column, row];
        const part = share(unit === "count" ? "true" : unit, is, said);
        const text = unit === "count" ? count(matrix[is][said]) : (100 * part).toFixed(1);
        const label = `${words(is, said)}: ${count(matrix[is][said])}`;
        const button = make(
          "button", { type: "button", "data-cell": `${is},${said}`, "aria-label": label, title: label,
            "aria-pressed": String(chosen === `${is},${said}`), tabindex: row === place[0] && column === place[1] ? 0 : -1,
            onclick: () => { stop(row, column); choose(is, said); } },
          text,
        );
        // Few errors are many steps from none: the square root keeps them apart.
        button.style.setProperty("--share", `${(100 * Math.sqrt(part)).toFixed(1)}%`);
        return make("td", {}, button);
      }),
    )));
    const table = make("table", { class: page.classes.length > 20 ? "matrix many" : "matrix" }, head, body);
    table.addEventListener("keydown", move);
    byId("confusion-matrix").replaceChildren(table);
  }

  function buttonAt([row, column]) {
    return byId("confusion-matrix").querySelector("tbody").rows[row].cells[column + 1].firstChild;
  }

  // Makes a cell the one that the tab key stops at.
  function stop(row, column) {
    buttonAt(place).tabIndex = -1;
    place = [row, column];
    buttonAt(place).tabIndex = 0;
  }

  function move(event) {
    const last = page.classes.length - 1;
    const [row, column] = place;
    const to = {
      ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1],
      Home: [row, 0], End: [row, last],
    }[event.key];
    if (!to) return;
    event.preventDefault();
    stop(...to.map((number) => Math.max(0, Math.min(last, number))));
    buttonAt(place).focus();
  }

  function words(is, said) {
    return is === said ? `${page.classes[is]}, recognised` : `${page.classes[is]} taken for ${page.classes[said]}`;
  }

  function press(cell, pressed) {
    byId("confusion-matrix").querySelector(`[data-cell="${cell}"]`)?.setAttribute("aria-pressed", String(pressed));
  }

  function choose(is, said) {
    press(chosen, false);
    chosen = `${is},${said}`;
    press(chosen, true);
    const rows = cells[chosen] ?? [];
    const all = countOf(is, said);
    const some = rows.length === all ? "" : rows.length ? `, the ${rows.length} surest of them` : ", none of them on this page";
    byId("confusion-images").replaceChildren(
      make("h3", {}, `${words(is, said)}: ${count(all)} of ${count(ofTrue[is])} (${percent(share("true", is, said))})${some}`),
      make("div", { class: "images" }, rows.map(card)),
    );
  }

  if (matrix) {
    byId("confusion-unit").addEventListener("change", render);
    byId("confusion-rows").addEventListener("change", render);
    render();
  } else {
    byId("confusion-controls").remove();
    byId("confusion-matrix").replaceChildren(make("p", { class: "note" },
      `A matrix of ${count(page.classes.length)} classes is too fine to be looked at: these are the pairs that are confused most.`));
  }
  byId("confused").append(...confused.map((pair) => make("li", {}, make(
    "button", { type: "button", onclick: () => choose(pair.true, pair.predicted) },
    `${page.classes[pair.true]} taken for ${page.classes[pair.predicted]}: ${count(pair.count)}`,
  ))));
  if (!confused.length) byId("confused").replaceWith(make("p", { class: "note" }, "No mistakes."));
}
