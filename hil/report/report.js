// SPDX-License-Identifier: GPL-2.0-or-later
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  // The form that hil/report/pack.py describes.
  const data = JSON.parse($("data").textContent);
  const pool = [];
  const whole = (value) => {
    if (Array.isArray(value)) {
      const [shape, ...parts] = value;
      if (shape < 0) return parts.map(whole);
      return Object.fromEntries(parts.map((part, place) => [data.shapes[shape][place], whole(part)]));
    }
    return value !== null && typeof value === "object" ? pool[value.$] : value;
  };
  for (const entry of data.pool) pool.push(whole(entry));
  const cells = data.cells.map(whole);
  const matrix = $("matrix");
  const panel = $("cell");
  const squares = [...matrix.querySelectorAll("button.q")];
  const byIndex = new Map(squares.map((square) => [Number(square.dataset.i), square]));
  let opener = null;

  // Text only ever goes in as text: logs and reasons come from the machine under test.
  const make = (name, text, className) => {
    const element = document.createElement(name);
    if (text !== undefined) element.textContent = text;
    if (className) element.className = className;
    return element;
  };
  const empty = (value) =>
    value === null || value === undefined || value === "" ||
    (typeof value === "object" && Object.values(value).every(empty));
  const words = (value) => {
    if (Array.isArray(value)) return value.map(words).join(", ");
    if (value !== null && typeof value === "object")
      return Object.entries(value).filter(([, part]) => !empty(part)).map(([key, part]) => `${key} ${words(part)}`).join(", ");
    return String(value);
  };
  const section = (title, ...parts) => {
    const shown = parts.filter(Boolean);
    if (shown.length) panel.append(make("h3", title), ...shown);
  };
  const rows = (pairs) => {
    const shown = pairs.filter(([, value]) => !empty(value));
    if (!shown.length) return null;
    const table = make("table");
    for (const [name, value] of shown) {
      const row = table.insertRow();
      row.append(make("th", name), make("td", words(value)));
    }
    return table;
  };
  // before, during, after side by side
  const stages = (parts) => {
    if (empty(parts)) return null;
    const columns = Object.keys(parts);
    const names = [...new Set(columns.flatMap((stage) => Object.keys(parts[stage] ?? {})))];
    const table = make("table");
    const head = table.insertRow();
    head.append(make("th"), ...columns.map((stage) => make("th", stage)));
    for (const name of names) {
      const row = table.insertRow();
      const values = columns.map((stage) => parts[stage]?.[name]);
      row.append(make("th", name), ...values.map((value) => make("td", empty(value) ? "–" : words(value))));
    }
    return table;
  };
  const lines = (value) => {
    if (empty(value)) return null;
    return make("pre", Array.isArray(value) ? value.join("\n") : typeof value === "string" ? value : JSON.stringify(value, null, 1));
  };
  const link = (text) => {
    if (!/^https?:\/\//.test(text)) return make("p", text);
    const anchor = make("a", text);
    anchor.href = text;
    anchor.rel = "noreferrer";
    const line = make("p");
    line.append(anchor);
    return line;
  };

  function show(index, from) {
    const cell = cells[index];
    const evidence = { ...(cell.evidence ?? {}) };
    const take = (name) => { const value = evidence[name]; delete evidence[name]; return value; };
    opener = from ?? byIndex.get(index) ?? null;
    panel.replaceChildren();
    const close = make("button", "Close", "plain close");
    close.type = "button";
    close.addEventListener("click", hide);
    panel.append(close, make("h2", cell.cell));
    const verdict = make("p");
    const sign = byIndex.get(index)?.textContent ?? "";
    verdict.append(make("span", sign, `q ${cell.mark}`), ` ${cell.verdict}${cell.outcome === "known" ? ", known" : cell.outcome === "unexpected-pass" ? ", but known as bad" : ""}`);
    panel.append(verdict, make("p", cell.reason ?? ""));
    const expected = cell.expected;
    section("Rule", rows([
      ["must be", expected ? (expected.accept ? "accepted" : `refused with ${words(expected.errnos)}`) : "no rule says"],
      ["whose", cell.attribution ? `${cell.attribution.to}: ${cell.attribution.why}` : null],
      ["rule", cell.rule], ...Object.entries(cell.source ?? {}),
    ]));
    if (cell.known) section(`Known: ${cell.known.id ?? ""}`, make("p", cell.known.because ?? ""), cell.known.reference ? link(cell.known.reference) : null);
    const stage = take("stage");
    const errno = take("errno");
    const call = take("call");
    const reached = !["open", "make", "before", "pin"].includes(stage);
    section("Call", rows([
      ["call", call], ["result", errno ?? (reached && call ? "accepted" : null)],
      ["last stage", stage === "done" ? null : stage], ["set-up", take("setup")],
    ]));
    const buffer = { ...(take("buffer") ?? {}) };
    const proof = buffer.proof, facts = buffer.facts;
    delete buffer.proof;
    delete buffer.facts;
    section("Buffer", rows([...Object.entries(buffer).map(([key, value]) => [key.replaceAll("_", " "), value]), ["proof", proof], ["facts", facts]]));
    section("Pins", stages(take("pins")));
    section("Frames", stages(take("frames")), rows([["moved pages", take("moved_pages") || null], ["unsuitable pages", take("unsuitable_pages") || null]]));
    section("Second pin", rows(Object.entries(take("second_pin") ?? {})));
    section("Huge pages", stages(take("hugepages")));
    section("Data", rows(Object.entries(take("data") ?? {})));
    section("Kernel log", lines(take("log")));
    section("Taint", rows(Object.entries(take("taint") ?? {})));
    const child = { ...(take("child") ?? {}) };
    section("Kernel stack", lines(child.stack));
    section("Tasks", lines(child.tasks));
    delete child.stack;
    delete child.tasks;
    section("Child", rows(Object.entries(child)));
    section("Seconds", rows(Object.entries(take("seconds") ?? {})));
    section("More evidence", empty(evidence) ? null : lines(evidence));
    section("Cell", rows(["pinner", "driver", "memory", "direction", "condition", "kernel"].map((name) => [name, cell[name]])));
    panel.hidden = false;
    panel.scrollTop = 0;
    document.body.classList.add("open");
    for (const square of squares) square.classList.toggle("open", Number(square.dataset.i) === index);
    history.replaceState(null, "", "#" + cell.cell);
  }
  function hide() {
    panel.hidden = true;
    document.body.classList.remove("open");
    for (const square of squares) square.classList.remove("open");
    history.replaceState(null, "", location.pathname + location.search);
    opener?.focus();
  }
  document.addEventListener("click", (event) => {
    const target = event.target.closest("[data-i]");
    if (!target) return;
    event.preventDefault();
    show(Number(target.dataset.i), target);
  });

  // Arrow keys: only one square takes part in the tab order.
  const place = (square) => [square.closest("tr").rowIndex, square.parentElement.cellIndex];
  let current = squares[0];
  for (const square of squares) square.tabIndex = -1;
  if (current) current.tabIndex = 0;
  const go = (square) => {
    current.tabIndex = -1;
    current = square;
    current.tabIndex = 0;
    current.focus();
    if (!panel.hidden) show(Number(square.dataset.i), square);
  };
  const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  matrix.addEventListener("focusin", (event) => {
    if (!event.target.matches("button.q")) return;
    current.tabIndex = -1;
    current = event.target;
    current.tabIndex = 0;
  });
  matrix.addEventListener("keydown", (event) => {
    const move = MOVES[event.key];
    if (!move || !event.target.matches("button.q")) return;
    event.preventDefault();
    let [row, column] = place(event.target);
    for (;;) {
      row += move[0];
      column += move[1];
      const line = matrix.rows[row];
      if (!line || column < 1 || column > MAX) return;
      const square = line.cells[column]?.querySelector("button.q:not(.out)");
      if (square && !line.hidden && !line.parentElement.hidden) return go(square);
    }
  });
  const MAX = Math.max(0, ...squares.map((square) => square.parentElement.cellIndex));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !panel.hidden) hide();
  });

  // Filters
  const form = $("filters");
  const haystack = cells.map((cell) =>
    `${cell.cell} ${cell.reason ?? ""} ${cell.verdict} ${cell.known?.id ?? ""}`.toLowerCase());
  const BAD = ["fail", "error", "unexpected-pass"];
  function filter() {
    const terms = $("text").value.toLowerCase().split(/\s+/).filter(Boolean);
    const verdict = $("verdict").value;
    const driver = $("driver").value;
    const family = $("family").value;
    let shown = 0;
    for (const square of squares) {
      const index = Number(square.dataset.i);
      const cell = cells[index];
      const fits =
        (!verdict || (verdict === "!bad" ? BAD.includes(cell.outcome) : cell.verdict === verdict)) &&
        (!driver || String(cell.driver) === driver) &&
        (!family || square.closest("tbody").dataset.family === family) &&
        terms.every((term) => haystack[index].includes(term));
      square.classList.toggle("out", !fits);
      if (fits) shown += 1;
    }
    for (const body of matrix.tBodies) {
      for (const row of body.rows)
        if (!row.classList.contains("family")) row.hidden = !row.querySelector(".q:not(.out)");
      body.hidden = ![...body.rows].some((row) => !row.classList.contains("family") && !row.hidden);
    }
    $("shown").textContent = shown === cells.length ? "" : `${shown} of ${cells.length} cells`;
  }
  form.addEventListener("input", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => event.preventDefault());

  $("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  document.documentElement.classList.add("js");
  const named = decodeURIComponent(location.hash.slice(1));
  const wanted = named ? cells.findIndex((cell) => cell.cell === named) : -1;
  if (wanted >= 0) show(wanted);
})();
