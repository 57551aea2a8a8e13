"use strict";
// Loss, accuracy and learning rate over the epochs, with a cursor that mouse and arrow keys move.
{
  const WIDTH = 560;
  const HEIGHT = 300;
  const EDGE = { left: 58, right: 12, top: 10, bottom: 38 };
  const PARTS = [["train", "training", "5 4"], ["validation", "validation", null]];
  const QUANTITIES = [
    { title: "Loss (nats)", place: 1, parts: PARTS, words: (v) => v.toFixed(4) },
    { title: "Accuracy", place: 2, parts: PARTS, words: (v) => percent(v, 2), axis: (v) => `${Number((100 * v).toPrecision(6))} %` },
    { title: "Learning rate", place: 3, parts: [PARTS[0]], words: short, axis: (v) => String(v) },
  ];
  const longest = Math.max(1e-9, ...page.curves.flatMap((run) => run.train.map((point) => point[0])));

  function chart(quantity) {
    const lines = page.curves.flatMap((run, number) =>
      quantity.parts.map(([part, name, dashes]) => ({
        points: run[part].map((point) => [point[0], point[quantity.place]]).filter((point) => point[1] !== null),
        colour: COLOURS[number % COLOURS.length], name: `${run.name}, ${name}`, dashes,
      })).filter((line) => line.points.length),
    );
    if (!lines.length) return make("figure", { class: "chart" }, make("figcaption", {}, quantity.title), make("p", { class: "note" }, "No numbers yet."));
    const values = lines.flatMap((line) => line.points.map((point) => point[1]));
    let [low, high] = [Math.min(...values), Math.max(...values)];
    if (quantity.place === 3 || low > 0 && low < 0.3 * high) low = Math.min(0, low);
    if (high - low < 1e-12) high = low + Math.max(1e-12, Math.abs(low));
    const x = (epoch) => EDGE.left + (epoch / longest) * (WIDTH - EDGE.left - EDGE.right);
    const y = (value) => HEIGHT - EDGE.bottom - ((value - low) / (high - low)) * (HEIGHT - EDGE.top - EDGE.bottom);
    const axis = quantity.axis ?? ((v) => String(v));
    const cursor = draw("line", { class: "cursor", y1: EDGE.top, y2: HEIGHT - EDGE.bottom, visibility: "hidden" });
    const output = make("output", {}, "");
    const picture = draw(
      "svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", tabindex: 0,
        "aria-label": `${quantity.title} over the epochs; arrow keys move the cursor` },
      ticks(low, high, 5).map((value) => [
        draw("line", { class: "axis", x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y(value), y2: y(value) }),
        draw("text", { x: EDGE.left - 6, y: y(value) + 4, "text-anchor": "end" }, axis(value)),
      ]).flat(),
      ticks(0, longest, 6).map((epoch) =>
        draw("text", { x: x(epoch), y: HEIGHT - EDGE.bottom + 18, "text-anchor": "middle" }, String(epoch))),
      draw("text", { x: (EDGE.left + WIDTH) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, "epoch"),
      lines.map((line) => draw("polyline", {
        points: line.points.map(([epoch, value]) => `${x(epoch).toFixed(1)},${y(value).toFixed(1)}`).join(" "),
        fill: "none", stroke: line.colour, "stroke-width": 2, "stroke-dasharray": line.dashes,
      })),
      // A line needs two points; a single one is marked, of dashed lines too.
      lines.filter((line) => !line.dashes || line.points.length === 1).flatMap((line) => line.points.map(([epoch, value]) =>
        draw("circle", { cx: x(epoch), cy: y(value), r: line.points.length > 60 ? 1.5 : 3, fill: line.colour }))),
      cursor,
    );
    let epoch = longest;
    function show(wanted) {
      epoch = Math.min(longest, Math.max(0, wanted));
      cursor.setAttribute("x1", x(epoch));
      cursor.setAttribute("x2", x(epoch));
      cursor.setAttribute("visibility", "visible");
      const words = lines.map((line) => {
        const near = line.points.reduce((a, b) => (Math.abs(b[0] - epoch) < Math.abs(a[0] - epoch) ? b : a));
        return `${line.name}: ${quantity.words(near[1])} (epoch ${Number(near[0].toFixed(2))})`;
      });
      output.textContent = words.join("; ");
    }
    picture.addEventListener("pointermove", (event) => {
      const box = picture.getBoundingClientRect();
      const place = ((event.clientX - box.left) / box.width) * WIDTH;
      show(((place - EDGE.left) / (WIDTH - EDGE.left - EDGE.right)) * longest);
    });
    picture.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (by) {
        event.preventDefault();
        show(epoch + (by * longest) / 50);
      }
    });
    return make("figure", { class: "chart" }, make("figcaption", {}, quantity.title), picture, output);
  }

  const sample = (colour, dashes) => draw(
    "svg", { width: 34, height: 10, "aria-hidden": "true" },
    draw("line", { x1: 0, x2: 34, y1: 5, y2: 5, stroke: colour, "stroke-width": 3, "stroke-dasharray": dashes }),
  );
  page.curves.forEach((run, number) => {
    byId("curves-legend").append(make("li", {}, sample(COLOURS[number % COLOURS.length], null), run.name));
  });
  PARTS.forEach(([, name, dashes]) => byId("curves-legend").append(make("li", {}, sample("currentColor", dashes), name)));
  byId("curves-charts").append(...QUANTITIES.map(chart));
}
