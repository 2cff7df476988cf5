// What is wrong now; each alarm ends by itself once its cause has.

import { get } from "../api.js";
import { h, redraw, replace } from "../dom.js";
import { ago } from "../format.js";
import { mark, name, notice, repeat, table, text, trouble } from "../widgets.js";

export const title = "Alarms";

const PAUSE_MS = 3000;

export function show(main, { signal }) {
  const list = h("div");
  replace(main, h("h1", {}, "Alarms"), list);

  async function look() {
    try {
      const { alarms } = await get("/alarms", {}, signal);
      redraw(list, alarms.length ? table("Alarms", COLUMNS, alarms) : notice("good", "No alarm."));
    } catch (error) {
      if (!signal.aborted) redraw(list, trouble(error));
    }
  }

  repeat(look, PAUSE_MS, signal);
}

const COLUMNS = [
  {
    label: "Severity",
    show: (alarm) => mark(alarm.severity === "critical" ? "bad" : "warn", alarm.severity),
  },
  { label: "Alarm", show: (alarm) => alarm.name },
  { label: "Node", show: (alarm) => alarm.node },
  { label: "Since", kind: "time", show: (alarm) => ago(alarm.since) },
  { label: "Value", kind: "number", show: (alarm) => String(alarm.value ?? "–") },
  { label: "Threshold", kind: "number", show: (alarm) => String(alarm.threshold ?? "–") },
  { label: "What it means", show: (alarm) => text(alarm.text) },
  { label: "Runbook", show: (alarm) => (alarm.runbook ? name(alarm.runbook) : null) },
];
