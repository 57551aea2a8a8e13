"use strict";
// The table of the classes, confidence, and the gallery.
{
  const { answers, classes, metrics } = page;
  byId("misclassification").textContent =
    `Misclassification rate ${percent(answers.misclassification_rate, 2)}: ` +
    `${count(metrics.examples - metrics.correct)} of ${count(metrics.examples)} images.`;

  const COLUMNS = [["class", "Class"], ["precision", "Precision"], ["recall", "Recall"], ["f1", "F1"], ["support", "Images"]];
  const scores = answers.classes.map((row, number) => ({ ...row, class: number }));
  let sorted = { key: "class", up: true };

  function table() {
    const value = (row) => row[sorted.key] ?? -1;
    const rows = [...scores].sort((a, b) => (sorted.up ? 1 : -1) * (value(a) - value(b)) || a.class - b.class);
    byId("classes-table").replaceChildren(
      make("thead", {}, make("tr", {}, COLUMNS.map(([key, name]) => make(
        "th", { scope: "col", "aria-sort": key === sorted.key ? (sorted.up ? "ascending" : "descending") : "none" },
        make("button", { type: "button", "data-key": key, onclick: () => {
          sorted = { key, up: sorted.key === key ? !sorted.up : key === "class" };
          table();
          byId("classes-table").querySelector(`[data-key="${key}"]`).focus();
        } }, name, key === sorted.key ? (sorted.up ? " ▲" : " ▼") : ""),
      )))),
      make("tbody", {}, rows.map((row) => make(
        "tr", {}, make("td", {}, classes[row.class]),
        ["precision", "recall", "f1"].map((key) => make("td", {}, percent(row[key], 2))),
        make("td", {}, count(row.support)),
      ))),
    );
  }
  table();

  const WIDTH = 420;
  const HEIGHT = 300;
  const EDGE = { left: 52, right: 24, top: 10, bottom: 40 };
  const bins = answers.reliability;
  const x = (share) => EDGE.left + share * (WIDTH - EDGE.left - EDGE.right);
  const y = (share) => HEIGHT - EDGE.bottom - share * (HEIGHT - EDGE.top - EDGE.bottom);

  function frame(title, label, marks, ...content) {
    return make("figure", { class: "chart" }, make("figcaption", {}, title), draw(
      "svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label },
      marks.map(([place, text]) => [
        draw("line", { class: "axis", x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y(place), y2: y(place) }),
        draw("text", { x: EDGE.left - 6, y: y(place) + 4, "text-anchor": "end" }, text),
      ]).flat(),
      [0, 0.2, 0.4, 0.6, 0.8, 1].map((share) =>
        draw("text", { x: x(share), y: HEIGHT - EDGE.bottom + 18, "text-anchor": "middle" }, `${Math.round(100 * share)} %`)),
      draw("text", { x: (EDGE.left + WIDTH) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, "confidence: probability of the answer"),
      content.flat(),
    ));
  }

  const diagram = frame(
    "Reliability", "Accuracy by confidence; on the dashed line confidence is right",
    [0, 0.25, 0.5, 0.75, 1].map((share) => [share, `${100 * share} %`]),
    bins.map((bin, number) => {
      const all = bin.right + bin.wrong;
      if (!all) return null;
      const accuracy = bin.right / all;
      return draw("rect", { x: x(number / bins.length) + 1, width: x(1 / bins.length) - x(0) - 2, y: y(accuracy),
        height: y(0) - y(accuracy), fill: "var(--right)" },
      draw("title", {}, `${count(all)} images, confidence ${percent(bin.confidence)}, accuracy ${percent(accuracy)}`));
    }),
    draw("line", { x1: x(0), y1: y(0), x2: x(1), y2: y(1), stroke: "var(--ink)", "stroke-dasharray": "5 4" }),
  );

  function histogram(title, key, colour) {
    const most = Math.max(1, ...bins.map((bin) => bin[key]));
    return frame(
      title, `${title}: images by confidence`, ticks(0, most, 4).map((value) => [value / most, count(value)]),
      bins.map((bin, number) => draw(
        "rect", { x: x(number / bins.length) + 1, width: x(1 / bins.length) - x(0) - 2, y: y(bin[key] / most),
          height: y(0) - y(bin[key] / most), fill: colour },
        draw("title", {}, `${count(bin[key])} images`),
      )),
    );
  }
  byId("calibration-words").textContent =
    `Expected calibration error ${percent(answers.calibration_error, 2)}: the mean distance of confidence and accuracy over ${bins.length} bins.`;
  byId("confidence-charts").append(
    diagram, histogram("Right answers", "right", "var(--right)"), histogram("Wrong answers", "wrong", "var(--wrong)"),
  );
  // The numbers of the three charts, for those who cannot point at a bar.
  byId("confidence-charts").after(make("details", {}, make("summary", {}, "As a table"), make("div", { class: "scroll" }, make(
    "table", { id: "confidence-table" },
    make("thead", {}, make("tr", {}, ["Confidence", "Images", "Right", "Wrong", "Mean confidence", "Accuracy"].map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, bins.map((bin, number) => {
      const all = bin.right + bin.wrong;
      const cells = [count(all), count(bin.right), count(bin.wrong), percent(bin.confidence), percent(all ? bin.right / all : null)];
      return make("tr", {}, make("th", { scope: "row" }, `${percent(number / bins.length)} to ${percent((number + 1) / bins.length)}`),
        cells.map((text) => make("td", {}, text)));
    })),
  ))));

  const filter = byId("gallery-class");
  filter.append(make("option", { value: "" }, "all"), ...classes.map((name, number) => make("option", { value: number }, name)));
  function gallery() {
    const input = document.querySelector("input[name=gallery]:checked");
    const every = answers.gallery[input.value];
    const rows = filter.value === ""
      ? every.slice(0, input.value === "random" ? every.length : answers.gallery_first)
      : every.filter((row) => page.rows[row].true === Number(filter.value));
    byId("gallery-images").replaceChildren(...rows.map(card));
    const of = filter.value === "" ? "" : ` of ${classes[filter.value]}`;
    const none = every.length ? "None on this page" : "There are none";
    byId("gallery-words").textContent = `${rows.length ? `${count(rows.length)} images` : none}: ${input.parentElement.textContent.trim()}${of}`;
  }
  filter.addEventListener("change", gallery);
  document.querySelectorAll("input[name=gallery]").forEach((input) => input.addEventListener("change", gallery));
  gallery();
}
