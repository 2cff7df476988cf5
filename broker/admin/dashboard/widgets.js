// What pages are made of: notices, tables, lists with filters, questions, and work that goes on by itself.

import { ApiError, get } from "./api.js";
import { h, replace, values } from "./dom.js";
import { count, moment, visible, words } from "./format.js";

const SAID_MS = 6000;
const ROWS_MAXIMUM = 2000;
const EXACT = /(^|_)(port|epoch|n|id)$/;
const MOMENTS = /(^|_)(at|since|until|started|expires|due|first|last)$/;

/** A sentence in which `code` stands between backticks. */
export function prose(text) {
  return String(text)
    .split("`")
    .map((part, place) => (place % 2 ? h("code", {}, visible(part, 2000)) : visible(part, 2000)));
}

/** A line that says how something is; `kind`: good, warn, bad. */
export function notice(kind, text, items = []) {
  const list = items.length
    ? h(
        "ul",
        {},
        items.map((item) => h("li", {}, item)),
      )
    : null;
  return h("div", { class: `notice ${kind}`, role: kind === "bad" ? "alert" : "status" }, text, list);
}

/** Why something could not be shown. */
export function trouble(error) {
  if (!(error instanceof ApiError)) throw error;
  if (error.status === 404 && error.message === "Not Found") {
    return notice("warn", "This node's release does not answer this question.");
  }
  if (error.status === 404) return notice("warn", error.message);
  if (error.status === 403) return notice("warn", `Not allowed: ${error.message}`);
  return notice("bad", error.message);
}

/** A word in a frame. */
export function mark(kind, text) {
  return h("span", { class: `mark ${kind}` }, text);
}

/** A client id, a topic, anything that others have chosen. */
export function name(text, most) {
  return h("span", { class: "name" }, visible(text, most));
}

/** Sentences in a table, which may name what others have chosen. */
export function text(value) {
  return value === null || value === undefined ? null : h("span", { class: "text" }, visible(value, 1000));
}

/** A link within the dashboard; `parts` are encoded. */
export function link(content, page, ...parts) {
  return h("a", { href: hash(page, ...parts) }, content);
}

export function hash(page, ...parts) {
  return `#/${[page, ...parts.map(encodeURIComponent)].join("/")}`;
}

/** A table. `columns`: {label, show(row), kind}; `kind`: number, time, actions. It scrolls by itself. */
export function table(label, columns, rows, empty = "None.") {
  if (!rows.length) return h("p", { class: "faint" }, empty);
  const body = h(
    "tbody",
    {},
    rows.map((row) => tableRow(columns, row)),
  );
  return frame(label, columns, body);
}

function frame(label, columns, body) {
  const head = h(
    "tr",
    {},
    columns.map((each) => h("th", { scope: "col", class: each.kind || null }, each.label)),
  );
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": label },
    h("table", {}, h("thead", {}, head), body),
  );
}

function tableRow(columns, row) {
  return h(
    "tr",
    {},
    columns.map((each) => h("td", { class: each.kind || null }, each.show(row) ?? "–")),
  );
}

/** Names and values, one below the other; lists and records within are shown likewise. */
export function facts(record) {
  const rows = Object.entries(record).filter(([, value]) => value !== null && value !== undefined);
  return h(
    "dl",
    { class: "facts" },
    rows.map(([key, value]) => [h("dt", {}, words(key)), h("dd", {}, shown(key, value))]),
  );
}

function shown(key, value) {
  if (value === null || value === undefined || value === "") return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return EXACT.test(key) ? String(value) : count(value);
  if (typeof value === "string") return MOMENTS.test(key) ? moment(value) : name(value, 2000);
  if (isRecord(value)) return Object.keys(value).length ? facts(value) : "none";
  if (!value.length) return "none";
  if (value.every(isRecord)) return records(words(key), value);
  return h(
    "ul",
    {},
    value.map((each) => h("li", {}, shown("", each))),
  );
}

function isRecord(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

/** Records that have the same fields. */
function records(label, rows) {
  const keys = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const columns = keys.map((key) => ({ label: words(key), show: (row) => shown(key, row[key]) }));
  return table(label, columns, rows);
}

/** A list of the API, page by page: `path` gives {[noun]: rows, next}. The element fills itself. */
export function listing({
  path,
  noun,
  parameters = {},
  columns,
  label,
  empty,
  signal,
  found,
  cursor = "after",
}) {
  const body = h("tbody");
  const more = h("button", { type: "button", hidden: true, click: () => load() }, "More");
  const tally = h("p", { class: "faint", role: "status" }, "Loading…");
  const element = h("div", {}, frame(label, columns, body), h("div", { class: "bar" }, more, tally));
  let after = null;

  async function load() {
    more.disabled = true;
    try {
      const page = await get(
        path,
        { ...parameters, limit: cursor === "after" ? 100 : null, [cursor]: after },
        signal,
      );
      body.append(...page[noun].map((row) => tableRow(columns, row)));
      after = page.next ?? null;
      const rows = body.childElementCount;
      const isFull = rows >= ROWS_MAXIMUM;
      more.hidden = after === null || isFull;
      replace(
        tally,
        rows
          ? `${count(rows)} shown${after === null ? "" : isFull ? "; look for less" : ", there are more"}`
          : empty,
      );
      if (found) found(page);
    } catch (error) {
      if (signal.aborted) return;
      replace(tally, trouble(error));
    }
    more.disabled = false;
  }

  load();
  return element;
}

/** Asks in a dialog; resolves to the values of its form, null if it was left. `body`: nodes with fields. */
export function ask({ title, text, body = [], action, danger = false }) {
  return new Promise((resolve) => {
    const form = h(
      "form",
      { method: "dialog" },
      h("h2", { id: "asked" }, title),
      text ? h("p", {}, text) : null,
      body,
      h(
        "div",
        { class: "bar" },
        h("button", { type: "button", click: () => dialog.close() }, "Cancel"),
        h("button", { class: danger ? "danger main" : "main", value: "yes" }, action),
      ),
    );
    const dialog = h("dialog", { "aria-labelledby": "asked" }, form);
    dialog.addEventListener("close", () => {
      const found = values(form);
      dialog.remove();
      resolve(dialog.returnValue === "yes" ? found : null);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Tells what has been done, for a moment. */
export function say(text) {
  const line = h("p", {}, text);
  document.getElementById("said").append(line);
  setTimeout(() => line.remove(), SAID_MS);
}

/** A button that does something; it can't be pressed again meanwhile, and what goes wrong is told. */
export function button(text, task, attributes = {}) {
  const made = h("button", { type: "button", ...attributes }, text);
  made.addEventListener("click", async () => {
    made.disabled = true;
    try {
      await task();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      say(error.message);
    } finally {
      made.disabled = false;
    }
  });
  return made;
}

/** Calls `task` again and again, that long after its end, until `signal`; not while nobody looks. */
export function repeat(task, pauseMs, signal) {
  let timer = 0;
  let isUnderWay = false;
  async function round() {
    isUnderWay = true;
    await task();
    isUnderWay = false;
    plan(pauseMs);
  }
  function plan(ms) {
    clearTimeout(timer);
    if (!isUnderWay && !document.hidden && !signal.aborted) timer = setTimeout(round, ms);
  }
  document.addEventListener("visibilitychange", () => plan(0), { signal });
  signal.addEventListener("abort", () => clearTimeout(timer));
  round();
}
