// One client: what holds it up, its session, its connection, its queue, what has happened to it.

import { get } from "../api.js";
import { h, redraw, replace } from "../dom.js";
import { count, heading, moment, words } from "../format.js";
import {
  button,
  facts,
  link,
  listing,
  name,
  notice,
  prose,
  repeat,
  table,
  text,
  trouble,
} from "../widgets.js";
import { disconnect } from "./clients.js";
import { more } from "./events.js";
import { remove } from "./sessions.js";

export const title = "Client";

const PAUSE_MS = 4000;
const OPTIONS = [
  "no_local",
  "retain_as_published",
  "retain_handling",
  "subscription_identifier",
  "replaying",
];

export function show(main, { parts, signal, can, go }) {
  const [clientId] = parts;
  const explained = h("div");
  const changes = (task) => async () => {
    if (await task(clientId)) await look();
  };
  const actions = h(
    "div",
    { class: "bar" },
    button("Explain again", look),
    can("operate") ? button("Disconnect…", changes(disconnect)) : null,
    can("operate") ? button("Trace", () => go("trace", { client_id: clientId })) : null,
    can("admin") ? button("Delete session…", changes(remove), { class: "danger" }) : null,
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

/** What the API says, sentences first. */
function explanation(told) {
  const isBlocked = Boolean(told.blocked_by?.length);
  // What has a table of its own below is not said twice.
  const { subscriptions: _, receiving, ...session } = told.session ?? {};
  const { head, tail, ...waiting } = told.queue ?? {};
  const cards = {
    connection: told.connection,
    session: told.session && session,
    queue: told.queue && waiting,
  };
  return [
    notice(isBlocked ? "bad" : "good", "", (told.verdict ?? []).map(prose)),
    h(
      "div",
      { class: "charts" },
      Object.entries(cards)
        .filter(([, record]) => record)
        .map(([part, record]) => h("section", { class: "card" }, h("h2", {}, heading(part)), facts(record))),
    ),
    receiving?.length
      ? [h("h2", {}, "QoS 2 under way"), table("QoS 2 under way", RECEIVING, receiving)]
      : null,
    told.drops?.length ? [h("h2", {}, "Dropped"), table("Dropped", DROPS, told.drops)] : null,
    told.events?.length ? [h("h2", {}, "Events"), table("Events", EVENTS, told.events)] : null,
  ];
}

const RECEIVING = [
  { label: "Packet Identifier", kind: "number", show: (row) => String(row.packet_id) },
  { label: "Phase", show: (row) => row.phase },
  { label: "Since", kind: "time", show: (row) => moment(row.since) },
  { label: "Token", show: (row) => link(name(row.token), "explain", "token", row.token) },
];

const DROPS = [
  { label: "Reason", show: (row) => words(row.reason) },
  { label: "Messages", kind: "number", show: (row) => count(row.count) },
  { label: "First", kind: "time", show: (row) => moment(row.first) },
  { label: "Last", kind: "time", show: (row) => moment(row.last) },
  { label: "What it means", show: (row) => text(row.means) },
  { label: "Topics", show: (row) => name((row.topics ?? []).join(", ")) },
];

const EVENTS = [
  { label: "At", kind: "time", show: (row) => moment(row.at) },
  { label: "What", show: (row) => words(row.kind) },
  { label: "Node", show: (row) => row.node },
  { label: "More", show: (row) => name(more(row), 1000) },
];

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
      { label: "Options", show: options },
    ],
  });
}

/** Those of a subscription that are not the default. */
export function options(row) {
  const shown = OPTIONS.filter((key) => row[key]).map((key) =>
    row[key] === true ? words(key) : `${words(key)} ${row[key]}`,
  );
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
      { label: "Topic", show: (row) => link(name(row.topic), "explain", "topic", row.topic) },
      { label: "QoS", kind: "number", show: (row) => row.qos },
      { label: "Bytes", kind: "number", show: (row) => count(row.bytes) },
      { label: "Expires", kind: "time", show: (row) => (row.expires_at ? moment(row.expires_at) : null) },
    ],
  });
}
