"use strict";
// Numbers of the network: how they are read, and how they are drawn as colours.
const ZERO = [247, 247, 247];
const ABOVE = [5, 80, 150];
const BELOW = [190, 80, 5];
const HALVES = new Float32Array(65536);
for (let bits = 0; bits < 65536; bits += 1) {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const size = exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024);
  HALVES[bits] = bits >> 15 ? -size : size;
}
const UNPACKED = new Map();

// Float16 as base64 to numbers; kept, since the same ones are asked for again and again.
function unpack(text) {
  if (!UNPACKED.has(text)) {
    const bytes = atob(text);
    const values = new Float32Array(bytes.length / 2);
    for (let k = 0; k < values.length; k += 1) {
      values[k] = HALVES[bytes.charCodeAt(2 * k) | (bytes.charCodeAt(2 * k + 1) << 8)];
    }
    UNPACKED.set(text, values);
  }
  return UNPACKED.get(text);
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

// Tables of numbers coloured as the maps are, but paler: the numbers have to be read.
function grid(values, scale, chosenPlace = -1) {
  return make("table", { class: "grid" }, values.map((row, i) => make("tr", {}, row.map((value, j) => {
    const cell = make("td", { class: value === null ? "outside" : i * row.length + j === chosenPlace ? "chosen" : null },
      value === null ? "0" : value.toFixed(2));
    cell.style.background = `rgb(${mix((0.65 * (value ?? 0)) / scale).join(",")})`;
    return cell;
  }))));
}

// The kernels of a layer that reads colours or grey, as pictures.
function kernelColours({ name, kernel, window: { size, groups }, input, shown }) {
  const values = unpack(kernel);
  const colours = input[2] / groups;
  const zoom = 8;
  const [stepX, stepY] = [size[1] * zoom + 3, size[0] * zoom + 3];
  const columns = Math.max(1, Math.min(shown, Math.floor(640 / stepX)));
  const canvas = make("canvas", { width: columns * stepX, height: Math.ceil(shown / columns) * stepY, role: "img",
    "aria-label": `${shown} kernels of ${name}, as colours` });
  const context = canvas.getContext("2d");
  const scale = largest(values);
  for (let map = 0; map < shown; map += 1) {
    paintGrid(context, (map % columns) * stepX, Math.floor(map / columns) * stepY, size[0], size[1], zoom,
      (place) => [0, 1, 2].map((colour) =>
        Math.round(127.5 * (1 + values[(place * colours + Math.min(colour, colours - 1)) * shown + map] / scale))));
  }
  return canvas;
}

// The kernels of a layer that reads maps: a row for each of its own, a column for each that it reads.
function kernelTable({ name, kernel, window: { size, groups }, input, shown }) {
  const values = unpack(kernel);
  const reads = input[2] / groups;
  const zoom = 5;
  const [rows, columns] = [Math.min(shown, 16), Math.min(reads, 32)];
  const [stepX, stepY] = [size[1] * zoom + 2, size[0] * zoom + 2];
  const canvas = make("canvas", { width: columns * stepX, height: rows * stepY, role: "img",
    "aria-label": `Kernels of ${name}: rows are its first ${rows} maps, columns the first ${columns} that these read` });
  const context = canvas.getContext("2d");
  const scale = largest(values);
  for (let map = 0; map < rows; map += 1) {
    for (let read = 0; read < columns; read += 1) {
      paintGrid(context, read * stepX, map * stepY, size[0], size[1], zoom,
        (place) => mix(values[(place * reads + read) * shown + map] / scale));
    }
  }
  return canvas;
}
