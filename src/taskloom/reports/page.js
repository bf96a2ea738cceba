"use strict";
(() => {
  const root = document.documentElement;
  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  // Okabe and Ito's colours, which colour-blind readers tell apart too.
  const category = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8c8c8c", "#b8a800"];

  const config = (place) => ({
    background: null,
    font: getComputedStyle(document.body).fontFamily,
    autosize: {type: "fit-x", contains: "padding"},
    view: {stroke: null},
    range: {category},
    axis: {
      labelColor: colour("--muted"), titleColor: colour("--muted"), gridColor: colour("--rule"),
      domainColor: colour("--rule"), tickColor: colour("--rule"), titleFontWeight: 400, labelFontSize: 11,
    },
    legend: {labelColor: colour("--ink"), titleColor: colour("--muted"), columns: place.clientWidth < 480 ? 2 : 4},
    text: {color: colour("--ink")},
  });

  const draw = async (place) => {
    if (!window.vegaEmbed) return;
    const spec = JSON.parse(document.getElementById(place.dataset.spec).textContent);
    const whole = {
      $schema: "https://vega.github.io/schema/vega-lite/v6.json", width: "container",
      description: place.dataset.label, ...spec,
    };
    // `ast` reads expressions without compiling code, which the page's policy forbids.
    await window.vegaEmbed(place, whole, {renderer: "svg", actions: false, ast: true, config: config(place)});
    place.dataset.drawn = "yes";
  };

  const charts = [...document.querySelectorAll(".chart")];
  const all = () => Promise.all(charts.map(draw));
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) {
        watcher.unobserve(entry.target);
        draw(entry.target);
      }
    }
  }, {rootMargin: "400px"});
  charts.forEach((place) => watcher.observe(place));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    charts.filter((place) => place.dataset.drawn).forEach(draw);
  });
  addEventListener("beforeprint", all);
  window.drawAllCharts = all;

  // A click on a heading sorts a table by its column; a second one turns the order round.
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((each) => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
        const body = table.tBodies[0];
        const rows = [...body.rows].sort((one, other) => {
          const a = key(one), b = key(other), x = Number(a), y = Number(b);
          const order = a !== "" && b !== "" && !isNaN(x) && !isNaN(y) ? x - y : a.localeCompare(b);
          return down ? -order : order;
        });
        body.append(...rows);
      });
    });
  }

  // The browser of predictions: texts are put in as text, so nothing in them is ever markup.
  const element = (tag, text, kind) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };
  const LIMIT = 12;
  for (const browser of document.querySelectorAll(".browser")) {
    const rows = JSON.parse(document.getElementById(browser.dataset.rows).textContent);
    const fields = Object.fromEntries([...browser.querySelectorAll("[data-field]")].map((each) => [each.dataset.field, each]));
    const list = browser.querySelector(".found"), count = browser.querySelector(".count"), more = browser.querySelector(".show-more");
    let limit = LIMIT;
    const options = (select, values) => {
      for (const value of [...new Set(values)].filter((each) => each !== null && each !== "").sort()) {
        const option = element("option", value);
        option.value = value;
        select.append(option);
      }
    };
    options(fields.task, rows.map((row) => row.task));
    options(fields.group, rows.map((row) => row.group ?? ""));
    fields.group.closest("label").hidden = fields.group.options.length < 2;
    const labels = () => {
      const kept = fields.label.value;
      fields.label.length = 1;
      const task = fields.task.value;
      options(fields.label, rows.filter((row) => !task || row.task === task).flatMap((row) => row.labels));
      fields.label.value = [...fields.label.options].some((each) => each.value === kept) ? kept : "";
    };
    const matches = (row) => {
      const words = fields.search.value.toLowerCase();
      const least = Number(fields.least.value || 0), most = Number(fields.most.value || Infinity);
      return (!fields.task.value || row.task === fields.task.value)
        && (!fields.label.value || row.labels.includes(fields.label.value))
        && (!fields.right.value || String(row.right) === fields.right.value)
        && (!fields.group.value || row.group === fields.group.value)
        && row.words >= least && row.words <= most
        && (!words || row.search.includes(words));
    };
    const card = (row) => {
      const made = element("li", undefined, "example");
      const head = element("div", undefined, "origin");
      if (row.right !== null) head.append(element("span", row.right ? "right" : "wrong", `mark ${row.right ? "right" : "wrong"}`));
      head.append(element("strong", row.task), element("span", row.place, "place"));
      const text = element("dl");
      for (const [name, value] of row.shown) text.append(element("dt", name), element("dd", value));
      made.append(head, text);
      if (row.why) {
        const most = Math.max(...row.why.words.map((each) => Math.abs(each[1])), 1e-9);
        const why = element("p", undefined, "why");
        why.append(element("span", `What each word adds to ${row.why.target}: `, "small"));
        for (const [word, weight] of row.why.words) {
          const held = element("span", word, weight > 0 ? "for" : "against");
          held.style.setProperty("--much", (Math.abs(weight) / most).toFixed(2));
          held.append(element("span", ` ${weight > 0 ? "+" : ""}${weight.toPrecision(2)}`, "hidden"));
          held.title = weight.toPrecision(3);
          why.append(held, " ");
        }
        made.append(why);
      }
      return made;
    };
    const orders = {
      file: (a, b) => a.number - b.number,
      sure: (a, b) => (b.sure ?? -1) - (a.sure ?? -1),
      unsure: (a, b) => (a.sure ?? 2) - (b.sure ?? 2),
      long: (a, b) => b.words - a.words,
    };
    const show = () => {
      const found = rows.filter(matches).sort(orders[fields.order.value]);
      list.replaceChildren(...found.slice(0, limit).map(card));
      count.textContent = `${found.length} of ${rows.length} predictions`;
      more.hidden = found.length <= limit;
    };
    const again = () => { limit = LIMIT; show(); };
    for (const field of Object.values(fields)) field.addEventListener("input", () => { if (field === fields.task) labels(); again(); });
    more.addEventListener("click", () => { limit += 4 * LIMIT; show(); });
    labels();
    show();
  }
})();
