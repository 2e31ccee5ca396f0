// SPDX-License-Identifier: GPL-2.0-or-later
"use strict";
// The evidence of a cell: unpacked from the sheet that it is in (hil/report/pack.py), and shown.
const Evidence = (() => {
  const SHEET = 64;
  const KEPT = 8;
  const sheets = new Map();
  // The lines of a sheet, the last few sheets kept.
  async function sheet(number) {
    let lines = sheets.get(number);
    sheets.delete(number);
    if (!lines) {
      // Sheets come last in the page, which may be large.
      if (document.readyState === "loading")
        await new Promise((ready) => document.addEventListener("DOMContentLoaded", ready, { once: true }));
      const text = document.getElementById(`sheet-${number}`).textContent;
      const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
      lines = (await new Response(stream).text()).split("\n");
    }
    sheets.set(number, lines);
    if (sheets.size > KEPT) sheets.delete(sheets.keys().next().value);
    return lines;
  }
  // Record n of the page, as the journal has it.
  const record = async (n) => JSON.parse((await sheet(Math.floor(n / SHEET)))[n % SHEET]);

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


  // Everything that a record tells, beneath what stands in the panel already.
  function fill(panel, record) {
    const section = (title, ...parts) => {
      const shown = parts.filter(Boolean);
      if (shown.length) panel.append(make("h3", title), ...shown);
    };
    const evidence = { ...(record.evidence ?? {}) };
    const take = (name) => { const value = evidence[name]; delete evidence[name]; return value; };
    const expected = record.expected;
    section("Rule", rows([
      ["must be", expected ? (expected.accept ? "accepted" : `refused with ${words(expected.errnos)}`) : "no rule says"],
      ["whose", record.attribution ? `${record.attribution.to}: ${record.attribution.why}` : null],
      ["rule", record.rule], ...Object.entries(record.source ?? {}),
    ]));
    if (record.known) section(`Known: ${record.known.id ?? ""}`, make("p", record.known.because ?? ""), record.known.reference ? link(record.known.reference) : null);
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
    section("Cell", rows(["pinner", "driver", "memory", "direction", "condition", "kernel"].map((name) => [name, record[name]])));
  }
  // Panel n is filled when its record is there, unless another was asked for meanwhile.
  let asked = 0;
  async function show(panel, n, head) {
    const turn = ++asked;
    let found;
    try {
      found = await record(n);
    } catch (error) {
      found = null;
      head = [...head, make("p", `This browser cannot unpack the evidence (${error}). hil show RUN CELL prints it.`)];
    }
    if (turn !== asked) return;
    panel.replaceChildren(...head);
    if (found) fill(panel, found);
    panel.hidden = false;
    panel.scrollTop = 0;
    document.body.classList.add("open");
  }
  const forget = () => { asked += 1; };
  const closer = (hide) => {
    const close = make("button", "Close", "plain close");
    close.type = "button";
    close.addEventListener("click", hide);
    return close;
  };
  const outcome = (name) => name === "known" ? ", known" : name === "unexpected-pass" ? ", but known as bad" : "";
  const BAD = ["fail", "error", "unexpected-pass"];
  const terms = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);
  return { make, show, forget, closer, outcome, BAD, terms };
})();
document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
document.documentElement.classList.add("js");
