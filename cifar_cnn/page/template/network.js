"use strict";
// The layers of the trained network on one image; a click shows how a value comes about.
{
  const { layers, subjects } = page.network;
  const ZERO = [247, 247, 247];
  const ABOVE = [5, 80, 150];
  const BELOW = [190, 80, 5];
  const MOST_TERMS = 6; // Maps of the input that a sum is shown for, the largest first.
  const halves = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits += 1) {
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    const size = exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024);
    halves[bits] = bits >> 15 ? -size : size;
  }
  const unpacked = new Map();
  let subject = 0;
  let chosen = null;

  // Float16 as base64 to numbers; kept, since the same ones are asked for again and again.
  function unpack(text) {
    if (!unpacked.has(text)) {
      const bytes = atob(text);
      const values = new Float32Array(bytes.length / 2);
      for (let k = 0; k < values.length; k += 1) {
        values[k] = halves[bytes.charCodeAt(2 * k) | (bytes.charCodeAt(2 * k + 1) << 8)];
      }
      unpacked.set(text, values);
    }
    return unpacked.get(text);
  }

  // What a layer was given and what it made: values [height][width][channels], row by row.
  function made(number) {
    const layer = subjects[subject].layers[number];
    return { values: unpack(layer.values), shape: layers[number].shape, channels: layer.channels };
  }

  function given(number) {
    const { source, input } = layers[number];
    if (source === -1) return { values: unpack(subjects[subject].input), shape: input, channels: input[2] };
    if (source === -2) return { values: unpack(subjects[subject].layers[number].given), shape: input, channels: input[2] };
    return made(source);
  }

  function mix(share) {
    const end = share < 0 ? BELOW : ABOVE;
    const part = Math.min(1, Math.abs(share));
    return ZERO.map((zero, k) => Math.round(zero + part * (end[k] - zero)));
  }

  function largest(values) {
    let most = 1e-12;
    for (const value of values) most = Math.max(most, Math.abs(value));
    return most;
  }

  // Draws height x width values as a picture whose pixels are `zoom` wide.
  function paintGrid(context, left, top, height, width, zoom, colourOf) {
    const small = new OffscreenCanvas(width, height);
    const inside = small.getContext("2d");
    const pixels = inside.createImageData(width, height);
    for (let place = 0; place < height * width; place += 1) {
      pixels.data.set([...colourOf(place), 255], 4 * place);
    }
    inside.putImageData(pixels, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(small, left, top, width * zoom, height * zoom);
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
    if (layers[number].window) {
      canvas.classList.add("choose");
      canvas.addEventListener("click", (event) => {
        const box = canvas.getBoundingClientRect();
        const across = ((event.clientX - box.left) / box.width) * canvas.width;
        const down = ((event.clientY - box.top) / box.height) * canvas.height;
        const map = Math.floor(down / stepY) * columns + Math.floor(across / stepX);
        const row = Math.floor((down % stepY) / zoom);
        const column = Math.floor((across % stepX) / zoom);
        if (map < shown && row < height && column < width) choose(number, map, row, column);
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

  // The kernels of a layer that reads colours or grey, as pictures.
  function kernelsOf(number) {
    const { kernel, window: { size }, input, shown } = layers[number];
    const values = unpack(kernel);
    const colours = input[2];
    const zoom = 8;
    const [stepX, stepY] = [size[1] * zoom + 3, size[0] * zoom + 3];
    const columns = Math.min(shown, Math.floor(640 / stepX));
    const canvas = make("canvas", { width: columns * stepX, height: Math.ceil(shown / columns) * stepY, role: "img",
      "aria-label": `${shown} kernels of ${layers[number].name}, as colours` });
    const context = canvas.getContext("2d");
    const scale = largest(values);
    for (let map = 0; map < shown; map += 1) {
      paintGrid(context, (map % columns) * stepX, Math.floor(map / columns) * stepY, size[0], size[1], zoom,
        (place) => [0, 1, 2].map((colour) =>
          Math.round(127.5 * (1 + values[(place * colours + Math.min(colour, colours - 1)) * shown + map] / scale))));
    }
    return canvas;
  }

  function sizeWords(shape) {
    return shape.join(" × ");
  }

  function layerItem(number) {
    const layer = layers[number];
    const spatial = layer.shape.length === 3;
    const more = spatial && layer.shown < layer.shape[2] ? `, the first ${layer.shown} maps` : "";
    return make(
      "li", { "data-layer": number },
      make("div", { class: "arrow" }, `↓ ${layer.arithmetic || layer.kind}`),
      make("h3", {}, `${layer.name} (${layer.kind}): ${sizeWords(layer.shape)}${more}`),
      layer.kernel && layer.source === -1 ? kernelsOf(number) : null,
      spatial ? mapsOf(number) : stripOf(number),
    );
  }

  // Tables of numbers coloured as the maps are.
  function grid(values, scale, chosenPlace = -1) {
    return make("table", { class: "grid" }, values.map((row, i) => make("tr", {}, row.map((value, j) => {
      const cell = make("td", { class: value === null ? "outside" : i * row.length + j === chosenPlace ? "chosen" : null },
        value === null ? "0" : value.toFixed(2));
      const share = (value ?? 0) / scale;
      cell.style.background = `rgb(${mix(0.75 * share).join(",")})`;
      if (Math.abs(share) > 0.6) cell.style.color = "#fff";
      return cell;
    }))));
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
    const { window, kernel, bias, shown, input: [, , channels] } = layers[number];
    const input = given(number);
    const weights = unpack(kernel);
    const terms = [];
    for (let channel = 0; channel < channels; channel += 1) {
      const under = patch(input, window, channel, row, column);
      const factors = under.map((line, i) => line.map((_, j) =>
        weights[((i * window.size[1] + j) * channels + channel) * shown + map]));
      let value = 0;
      under.forEach((line, i) => line.forEach((seen, j) => { value += (seen ?? 0) * factors[i][j]; }));
      terms.push({ channel, under, factors, value });
    }
    terms.sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
    const first = terms.slice(0, MOST_TERMS);
    const rest = terms.slice(MOST_TERMS).reduce((sum, term) => sum + term.value, 0);
    const own = bias ? bias[map] : 0;
    const total = terms.reduce((sum, term) => sum + term.value, own);
    const seen = largest(first.flatMap((term) => term.under.flat().map((value) => value ?? 0)));
    const weight = largest(first.flatMap((term) => term.factors.flat()));
    return [
      first.map((term) => make(
        "div", { class: "sum" }, make("span", {}, `map ${term.channel}`), grid(term.under, seen), "×", grid(term.factors, weight),
        make("span", { class: "number" }, `= ${short(term.value)}`),
      )),
      terms.length > MOST_TERMS ? make("p", {}, `${terms.length - MOST_TERMS} further maps together: ${short(rest)}`) : null,
      bias ? make("p", {}, `bias: ${short(own)}`) : null,
      make("p", { id: "network-total", "data-total": total }, make("strong", {}, `sum = ${short(total)}`)),
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

  function choose(number, map, row, column) {
    chosen = { number, map, row, column };
    const layer = layers[number];
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
    const place = layers[number].source === -1 ? "the normalised image" : "its input";
    byId("network-detail").replaceChildren(
      make("h3", {}, `${layer.name}: how a value comes about`),
      make("div", { class: "controls" }, field("map", layer.shown, map), field("row", shape[0], row), field("column", shape[1], column)),
      make("p", { id: "network-value", "data-value": value }, `The layer's value there is ${short(value)}. The window lies on ${place}:`),
      ...(layer.window.what === "conv" ? sumDetail(number, map, row, column) : poolDetail(number, map, row, column)).flat().filter(Boolean),
      make("p", { class: "note" }, "Grey italics lie outside of the image and count as 0. Values are rounded to 11 bits on this page, so the last digit may differ."),
    );
  }

  // The image, with or without what speaks for a class.
  function headOf() {
    const { picture, probabilities, predicted, grad_cam: cam, input } = subjects[subject];
    const [height, width] = layers[0].input;
    const canvas = make("canvas", { width, height, role: "img", "aria-label": `The image: ${subjects[subject].name}` });
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
      const heat = unpack(cam.heats[Number(select.value)]);
      heat.forEach((value, k) => {
        context.fillStyle = `rgba(255,140,0,${(0.75 * Math.max(0, value)).toFixed(3)})`;
        context.fillRect(k % width, Math.floor(k / width), 1, 1);
      });
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

  function show(number) {
    subject = number;
    byId("network-subjects").replaceChildren(...subjects.map((one, k) => make(
      "button", { type: "button", "aria-pressed": String(k === subject), onclick: () => show(k) }, one.name,
    )));
    byId("network-head").replaceChildren(...headOf());
    const input = make("li", {}, make("h3", {}, `Image: ${sizeWords(layers[0].input)}, normalised to mean 0 and deviation 1`));
    const last = make("li", {}, make("div", { class: "arrow" }, "↓ softmax: e^x / sum of e^x"), make("h3", {}, "Probabilities, above"));
    byId("network-layers").replaceChildren(input, ...layers.map((_, k) => layerItem(k)), last);
    if (chosen) choose(chosen.number, chosen.map, chosen.row, chosen.column);
  }

  show(0);
}
