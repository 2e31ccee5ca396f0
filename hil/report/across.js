// SPDX-License-Identifier: GPL-2.0-or-later
(() => {
  const $ = (id) => document.getElementById(id);
  const { make } = Evidence;
  const data = JSON.parse($("data").textContent);
  const columns = data.columns;
  const WIDTH = columns.length;
  const named = (table, names) => table.rows.map((row) =>
    Object.fromEntries(row.map((word, place) => [names[place], table.words[word] ?? ""])));
  const rows = named(data.rows, ["pinner", "memory", "direction", "condition", "driver", "family"]);
  const states = named(data.states, ["mark", "sign", "verdict", "outcome", "answer", "known", "reason"]);
  for (const row of rows) row.cell = `${row.pinner}/${row.memory}/${row.direction}/${row.condition}`;
  const squares = Int32Array.from(data.squares);
  // Records are numbered row by row, without the crossings where there is none.
  const records = new Int32Array(squares.length);
  for (let place = 0, next = 0; place < squares.length; place += 1) records[place] = squares[place] < 0 ? -1 : next++;
  const stateAt = (row, column) => states[squares[row * WIDTH + column]];
  const changedAt = (row, column) => {
    if (column === 0 || columns[column - 1].board !== columns[column].board) return false;
    const here = stateAt(row, column), before = stateAt(row, column - 1);
    return Boolean(here && before &&
      (here.verdict !== before.verdict || here.outcome !== before.outcome ||
        (here.outcome !== "skip" && here.answer !== before.answer)));
  };

  const scroll = $("scroll"), body = $("rows"), panel = $("cell"), form = $("filters");
  let shown = rows.map((_, number) => number);
  let whole = false; // all rows at once, for printing
  let open = null, opener = null, focus = null;
  const HEIGHT = 23;
  const MARGIN = 12; // rows drawn beyond those in sight, so that not each step draws anew
  const PRINTED = 5000;

  // Only the rows in sight are in the document, between two spacers.
  const spacer = (count) => {
    const line = make("tr", undefined, "spacer");
    line.setAttribute("aria-hidden", "true");
    const cell = make("td");
    cell.colSpan = WIDTH + 4;
    cell.style.height = `${count * HEIGHT}px`;
    line.append(cell);
    return line;
  };
  const square = (row, column) => {
    const state = stateAt(row, column);
    const cell = make("td", undefined, "k");
    if (!state) {
      cell.append(make("span", "", "q none"));
      return cell;
    }
    if (changedAt(row, column)) cell.classList.add("changed");
    const button = make("button", state.sign, `q ${state.mark}`);
    button.type = "button";
    button.dataset.row = row;
    button.dataset.column = column;
    button.title = `${rows[row].cell} on ${columns[column].kernel}: ${state.verdict}`;
    button.tabIndex = focus && focus.row === row && focus.column === column ? 0 : -1;
    if (open && open.row === row && open.column === column) button.classList.add("open");
    if (!fitting(state)) button.classList.add("out");
    cell.append(button);
    return cell;
  };
  const line = (place) => {
    const number = shown[place], row = rows[number];
    const made = make("tr");
    if (place && rows[shown[place - 1]].memory !== row.memory) made.className = "first";
    made.setAttribute("aria-rowindex", place + 2);
    const head = make("th", row.memory);
    head.scope = "row";
    head.title = row.cell;
    made.append(head, make("td", row.direction), make("td", row.condition), make("td", row.pinner));
    for (let column = 0; column < WIDTH; column += 1) made.append(square(number, column));
    return made;
  };
  let drawn = [0, 0];
  function draw(again) {
    const top = Math.min(Math.floor(scroll.scrollTop / HEIGHT), Math.max(0, shown.length - 1));
    const bottom = Math.min(shown.length, top + Math.ceil(scroll.clientHeight / HEIGHT) + 1);
    if (!again && drawn[0] <= top && drawn[1] >= bottom) return;
    const first = whole ? 0 : Math.max(0, top - MARGIN);
    const last = whole ? Math.min(shown.length, PRINTED) : Math.min(shown.length, bottom + MARGIN);
    drawn = [first, last];
    const lines = [];
    for (let place = first; place < last; place += 1) lines.push(line(place));
    const rest = shown.length - last;
    if (whole && rest > 0) {
      const note = make("tr");
      const cell = make("td", `and ${rest} more rows: choose fewer with the filters before printing`);
      cell.colSpan = WIDTH + 4;
      note.append(cell);
      lines.push(note);
    }
    const focused = body.contains(document.activeElement);
    body.replaceChildren(...(whole ? lines : [spacer(first), ...lines, spacer(rest)]));
    if (focused && focus) find(focus.row, focus.column)?.focus({ preventScroll: true });
  }
  const find = (row, column) => body.querySelector(`button[data-row="${row}"][data-column="${column}"]`);
  let waiting = false;
  scroll.addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  }, { passive: true });
  addEventListener("resize", () => draw());
  addEventListener("beforeprint", () => { whole = true; draw(true); });
  addEventListener("afterprint", () => { whole = false; draw(true); });

  // Filters
  let chosen = { verdict: "", terms: [] };
  const fitting = (state) => {
    const { verdict } = chosen;
    if (!verdict) return true;
    if (verdict === "!bad") return Evidence.BAD.includes(state.outcome);
    if (verdict === "!known") return state.outcome === "known";
    return state.verdict === verdict;
  };
  const haystacks = [];
  const haystack = (number) => {
    if (haystacks[number] === undefined) {
      const words = new Set([rows[number].cell, rows[number].driver]);
      for (let column = 0; column < WIDTH; column += 1) {
        const state = stateAt(number, column);
        if (state) words.add(`${state.verdict} ${state.known} ${state.answer} ${state.reason}`);
      }
      haystacks[number] = [...words].join(" ").toLowerCase();
    }
    return haystacks[number];
  };
  const any = (number, test) => {
    for (let column = 0; column < WIDTH; column += 1) if (test(number, column)) return true;
    return false;
  };
  function filter() {
    chosen = { verdict: $("verdict").value, terms: Evidence.terms($("text").value) };
    const driver = $("driver").value, memory = $("memory").value, condition = $("condition").value;
    const family = memory.startsWith("family ") ? memory.slice(7) : "";
    const changing = $("changing").checked;
    shown = [];
    rows.forEach((row, number) => {
      if (driver && row.driver !== driver) return;
      if (condition && row.condition !== condition) return;
      if (family ? row.family !== family : memory && row.memory !== memory) return;
      if (changing && !any(number, changedAt)) return;
      if (chosen.verdict && !any(number, (r, c) => stateAt(r, c) && fitting(stateAt(r, c)))) return;
      if (!chosen.terms.every((term) => haystack(number).includes(term))) return;
      shown.push(number);
    });
    $("matrix").setAttribute("aria-rowcount", shown.length + 1);
    $("shown").textContent = shown.length === rows.length ? "" : `${shown.length} of ${rows.length} rows`;
    scroll.scrollTop = 0;
    draw(true);
  }
  for (const event of ["input", "change"]) form.addEventListener(event, filter);
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => event.preventDefault());

  // Evidence
  function show(row, column, from) {
    const state = stateAt(row, column);
    if (!state) return;
    open = { row, column };
    opener = from ?? opener;
    const verdict = make("p");
    verdict.append(make("span", state.sign, `q ${state.mark}`), ` ${state.verdict}${Evidence.outcome(state.outcome)} on ${columns[column].kernel}`);
    const strip = make("div", undefined, "strip");
    columns.forEach((other, place) => {
      const there = stateAt(row, place);
      if (!there) return;
      const go = make("button", undefined, "plain");
      go.type = "button";
      go.dataset.row = row;
      go.dataset.column = place;
      go.title = there.verdict;
      go.setAttribute("aria-current", String(place === column));
      go.append(other.kernel, make("span", there.sign, `q ${there.mark}`));
      strip.append(go);
    });
    const run = columns[column];
    Evidence.show(panel, records[row * WIDTH + column],
      [Evidence.closer(hide), make("h2", rows[row].cell), verdict, make("p", state.reason), strip,
        make("p", `run ${run.run} on ${run.board}`)]);
    draw(true);
    history.replaceState(null, "", `#${run.run}:${rows[row].cell}`);
  }
  function hide() {
    Evidence.forget();
    panel.hidden = true;
    open = null;
    document.body.classList.remove("open");
    draw(true);
    history.replaceState(null, "", location.pathname + location.search);
    if (opener?.isConnected) opener.focus();
    else if (focus) find(focus.row, focus.column)?.focus();
  }
  document.addEventListener("click", (event) => {
    const target = event.target.closest("[data-row]");
    if (!target) return;
    event.preventDefault();
    const row = Number(target.dataset.row), column = Number(target.dataset.column);
    // A cell that is gone has its evidence in the run before.
    const there = stateAt(row, column) ? column : column - 1;
    if (body.contains(target)) focus = { row, column };
    show(row, there, body.contains(target) ? null : target);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !panel.hidden) hide();
  });

  // Arrow keys go from square to square; only one of them takes part in the tab order.
  const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  body.addEventListener("focusin", (event) => {
    const { row, column } = event.target.dataset;
    if (row === undefined) return;
    focus = { row: Number(row), column: Number(column) };
    for (const other of body.querySelectorAll('button[tabindex="0"]')) other.tabIndex = -1;
    event.target.tabIndex = 0;
  });
  body.addEventListener("keydown", (event) => {
    const move = MOVES[event.key];
    if (!move || !focus) return;
    event.preventDefault();
    let place = shown.indexOf(focus.row), column = focus.column;
    do {
      place += move[0];
      column += move[1];
      if (place < 0 || place >= shown.length || column < 0 || column >= WIDTH) return;
    } while (!stateAt(shown[place], column));
    focus = { row: shown[place], column };
    const above = place * HEIGHT, below = above + 3 * HEIGHT - scroll.clientHeight;
    if (above < scroll.scrollTop) scroll.scrollTop = above;
    else if (below > scroll.scrollTop) scroll.scrollTop = below;
    draw(true);
    find(focus.row, focus.column)?.focus({ preventScroll: true });
    if (!panel.hidden) show(focus.row, focus.column);
  });

  for (let column = 0; rows.length && !focus && column < WIDTH; column += 1)
    if (stateAt(0, column)) focus = { row: 0, column };
  filter();
  const hash = decodeURIComponent(location.hash.slice(1));
  const colon = hash.indexOf(":");
  if (colon > 0) {
    const column = columns.findIndex((entry) => entry.run === hash.slice(0, colon));
    const row = rows.findIndex((entry) => entry.cell === hash.slice(colon + 1));
    if (row >= 0 && column >= 0) {
      scroll.scrollTop = Math.max(0, (row - 4) * HEIGHT);
      show(row, column);
    }
  }
})();
