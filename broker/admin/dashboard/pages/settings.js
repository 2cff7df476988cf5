// Settings as they are in force on the node that answers; secrets are not shown.

import { get, send } from "../api.js";
import { field, h, replace } from "../dom.js";
import { button, facts, mark, name, notice, say, table, trouble } from "../widgets.js";

export const title = "Settings";

export async function show(main, { signal, can }) {
  const list = h("div");
  const outcome = h("div");
  const only = h("input", { type: "checkbox", name: "changed" });
  const reload = button("Read settings again", async () => {
    const answer = await send("POST", "/settings/reload");
    replace(outcome, h("section", { class: "card" }, h("h2", {}, "What was read"), facts(answer)));
    say("Settings were read again.");
  });
  replace(
    main,
    h("h1", {}, "Settings"),
    h(
      "div",
      { class: "bar" },
      field("only those that are not the default", only, "beside"),
      can("operate") ? reload : null,
    ),
    outcome,
    list,
  );
  try {
    const told = await get("/settings", {}, signal);
    const draw = () => replace(list, tables(told.settings ?? told, only.checked));
    only.addEventListener("change", draw);
    draw();
  } catch (error) {
    if (!signal.aborted) replace(list, trouble(error));
  }
}

function tables(settings, onlyChanged) {
  const groups = Object.entries(settings).filter(([, group]) => group !== null && typeof group === "object");
  const shown = groups.map(([group, entries]) => {
    const rows = Object.entries(entries)
      .map(([key, entry]) => ({ key, ...asEntry(entry) }))
      .filter((row) => !onlyChanged || row.changed);
    return rows.length ? [h("h2", {}, group), table(group, COLUMNS, rows)] : null;
  });
  return shown.some((each) => each !== null) ? shown : notice("good", "All settings are the default.");
}

function asEntry(entry) {
  const isFull = entry !== null && typeof entry === "object" && "value" in entry;
  return isFull ? entry : { value: entry };
}

function text(value, unit = null) {
  if (value === null || value === undefined) return "–";
  return name(`${typeof value === "object" ? JSON.stringify(value) : value}${unit ? ` ${unit}` : ""}`, 1000);
}

const COLUMNS = [
  { label: "Setting", show: (row) => h("span", { class: "name" }, row.key) },
  {
    label: "Value",
    show: (row) => (row.hidden ? mark("warn", "hidden") : text(row.value, row.unit)),
  },
  { label: "Default", show: (row) => text(row.default, row.unit) },
  { label: "", show: (row) => (row.changed ? mark("good", "set") : "") },
];
