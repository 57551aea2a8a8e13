"use strict";
// What all parts of the page share. No name or text is ever put in as HTML.
const page = JSON.parse(document.getElementById("data").textContent);
// Of Okabe & Ito 2008, which colour-blind readers can tell apart; without the yellow.
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#8c8c8c", "#7a3e9d"];

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function byId(id) {
  return document.getElementById(id);
}

function percent(share, digits = 1) {
  return share === null ? "–" : `${(100 * share).toFixed(digits)} %`;
}

function count(number) {
  return number.toLocaleString("en-US");
}

function short(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1000 || size < 0.001 ? value.toExponential(1) : value.toPrecision(3);
}

// One rule for all small images: they are places of one picture.
{
  const { url, width, height } = page.sprite;
  const rule = `.thumb { background-image: url("${url}"); }`;
  document.head.append(make("style", {}, rule));
  // Cards are 105 pixels wide; whole pixels stay sharp.
  const scale = Math.min(105 / width, 105 / height);
  page.sprite.scale = scale > 1 ? Math.floor(scale) : scale;
}

function thumbnail(number, label) {
  const { columns, width, height, scale } = page.sprite;
  const node = make("span", { class: "thumb", role: "img", "aria-label": label });
  if (number === null) return node;
  const [w, h] = [width * scale, height * scale];
  node.style.width = `${w}px`;
  node.style.height = `${h}px`;
  node.style.backgroundSize = `${columns * w}px auto`;
  node.style.backgroundPosition = `-${(number % columns) * w}px -${Math.floor(number / columns) * h}px`;
  return node;
}

function answerWords(row) {
  const [is, said] = [page.classes[row.true], page.classes[row.predicted]];
  return row.true === row.predicted ? is : `${is}, taken for ${said}`;
}

function card(number) {
  const row = page.rows[number];
  const hit = row.true === row.predicted;
  return make(
    "figure", { class: "card" },
    thumbnail(row.image, `${page.split} example ${row.index}: ${answerWords(row)}`),
    make(
      "figcaption", {},
      make("span", { class: `mark ${hit ? "right" : "wrong"}` }, hit ? "✓ " : "✗ "),
      answerWords(row), " ",
      make("span", { class: "whole" }, percent(row.sure)), " ",
      hit ? null : make("span", { class: "note whole" }, `(true: ${percent(row.of_true)})`),
    ),
  );
}

// Round numbers from `low` to `high`, about `wanted` of them.
function ticks(low, high, wanted) {
  const rough = Math.max((high - low) / wanted, 1e-12);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k += 1) {
    found.push(Number((k * step).toPrecision(12)));
  }
  return found;
}

{
  const button = byId("theme");
  const names = ["system", "light", "dark"];
  let place = 0;
  button.addEventListener("click", () => {
    place = (place + 1) % names.length;
    document.documentElement.dataset.theme = names[place];
    button.textContent = `Colours: ${names[place]}`;
    button.setAttribute("aria-label", `Colours: ${place ? names[place] : "as the system"}`);
  });
}

// On paper nothing can be opened.
addEventListener("beforeprint", () => {
  document.querySelectorAll("details:not(.kernels)").forEach((details) => { details.open = true; });
});
