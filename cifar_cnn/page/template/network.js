"use strict";
// The layers of the trained network on one image; a click shows how a value comes about.
{
  const { layers, subjects } = page.network;
  const MOST_TERMS = 6; // Maps of the input that a sum is shown for, the largest first.
  const MOST_SIDE = 256; // Pixels of the image at the top.
  let subject = 0;
  let chosen = null;

  // What a layer was given and what it made: values [height][width][channels], row by row.
  function made(number) {
    const layer = subjects[subject].layers[number];
    return { values: unpack(layer.values), shape: layers[number].shape, channels: layer.channels };
  }

  function given(number) {
    const { source, input } = layers[number];
    if (source >= 0) return made(source);
    const values = unpack(source === -1 ? subjects[subject].input : subjects[subject].layers[number].given);
    return { values, shape: input, channels: values.length / (input[0] * input[1]) };
  }

  // Whether the page holds all that a layer's values were computed from, on this image.
  function isSummed(number) {
    const { window, source, reads } = layers[number];
    if (!window) return false;
    if (source === -2) return subjects[subject].layers[number].given !== null;
    return source === -1 || subjects[subject].layers[source].channels >= reads;
  }

  // Why a layer's sums are not shown on this image; "" where they are, or where it has none.
  function noteOf(number) {
    if (!layers[number].window || isSummed(number)) return layers[number].note;
    return `There is room for what its sums read on the first images only, such as ${subjects[0].name}.`;
  }

  // All maps of a layer side by side on one canvas.
  function mapsOf(number) {
    const { values, shape, channels } = made(number);
    const [height, width] = shape;
    const shown = layers[number].shown;
    const zoom = Math.max(1, Math.min(16, Math.round(56 / width)));
    const columns = Math.max(1, Math.min(shown, Math.floor(640 / (width * zoom + 2))));
    const rows = Math.ceil(shown / columns);
    const [stepX, stepY] = [width * zoom + 2, height * zoom + 2];
    const canvas = make("canvas", { width: columns * stepX, height: rows * stepY, role: "img",
      "aria-label": `${shown} feature maps of ${layers[number].name}` });
    const context = canvas.getContext("2d");
    const scale = largest(values);
    for (let map = 0; map < shown; map += 1) {
      paintGrid(context, (map % columns) * stepX, Math.floor(map / columns) * stepY, height, width, zoom,
        (place) => mix(values[place * channels + map] / scale));
    }
    if (isSummed(number)) {
      canvas.classList.add("choose");
      canvas.addEventListener("click", (event) => {
        const box = canvas.getBoundingClientRect();
        // The box has a border that the picture does not.
        const across = ((event.clientX - box.left - canvas.clientLeft) / canvas.clientWidth) * canvas.width;
        const down = ((event.clientY - box.top - canvas.clientTop) / canvas.clientHeight) * canvas.height;
        const map = Math.floor(down / stepY) * columns + Math.floor(across / stepX);
        const row = Math.floor((down % stepY) / zoom);
        const column = Math.floor((across % stepX) / zoom);
        if (across >= 0 && down >= 0 && map < shown && row < height && column < width) choose(number, map, row, column);
      });
    }
    return canvas;
  }

  // A vector as one row of cells.
  function stripOf(number) {
    const { values } = made(number);
    const columns = Math.min(values.length, 128);
    const zoom = Math.max(2, Math.min(20, Math.floor(640 / columns)));
    const rows = Math.ceil(values.length / columns);
    const canvas = make("canvas", { width: columns * zoom, height: rows * zoom, role: "img",
      "aria-label": `${values.length} values of ${layers[number].name}` });
    const scale = largest(values);
    paintGrid(canvas.getContext("2d"), 0, 0, rows, columns, zoom, (place) => mix((values[place] ?? 0) / scale));
    return canvas;
  }

  // Drawn when they are asked for: there may be thousands.
  function kernelsOf(layer) {
    if (!layer.kernel) return null;
    if (layer.source === -1) return kernelColours(layer);
    return make("details", { class: "kernels", ontoggle: (event) => {
      if (event.target.open && !event.target.querySelector("canvas")) event.target.append(kernelTable(layer));
    } }, make("summary", {}, "Kernels"));
  }

  function sizeWords(shape) {
    return shape.join(" × ");
  }

  function layerItem(number) {
    const layer = layers[number];
    const spatial = layer.shape.length === 3;
    const kept = spatial ? layer.shown : subjects[subject].layers[number].channels;
    const all = layer.shape[layer.shape.length - 1];
    const more = kept < all ? `, the first ${count(kept)} ${spatial ? "maps" : "values"}` : "";
    const note = noteOf(number);
    return make(
      "li", { "data-layer": number },
      make("div", { class: "arrow" }, `↓ ${layer.arithmetic || layer.kind}`),
      make("h3", {}, `${layer.name} (${layer.kind}): ${sizeWords(layer.shape)}${kept ? more : ", which there is no room for on this page"}`),
      kernelsOf(layer),
      kept ? (spatial ? mapsOf(number) : stripOf(number)) : null,
      isSummed(number) ? make("button", { type: "button", class: "follow", "aria-label": `Follow a value of ${layer.name}`,
        onclick: () => {
          choose(number, 0, layer.shape[0] >> 1, layer.shape[1] >> 1);
          byId("network-detail").querySelector("input").focus();
        } }, "follow a value") : null,
      note ? make("p", { class: "note" }, note) : null,
    );
  }

  // The values of one map under the window; null outside of the image.
  function patch(input, { size, stride, dilation, pads }, channel, row, column) {
    const [height, width] = input.shape;
    return Array.from({ length: size[0] }, (_, i) => Array.from({ length: size[1] }, (_, j) => {
      const y = row * stride[0] - pads[0] + i * dilation[0];
      const x = column * stride[1] - pads[1] + j * dilation[1];
      const inside = y >= 0 && y < height && x >= 0 && x < width;
      return inside ? input.values[(y * width + x) * input.channels + channel] : null;
    }));
  }

  function sumDetail(number, map, row, column) {
    const { window, kernel, bias, shown, input: [, , channels], shape: [, , features] } = layers[number];
    const input = given(number);
    const weights = unpack(kernel);
    const reads = channels / window.groups;
    const first = Math.floor(map / (features / window.groups)) * reads;
    const terms = [];
    for (let read = 0; read < reads; read += 1) {
      const under = patch(input, window, first + read, row, column);
      const factors = under.map((line, i) => line.map((_, j) =>
        weights[((i * window.size[1] + j) * reads + read) * shown + map]));
      let value = 0;
      under.forEach((line, i) => line.forEach((seen, j) => { value += (seen ?? 0) * factors[i][j]; }));
      terms.push({ channel: first + read, under, factors, value });
    }
    terms.sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
    const most = terms.slice(0, MOST_TERMS);
    const rest = terms.slice(MOST_TERMS).reduce((sum, term) => sum + term.value, 0);
    const own = bias ? bias[map] : 0;
    const total = terms.reduce((sum, term) => sum + term.value, own);
    const seen = largest(most.flatMap((term) => term.under.flat().map((value) => value ?? 0)));
    const weight = largest(most.flatMap((term) => term.factors.flat()));
    return [
      most.map((term) => make(
        "div", { class: "sum" }, make("span", {}, `map ${term.channel}`), grid(term.under, seen), "×", grid(term.factors, weight),
        make("span", { class: "number" }, `= ${short(term.value)}`),
      )),
      terms.length > MOST_TERMS ? make("p", {}, `${terms.length - MOST_TERMS} further maps together: ${short(rest)}`) : null,
      bias ? make("p", {}, `bias: ${short(own)}`) : null,
      make("p", { id: "network-total", "data-total": total }, make("strong", {}, `sum = ${short(total)}`)),
      make("p", { class: "note" }, "Grey italics lie outside of the image and count as 0."),
    ];
  }

  function poolDetail(number, map, row, column) {
    const { window } = layers[number];
    const under = patch(given(number), window, map, row, column);
    const flat = under.flat();
    const result = window.what === "max" ? Math.max(...flat) : flat.reduce((a, b) => a + b, 0) / flat.length;
    const name = window.what === "max" ? "largest" : "mean";
    return [
      make("div", { class: "sum" }, grid(under, largest(flat), window.what === "max" ? flat.indexOf(result) : -1)),
      make("p", { id: "network-total", "data-total": result }, make("strong", {}, `${name} = ${short(result)}`)),
    ];
  }

  function functionDetail(number, map, row, column, value) {
    const { values, shape, channels } = given(number);
    const x = values[(row * shape[1] + column) * channels + map];
    return [make("p", { id: "network-function" }, make("strong", {}, `${layers[number].kind}(${short(x)}) = ${short(value)}`))];
  }

  function choose(number, map, row, column) {
    chosen = { number, map, row, column };
    const layer = layers[number];
    const title = make("h3", {}, `${layer.name}: how a value comes about`);
    if (!isSummed(number)) {
      byId("network-detail").replaceChildren(title, make("p", {}, noteOf(number)));
      return;
    }
    const { values, shape, channels } = made(number);
    const value = values[(row * shape[1] + column) * channels + map];
    const field = (name, most, current) => make("label", {}, `${name} `, make("input", {
      type: "number", min: 0, max: most - 1, value: current, "data-field": name,
      onchange: (event) => {
        const wanted = Math.max(0, Math.min(most - 1, Math.round(Number(event.target.value) || 0)));
        const next = { map, row, column, [name]: wanted };
        choose(number, next.map, next.row, next.column);
        byId("network-detail").querySelector(`[data-field="${name}"]`).focus();
      },
    }));
    const what = layer.window.what;
    const place = layer.source === -1 ? "the normalised image" : "its input";
    const detail = what === "conv" ? sumDetail : what === "function" ? functionDetail : poolDetail;
    byId("network-detail").replaceChildren(
      title,
      make("div", { class: "controls" }, field("map", layer.shown, map), field("row", shape[0], row), field("column", shape[1], column),
        make("button", { type: "button", onclick: () => byId("network-layers").querySelector(`[data-layer="${number}"] .follow`).focus() }, "back to the layer")),
      make("p", { id: "network-value", "data-value": value },
        `The layer's value there is ${short(value)}.${what === "function" ? "" : ` The window lies on ${place}:`}`),
      ...detail(number, map, row, column, value).flat().filter(Boolean),
      make("p", { class: "note" }, "Values are rounded to 11 bits on this page, so the last digit may differ."),
    );
  }

  // The image, with or without what speaks for a class.
  function headOf() {
    const { picture, probabilities, predicted, grad_cam: cam, name } = subjects[subject];
    const [rows, columns] = layers[0].input;
    const scale = Math.min(1, MOST_SIDE / Math.max(rows, columns));
    const [height, width] = [Math.max(1, Math.round(rows * scale)), Math.max(1, Math.round(columns * scale))];
    const canvas = make("canvas", { width, height, role: "img", "aria-label": `The image: ${name}` });
    const image = new Image();
    const toggle = make("input", { type: "checkbox", id: "grad-cam", disabled: cam.heats ? null : "" });
    const select = make("select", { id: "grad-cam-class", "aria-label": "Class" },
      cam.classes.map((number, place) => make("option", { value: place }, page.classes[number])));
    function paint() {
      const context = canvas.getContext("2d");
      context.clearRect(0, 0, width, height);
      context.drawImage(image, 0, 0, width, height);
      canvas.dataset.heat = String(toggle.checked);
      if (!toggle.checked) return;
      const small = new OffscreenCanvas(cam.size[1], cam.size[0]);
      const inside = small.getContext("2d");
      const pixels = inside.createImageData(small.width, small.height);
      unpack(cam.heats[Number(select.value)]).forEach((value, k) =>
        pixels.data.set([255, 140, 0, Math.round(255 * 0.75 * Math.max(0, value))], 4 * k));
      inside.putImageData(pixels, 0, 0);
      context.drawImage(small, 0, 0, width, height);
    }
    image.onload = paint;
    image.src = picture;
    toggle.addEventListener("change", paint);
    select.addEventListener("change", paint);
    const order = probabilities.map((_, k) => k).sort((a, b) => probabilities[b] - probabilities[a]).slice(0, 10);
    const label = subjects[subject].true;
    return [
      make("div", {}, canvas, make("div", { class: "controls" },
        make("label", {}, toggle, ` Grad-CAM${cam.layer ? ` at ${cam.layer}` : ": this network has no feature maps"}, for `), select)),
      make("div", {},
        make("p", {}, `Answer: ${page.classes[predicted]}, ${percent(probabilities[predicted])}`, label === null ? "" : `; true class: ${page.classes[label]}`),
        make("div", { class: "bars", id: "network-probabilities" }, order.map((k) => {
          const bar = make("div", { class: "bar" });
          bar.style.width = `${100 * probabilities[k]}%`;
          return [make("span", {}, page.classes[k]), make("div", {}, bar), make("span", { class: "number" }, percent(probabilities[k]))];
        }).flat())),
    ];
  }

  const buttons = subjects.map((one, number) => make("button", { type: "button", onclick: () => show(number) }, one.name));
  byId("network-subjects").append(...buttons);

  function show(number) {
    subject = number;
    buttons.forEach((button, k) => button.setAttribute("aria-pressed", String(k === subject)));
    byId("network-head").replaceChildren(...headOf());
    const input = make("li", {}, make("h3", {}, `Image: ${sizeWords(layers[0].input)}, normalised to mean 0 and deviation 1`),
      make("img", { src: subjects[subject].picture, alt: `The image before it is normalised: ${subjects[subject].name}` }));
    const last = make("li", {}, make("div", { class: "arrow" }, "↓ softmax: e^x / sum of e^x"), make("h3", {}, "Probabilities, above"));
    byId("network-layers").replaceChildren(input, ...layers.map((_, k) => layerItem(k)), last);
    if (chosen) choose(chosen.number, chosen.map, chosen.row, chosen.column);
  }

  show(0);
}
