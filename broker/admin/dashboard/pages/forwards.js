// Forwards: what goes on to web servers, Redis streams and other brokers, and what holds it up.

import { get } from "../api.js";
import { h, redraw, replace } from "../dom.js";
import { ago, count } from "../format.js";
import { mark, name, repeat, table, trouble } from "../widgets.js";

export const title = "Forwards";

const PAUSE_MS = 3000;

export function show(main, { signal }) {
  const list = h("div");
  replace(main, h("h1", {}, "Forwards"), list);

  async function look() {
    try {
      const { forwards } = await get("/forwards", {}, signal);
      redraw(list, table("Forwards", COLUMNS, forwards, "There are no forwards in the settings."));
    } catch (error) {
      if (!signal.aborted) redraw(list, trouble(error));
    }
  }

  repeat(look, PAUSE_MS, signal);
}

const COLUMNS = [
  { label: "Name", show: (each) => name(each.name) },
  { label: "Kind", show: (each) => each.kind },
  { label: "State", show: (each) => mark(each.state === "running" ? "good" : "warn", each.state) },
  { label: "Node", show: (each) => each.node },
  { label: "Waiting", kind: "number", show: (each) => count(each.waiting) },
  { label: "Sent", kind: "number", show: (each) => count(each.sent) },
  { label: "Failed", kind: "number", show: (each) => count(each.failed) },
  { label: "Last sent", kind: "time", show: (each) => (each.last_sent_at ? ago(each.last_sent_at) : null) },
  { label: "Last error", show: (each) => (each.last_error ? name(each.last_error, 500) : null) },
];
