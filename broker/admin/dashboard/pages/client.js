// One client: what holds it up, its session, its connection, its queue, what has happened to it.

import { get } from "../api.js";
import { h, redraw, replace } from "../dom.js";
import { moment, words } from "../format.js";
import { button, facts, hash, listing, name, notice, repeat, table, trouble } from "../widgets.js";
import { disconnect } from "./clients.js";
import { remove } from "./sessions.js";

export const title = "Client";

const PAUSE_MS = 4000;
const PARTS = ["connection", "session", "queue"];

export function show(main, { parts, signal, can, go }) {
  const [clientId] = parts;
  const explained = h("div");
  const actions = h(
    "div",
    { class: "bar" },
    button("Explain again", look),
    can("operate")
      ? button("Disconnect…", async () => {
          if (await disconnect(clientId)) await look();
        })
      : null,
    can("operate") ? button("Trace", () => go("trace", { client_id: clientId })) : null,
    can("admin")
      ? button(
          "Delete session…",
          async () => {
            if (await remove(clientId)) await look();
          },
          { class: "danger" },
        )
      : null,
  );
  replace(
    main,
    h("h1", {}, "Client ", name(clientId, 2000)),
    actions,
    explained,
    h("h2", {}, "Subscriptions"),
    subscriptions(clientId, signal),
    h("h2", {}, "Queue"),
    queue(clientId, signal),
  );

  async function look() {
    try {
      redraw(explained, explanation(await get("/explain", { client_id: clientId }, signal)));
    } catch (error) {
      if (!signal.aborted) redraw(explained, trouble(error));
    }
  }

  repeat(look, PAUSE_MS, signal);
}

function explanation(told) {
  const isBlocked = Boolean(told.blocked_by?.length);
  return [
    notice(isBlocked ? "bad" : "good", "", told.verdict ?? []),
    h(
      "div",
      { class: "charts" },
      PARTS.filter((part) => told[part]).map((part) =>
        h("section", { class: "card" }, h("h2", {}, words(part)), facts(told[part])),
      ),
    ),
    told.drops?.length ? [h("h2", {}, "Dropped"), records("Dropped", told.drops)] : null,
    told.events?.length ? [h("h2", {}, "Events"), records("Events", told.events)] : null,
  ];
}

/** Records with the same few fields, and the rest of each behind them. */
export function records(label, rows) {
  return table(
    label,
    [
      { label: "At", kind: "time", show: (row) => moment(row.at) },
      { label: "What", show: (row) => row.event ?? row.kind ?? row.reason },
      { label: "Node", show: (row) => row.node },
      { label: "More", show: (row) => name(rest(row), 1000) },
    ],
    rows,
  );
}

function rest(row) {
  const shown = new Set(["at", "event", "kind", "node", "client_id"]);
  return Object.entries(row)
    .filter(([key, value]) => !shown.has(key) && value !== null && value !== "")
    .map(([key, value]) => `${words(key)}: ${typeof value === "object" ? JSON.stringify(value) : value}`)
    .join(", ");
}

function subscriptions(clientId, signal) {
  return listing({
    path: "/subscriptions",
    noun: "subscriptions",
    label: "Subscriptions",
    empty: "None.",
    signal,
    parameters: { client_id: clientId },
    columns: [
      { label: "Topic Filter", show: (row) => name(row.filter) },
      { label: "QoS", kind: "number", show: (row) => row.qos },
      { label: "Options", show: (row) => options(row) },
    ],
  });
}

export function options(row) {
  const shown = [
    "no_local",
    "retain_as_published",
    "retain_handling",
    "subscription_identifier",
    "identifier",
  ]
    .filter((key) => row[key])
    .map((key) => (row[key] === true ? words(key) : `${words(key)} ${row[key]}`));
  return shown.join(", ") || null;
}

function queue(clientId, signal) {
  return listing({
    path: "/queue",
    noun: "queue",
    label: "Queue",
    empty: "Nothing waits in Redis.",
    signal,
    parameters: { client_id: clientId, from: "head" },
    columns: [
      { label: "n", kind: "number", show: (row) => String(row.n) },
      { label: "Topic", show: (row) => h("a", { href: hash("topics", row.topic) }, name(row.topic)) },
      { label: "QoS", kind: "number", show: (row) => row.qos },
      { label: "Bytes", kind: "number", show: (row) => String(row.bytes) },
      { label: "Expires", kind: "time", show: (row) => (row.expires_at ? moment(row.expires_at) : null) },
    ],
  });
}
