"use strict";
// The confusion matrix: its numbers in three units and two orientations, and the images of a cell.
{
  const matrix = page.answers.matrix;
  const size = matrix.length;
  const ofTrue = matrix.map((row) => row.reduce((a, b) => a + b, 0));
  const ofPredicted = matrix[0].map((_, column) => matrix.reduce((sum, row) => sum + row[column], 0));
  let chosen = null;

  function share(unit, is, said) {
    const whole = unit === "predicted" ? ofPredicted[said] : ofTrue[is];
    return whole ? matrix[is][said] / whole : 0;
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
        const button = make(
          "button", { type: "button", class: part > 0.55 ? "deep" : null, "data-cell": `${is},${said}`,
            "aria-pressed": String(chosen === `${is},${said}`),
            "aria-label": `${words(is, said)}: ${count(matrix[is][said])}`, title: `${words(is, said)}: ${count(matrix[is][said])}`,
            onclick: () => choose(is, said) },
          text,
        );
        // Few errors are many steps from none: the square root keeps them apart.
        button.style.setProperty("--share", `${(100 * Math.sqrt(part)).toFixed(1)}%`);
        return make("td", {}, button);
      }),
    )));
    const table = make("table", { class: size > 20 ? "matrix many" : "matrix" }, head, body);
    byId("confusion-matrix").replaceChildren(table);
  }

  function words(is, said) {
    return is === said ? `${page.classes[is]}, recognised` : `${page.classes[is]} taken for ${page.classes[said]}`;
  }

  function choose(is, said) {
    chosen = `${is},${said}`;
    render();
    const rows = page.answers.cells[chosen] ?? [];
    const all = matrix[is][said];
    const some = rows.length < all ? `, the ${rows.length} surest of them` : "";
    byId("confusion-images").replaceChildren(
      make("h3", {}, `${words(is, said)}: ${count(all)} of ${count(ofTrue[is])} (${percent(share("true", is, said))})${some}`),
      make("div", { class: "images" }, rows.map(card)),
    );
    byId("confusion-matrix").querySelector(`[data-cell="${chosen}"]`).focus({ preventScroll: true });
  }

  byId("confusion-unit").addEventListener("change", render);
  byId("confusion-rows").addEventListener("change", render);
  byId("confused").append(...page.answers.confused.map((pair) => make("li", {}, make(
    "button", { type: "button", onclick: () => choose(pair.true, pair.predicted) },
    `${page.classes[pair.true]} taken for ${page.classes[pair.predicted]}: ${count(pair.count)}`,
  ))));
  if (!page.answers.confused.length) byId("confused").replaceWith(make("p", { class: "note" }, "No mistakes."));
  render();
}
