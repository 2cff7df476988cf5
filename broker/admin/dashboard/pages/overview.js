// What there is, what it does now, and what is wrong.

import { get } from "../api.js";
import { chart } from "../chart.js";
import { h, redraw, replace } from "../dom.js";
import { ago, bytes, count, duration, visible } from "../format.js";
import { link, mark, notice, repeat, table, trouble } from "../widgets.js";

export const title = "Overview";

const PAUSE_MS = 2000;
const KEPT = 180;
const GAP_MS = 15_000;
const COUNTERS = ["messages_received", "messages_sent", "bytes_received", "bytes_sent"];

// It goes on where it was when somebody comes back to this page.
const history = { points: [], before: new Map(), rates: new Map() };

export function show(main, { signal }) {
  const state = h("div");
  const figures = h("div", { class: "cards" });
  const messages = chart("Messages per second", ["from clients", "to clients"], count);
  const traffic = chart("Bytes per second", ["from clients", "to clients"], bytes);
  const clients = chart("Clients", ["connected"], count);
  const nodes = h("div");
  replace(
    main,
    h("h1", {}, "Overview"),
    state,
    figures,
    h("div", { class: "charts" }, messages.element, traffic.element, clients.element),
    h("h2", {}, "Nodes"),
    nodes,
  );

  async function look() {
    let now;
    try {
      now = await get("/overview", {}, signal);
    } catch (error) {
      if (!signal.aborted) replace(state, trouble(error));
      return;
    }
    const point = remember(now);
    redraw(state, problems(now));
    replace(figures, cards(now, point));
    const points = history.points;
    messages.draw(
      points.map(({ at, rates }) => ({ at, values: [rates.messages_received, rates.messages_sent] })),
    );
    traffic.draw(points.map(({ at, rates }) => ({ at, values: [rates.bytes_received, rates.bytes_sent] })));
    clients.draw(points.map(({ at, clients: number }) => ({ at, values: [number] })));
    redraw(nodes, now.nodes ? nodeTable(now.nodes) : notice("warn", "Not known while Redis is away."));
    replace(document.getElementById("where"), `${now.answers.name}, ${now.answers.version}`);
  }

  repeat(look, PAUSE_MS, signal);
}

/** Takes the counts of all nodes into the history. */
function remember(now) {
  const points = history.points;
  if (points.length && now.at_ms - points[points.length - 1].at > GAP_MS)
    points.push({ at: now.at_ms - 1, rates: {}, clients: null });
  const nodes = now.nodes ?? [];
  for (const node of nodes) followNode(node);
  const living = new Set(nodes.map((node) => node.incarnation));
  for (const each of history.before.keys()) {
    if (!living.has(each)) [history.before, history.rates].forEach((map) => map.delete(each));
  }
  const rates = {};
  for (const name of COUNTERS) {
    const known = [...history.rates.values()].map((each) => each[name]);
    rates[name] = known.length ? known.reduce((sum, each) => sum + each, 0) : null;
  }
  const point = { at: now.at_ms, rates, clients: now.nodes ? sum(nodes, "sessions") : null };
  points.push(point);
  if (points.length > KEPT) points.shift();
  return point;
}

/** Between two life signs of a node, by the times that it has said them at. */
function followNode(node) {
  if (typeof node.said_ms !== "number") return;
  const before = history.before.get(node.incarnation);
  if (before && before.said_ms === node.said_ms) return;
  history.before.set(node.incarnation, node);
  if (!before) return;
  const seconds = (node.said_ms - before.said_ms) / 1000;
  const rates = {};
  for (const name of COUNTERS) rates[name] = Math.max(0, (node[name] - before[name]) / seconds);
  history.rates.set(node.incarnation, rates);
}

function problems(now) {
  const found = now.answers.reasons.map((reason) => `this node is not ready: ${reason}`);
  if (now.redis.state !== "ok") found.push(`Redis is away: ${now.redis.reason}`);
  else {
    if (!now.redis.is_append_only)
      found.push("Redis keeps no append-only file: a restart of it loses messages");
    if (!now.redis.is_written) found.push("Redis can't write its append-only file");
    if (fullness(now.redis) > 0.8) found.push("Redis is more than 80 % full");
  }
  for (const node of now.nodes ?? [])
    if (!node.alive) found.push(`node ${node.name} is dead, its sessions are being given back`);
  const alarms = (now.alarms ?? []).map((alarm) =>
    h(
      "span",
      {},
      mark(alarm.severity === "critical" ? "bad" : "warn", alarm.name),
      ` ${alarm.node ?? ""} ${visible(alarm.text ?? "", 300)}`,
    ),
  );
  if (!found.length && !alarms.length) return notice("good", "All is well.");
  return [
    found.length ? notice("bad", "Something is not well:", found) : null,
    alarms.length ? notice("warn", link("Alarms", "alarms"), alarms) : null,
  ];
}

function cards(now, { rates, clients }) {
  const nodes = now.nodes ?? [];
  const redis = now.redis;
  const isThere = redis.state === "ok";
  return [
    card("Nodes", now.nodes ? count(nodes.filter((node) => node.alive).length) : "–", drains(nodes)),
    card("Clients", count(clients), `${count(now.nodes ? sum(nodes, "connections") : null)} connections`),
    card("Persistent sessions", count(now.persistent_sessions)),
    card("Queued messages", count(queued(nodes)), `${count(sum(nodes, "backlog"))} wait in nodes`),
    card("Retained messages", count(now.retained)),
    card("In", [count(rates.messages_received), h("small", {}, " /s")], `${bytes(rates.bytes_received)}/s`),
    card("Out", [count(rates.messages_sent), h("small", {}, " /s")], `${bytes(rates.bytes_sent)}/s`),
    card(
      "Redis",
      isThere ? [count(redis.round_trip_ms), h("small", {}, " ms")] : "away",
      isThere ? server(redis) : redis.reason,
    ),
    card("Redis memory", isThere ? bytes(redis.memory_used_bytes) : "–", isThere ? memory(redis) : null),
  ];
}

function server(redis) {
  return `${redis.server} ${redis.version} at ${redis.address}, up ${duration(redis.uptime_seconds)}`;
}

function card(label, figure, below = null) {
  return h(
    "div",
    { class: "card" },
    h("div", { class: "label" }, label),
    h("div", { class: "figure" }, figure),
    below ? h("div", { class: "faint" }, below) : null,
  );
}

function drains(nodes) {
  const draining = nodes.filter((node) => node.draining).length;
  const dead = nodes.filter((node) => !node.alive).length;
  return (
    [draining ? `${draining} draining` : null, dead ? `${dead} dead` : null].filter(Boolean).join(", ") ||
    "all take clients"
  );
}

function fullness(redis) {
  return redis.memory_maximum_bytes ? redis.memory_used_bytes / redis.memory_maximum_bytes : 0;
}

function memory(redis) {
  if (!redis.memory_maximum_bytes) return "no maximum is set";
  const part = fullness(redis);
  return [
    h("meter", {
      min: 0,
      max: 1,
      low: 0.8,
      high: 0.9,
      optimum: 0,
      value: part,
      "aria-label": "Redis memory in use",
    }),
    `${Math.round(100 * part)} % of ${bytes(redis.memory_maximum_bytes)}`,
  ];
}

function nodeTable(nodes) {
  return table(
    "Nodes",
    [
      { label: "Node", show: (node) => link(node.name, "nodes") },
      {
        label: "State",
        show: (node) =>
          !node.alive
            ? mark("bad", "dead")
            : node.draining
              ? mark("warn", "draining")
              : mark("good", "alive"),
      },
      { label: "Clients", kind: "number", show: (node) => count(node.sessions) },
      {
        label: "In /s",
        kind: "number",
        show: (node) => count(history.rates.get(node.incarnation)?.messages_received),
      },
      {
        label: "Out /s",
        kind: "number",
        show: (node) => count(history.rates.get(node.incarnation)?.messages_sent),
      },
      { label: "Version", show: (node) => node.version ?? "–" },
      { label: "Started", kind: "time", show: (node) => ago(node.started) },
    ],
    nodes,
  );
}

/** In all queues, once every node has counted its part of them. */
function queued(nodes) {
  const parts = nodes.filter((node) => node.alive).map((node) => node.queued);
  return parts.every((part) => typeof part === "number")
    ? parts.reduce((total, part) => total + part, 0)
    : null;
}

function sum(nodes, name) {
  return nodes.reduce((total, node) => total + (node[name] ?? 0), 0);
}
