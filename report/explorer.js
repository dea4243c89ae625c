"use strict";
// The runs explorer, and the figures inside claims. Without it, the page lacks only the runs. Data becomes text nodes
// and attributes, never markup.
(() => {
  const FIRST = 10; // rows shown at first
  const PAGE = 100; // rows added by "show more"
  const data = JSON.parse(document.getElementById("data").textContent);
  const { runs, names, cells } = data;
  const { make, minus } = drawing;
  const count = runs.seed.length;
  const byId = (id) => document.getElementById(id);
  const dash = "\u2013";

  const cellOf = (run) => cells[runs.cell[run]];
  const nameOf = (run) => `${names.cell[runs.cell[run]]}/seed-${String(runs.seed[run]).padStart(4, "0")}`;
  const named = (column) => (run) => names[column][runs[column][run]] ?? null;
  const status = named("status");
  const reason = named("reason");
  const thousands = (value) => (value === null ? dash : value.toLocaleString("en-GB"));
  /** A number of a record; undefined, which leaves its line out, for null. */
  const formatted = (value, notation) => {
    if (value === null) return undefined;
    if (notation === "scientific") return value.toExponential(3);
    return Number.isInteger(value) ? thousands(value) : plain(value);
  };
  const plain = (value) => (value === null ? dash : minus(String(value)));
  const percent = (value) => (value === null ? dash : `${(100 * value).toFixed(2)} %`);

  // Columns of the table: title, sort key, format, whether it is a number.
  const COLUMNS = [
    ["method", (run) => cellOf(run).method, null, false],
    ["seed", (run) => runs.seed[run], plain, true],
    ["architecture", (run) => cellOf(run).architecture, null, false],
    ["dataset", (run) => cellOf(run).dataset, null, false],
    ["status", status, null, false],
    ["test accuracy", (run) => runs.accuracy[run], percent, true],
    ["learning rate", (run) => runs.learning_rate[run], plain, true],
    ["norm gain", (run) => runs.norm_gain[run], plain, true],
    ["steps", (run) => runs.steps[run], thousands, true],
    ["seconds", (run) => runs.seconds[run], (value) => (value === null ? dash : value.toFixed(1)), true],
    ["record", (run) => runs.digest[run], null, false],
  ];
  const words = Array.from({ length: count }, (_, run) =>
    [nameOf(run), cellOf(run).method, runs.digest[run], reason(run)].join(" ").toLowerCase());
  const places = new Map(words.map((_, run) => [nameOf(run), run]));

  const form = byId("filters");
  const body = document.querySelector("#run-table tbody");
  const heads = document.querySelector("#run-table thead tr");
  const more = byId("more");
  const panel = byId("run");
  let order = { column: null, down: false };
  let matches = [];
  let shown = FIRST;

  const fields = {
    architecture: (run) => cellOf(run).architecture,
    dataset: (run) => cellOf(run).dataset,
    method: (run) => cellOf(run).method,
    status,
  };

  function matching() {
    const chosen = Object.entries(fields).filter(([name]) => form.elements[name].value);
    const seed = form.elements.seed.value.trim();
    const text = form.elements.text.value.trim().toLowerCase();
    const matches = [];
    for (let run = 0; run < count; run++) {
      if (seed && String(runs.seed[run]) !== seed) continue;
      if (text && !words[run].includes(text)) continue;
      if (chosen.every(([name, of]) => of(run) === form.elements[name].value)) matches.push(run);
    }
    return matches;
  }

  /** The runs in the selected order; unknown values are last in both directions. */
  function sorted(matches) {
    if (order.column === null) return matches;
    const key = COLUMNS[order.column][1];
    const sign = order.down ? -1 : 1;
    return matches.sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === null || y === null) return (x === null) - (y === null) || a - b;
      return (x < y ? -sign : x > y ? sign : 0) || a - b;
    });
  }

  function row(run) {
    const line = make("tr");
    COLUMNS.forEach(([title, key, format, number], i) => {
      const value = key(run);
      const text = format ? format(value) : (value ?? dash);
      if (i === 0) {
        const rest = make("span", { class: "quiet" }, `, seed ${runs.seed[run]}, ${cellOf(run).architecture}, ${cellOf(run).dataset}`);
        line.append(make("th", { scope: "row" }, make("a", { href: `#run=${nameOf(run)}` }, text, rest)));
      } else {
        const kind = title === "status" ? text : number ? "n" : title === "record" ? "code" : "";
        line.append(make("td", kind ? { class: kind } : {}, text));
      }
    });
    return line;
  }

  function show() {
    body.replaceChildren(...matches.slice(0, shown).map(row));
    more.hidden = matches.length <= shown;
    more.textContent = `Show ${Math.min(PAGE, matches.length - shown)} more of ${thousands(matches.length - shown)}`;
    const limit = matches.length > shown ? `; the first ${shown} are shown` : "";
    byId("matches").textContent = `${thousands(matches.length)} of ${thousands(count)} runs match${limit}.`;
  }

  function filter() {
    matches = sorted(matching());
    shown = FIRST;
    show();
  }

  function sortBy(column) {
    order = { column, down: order.column === column && !order.down };
    [...heads.children].forEach((head, i) => {
      if (i === column) head.setAttribute("aria-sort", order.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    filter();
  }

  // --- one run ---

  function curvesOf(run) {
    const width = Math.max(240, Math.min(440, panel.clientWidth - 34)); // text keeps its size on a phone
    const curves = drawing.curves(data, run, nameOf(run), width);
    return make("div", { class: "curves" }, ...(curves.length ? curves : [make("p", {}, "This run has no curves.")]));
  }

  /** A key with break opportunities after dots and underscores. */
  const breakable = (key) => key.split(/(?<=[._])/).flatMap((part, i) => (i ? [make("wbr"), part] : [part]));

  function list(entries) {
    const entry = ([term, value]) => make("div", {}, make("dt", {}, ...breakable(term)), make("dd", {}, value));
    return make("dl", {}, ...entries.filter(([, value]) => value !== undefined).map(entry));
  }

  /** Nested keys as paths such as recipe.epochs. */
  function flat(value, path = "") {
    if (value === null) return [[path, dash]];
    if (Array.isArray(value)) return [[path, value.join(", ")]];
    if (typeof value !== "object") return [[path, String(value)]];
    return Object.entries(value).flatMap(([name, inner]) => flat(inner, path ? `${path}.${name}` : name));
  }

  function recordOf(run) {
    const digest = (name) => named(`${name}_digest`)(run) ?? dash;
    return [
      ["status", status(run)],
      ["reason", reason(run) ?? undefined],
      ["test accuracy", percent(runs.accuracy[run]) + (status(run) === "diverged" ? " (chance, since it diverged)" : "")],
      ...data.fields.map(([name, title, notation]) => [title, formatted(runs[name][run], notation)]),
      ["started", runs.started[run] ?? dash],
      ["device", named("device")(run) ?? dash],
      ["commit", named("commit")(run) ?? dash],
      ["record digest", runs.digest[run] ?? dash],
      ["spec digest", runs.spec_digest[run] ?? dash],
      ["data digest", digest("data")],
      ["code digest", digest("code")],
      ["stack digest", digest("stack")],
    ];
  }

  function openRun(name) {
    panel.hidden = false; // a hidden panel has no width
    const run = places.get(name);
    const close = make("a", { class: "close", href: "#runs" }, "Close");
    if (run === undefined) {
      const title = make("h3", { id: "run-title" }, "No such run");
      panel.replaceChildren(title, close, make("p", {}, `The study has no run ${name}.`));
    } else {
      const { architecture, dataset, method, spec } = cellOf(run);
      const title = make("h3", { id: "run-title" }, `${method}, seed ${runs.seed[run]}: ${architecture} on ${dataset}`);
      const path = make("p", {}, "Stored in ", make("code", {}, `results/store/${name}/`), "; the receipt is next to this folder.");
      const specified = make("section", {}, make("h4", {}, "Specification"), list([...flat(spec), ["seed", String(runs.seed[run])]]));
      const recorded = make("section", {}, make("h4", {}, "Record"), list(recordOf(run)));
      panel.replaceChildren(title, close, path, curvesOf(run), make("div", { class: "pair" }, recorded, specified));
    }
    panel.scrollIntoView({ block: "start" });
    panel.focus({ preventScroll: true });
  }

  // --- addresses: #run=NAME opens a run, and a link to a claim opens the claim ---

  let opened = null;
  function follow() {
    const hash = decodeURIComponent(location.hash.slice(1));
    if (hash.startsWith("run=")) {
      opened = hash.slice("run=".length);
      openRun(opened);
      return;
    }
    panel.hidden = true;
    if (hash === "runs" && opened) {
      const link = [...body.querySelectorAll("a")].find((a) => a.getAttribute("href") === `#run=${opened}`);
      (link ?? byId("matches")).focus();
    }
    const target = hash && byId(hash);
    if (target instanceof HTMLDetailsElement) target.open = true;
  }

  // --- figures in claims: the page has each image once, and an open claim shows a copy ---

  function showFigure(claim) {
    const place = claim.querySelector("[data-figure]");
    if (!place || place.querySelector("img")) return;
    const image = byId(`figure-${place.dataset.figure}`).querySelector("img").cloneNode();
    const label = `${claim.querySelector(".name").textContent}: figure`;
    place.append(make("div", { class: "sheet", tabindex: "0", role: "group", "aria-label": label }, image));
  }

  const claims = [...document.querySelectorAll("details.claim, details.untested")];
  claims.forEach((claim) => claim.addEventListener("toggle", () => claim.open && showFigure(claim)));
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = claims.filter((claim) => !claim.open);
    closed.forEach((claim) => (claim.open = true));
  });
  addEventListener("afterprint", () => closed.forEach((claim) => (claim.open = false)));

  // --- start ---

  for (const [name, of] of Object.entries(fields)) {
    const values = [...new Set(words.map((_, run) => of(run)))];
    form.elements[name].append(...values.map((value) => make("option", { value }, value)));
  }
  COLUMNS.forEach(([title, , , number], i) => {
    const button = make("button", { type: "button" }, title);
    button.addEventListener("click", () => sortBy(i));
    heads.append(make("th", number ? { scope: "col", class: "n" } : { scope: "col" }, button));
  });
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter)); // after the fields are empty
  more.addEventListener("click", () => {
    const next = shown;
    shown += PAGE;
    show();
    body.rows[next].querySelector("a").focus();
  });
  body.addEventListener("click", (event) => {
    const line = event.target.closest("tr");
    if (line && !event.target.closest("a") && !getSelection().toString()) location.hash = line.querySelector("a").hash;
  });
  byId("explorer").hidden = false;
  filter();
  addEventListener("hashchange", follow);
  follow();
})();
