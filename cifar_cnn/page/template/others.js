"use strict";
// What a difference other runs make.
{
  const sign = (share, digits = 2) => `${share < 0 ? "−" : "+"}${(100 * Math.abs(share)).toFixed(digits)}`;

  function changed(title, images) {
    return make("div", {}, make("h3", {}, title), make("div", { class: "images" }, images.map((one) => make(
      "figure", { class: "card" },
      thumbnail(one.image, `${page.split} example ${one.index}: ${page.classes[one.true]}`),
      make("figcaption", {}, `${page.classes[one.true]}; here: ${page.classes[one.ours]}, there: ${page.classes[one.theirs]}`),
    ))));
  }

  function table(other) {
    const rows = other.classes.map((one, number) => ({ ...one, number, by: one.support ? (one.gained - one.lost) / one.support : null }));
    rows.sort((a, b) => (a.by ?? 0) - (b.by ?? 0));
    return make("div", { class: "scroll" }, make(
      "table", {},
      make("thead", {}, make("tr", {}, ["Class", "Recall, points", "gained", "lost", "images"].map((name) => make("th", { scope: "col" }, name)))),
      make("tbody", {}, rows.map((one) => make(
        "tr", {}, make("td", {}, page.classes[one.number]), make("td", {}, one.by === null ? "–" : sign(one.by, 1)),
        make("td", {}, count(one.gained)), make("td", {}, count(one.lost)), make("td", {}, count(one.support)),
      ))),
    ));
  }

  page.others.forEach((other) => byId("others").append(
    make("h3", {}, other.name),
    make("p", { class: "difference" },
      `Accuracy ${percent(other.accuracy, 2)}, ${sign(other.difference)} points (95 % interval ${sign(other.interval[0])} to ${sign(other.interval[1])}, over images; ` +
      `McNemar p = ${short(other.p)}). It is right on ${count(other.only_theirs)} images that are wrong here, and wrong on ${count(other.only_ours)} that are right here.`),
    make("div", { class: "beside" }, table(other), make("div", {},
      changed(`Right only in ${other.name}, the surest`, other.gained),
      changed("Right only here, the surest", other.lost))),
  ));
}
