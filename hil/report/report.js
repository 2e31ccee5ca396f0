// SPDX-License-Identifier: GPL-2.0-or-later
(() => {
  const $ = (id) => document.getElementById(id);
  // The form that hil/report/pack.py describes: a table of words.
  const data = JSON.parse($("data").textContent);
  const NAMES = ["cell", "verdict", "outcome", "mark", "driver", "known", "reason"];
  const cells = data.rows.map((row) => Object.fromEntries(row.map((word, place) => [NAMES[place], data.words[word] ?? ""])));
  const { make } = Evidence;
  const matrix = $("matrix");
  const panel = $("cell");
  const squares = [...matrix.querySelectorAll("button.q")];
  const byIndex = new Map(squares.map((square) => [Number(square.dataset.i), square]));
  let opener = null;

  function show(index, from) {
    const cell = cells[index];
    opener = from ?? byIndex.get(index) ?? null;
    const verdict = make("p");
    const sign = byIndex.get(index)?.textContent ?? "";
    verdict.append(make("span", sign, `q ${cell.mark}`), ` ${cell.verdict}${Evidence.outcome(cell.outcome)}`);
    Evidence.show(panel, index, [Evidence.closer(hide), make("h2", cell.cell), verdict, make("p", cell.reason)]);
    for (const square of squares) square.classList.toggle("open", Number(square.dataset.i) === index);
    history.replaceState(null, "", "#" + cell.cell);
  }
  function hide() {
    Evidence.forget();
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
    `${cell.cell} ${cell.reason} ${cell.verdict} ${cell.known}`.toLowerCase());
  function filter() {
    const terms = Evidence.terms($("text").value);
    const verdict = $("verdict").value;
    const driver = $("driver").value;
    const family = $("family").value;
    let shown = 0;
    for (const square of squares) {
      const index = Number(square.dataset.i);
      const cell = cells[index];
      const fits =
        (!verdict || (verdict === "!bad" ? Evidence.BAD.includes(cell.outcome) : cell.verdict === verdict)) &&
        (!driver || cell.driver === driver) &&
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
  for (const event of ["input", "change"]) form.addEventListener(event, filter);
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => event.preventDefault());

  const named = decodeURIComponent(location.hash.slice(1));
  const wanted = named ? cells.findIndex((cell) => cell.cell === named) : -1;
  if (wanted >= 0) show(wanted);
})();
