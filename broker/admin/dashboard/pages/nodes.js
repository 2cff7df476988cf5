// The nodes of the cluster; who may, drains one or evens them out.

import { get, send } from "../api.js";
import { field, h, redraw, replace } from "../dom.js";
import { ago, count } from "../format.js";
import { ask, button, mark, repeat, say, table, text, trouble } from "../widgets.js";

export const title = "Nodes";

const PAUSE_MS = 2000;

export function show(main, { signal, can }) {
  const list = h("div");
  replace(
    main,
    h("h1", {}, "Nodes"),
    can("operate") ? h("div", { class: "bar" }, button("Rebalance…", rebalance)) : null,
    list,
  );

  async function look() {
    try {
      const { nodes } = await get("/nodes", {}, signal);
      redraw(list, table("Nodes", columns(can("operate")), nodes));
    } catch (error) {
      if (!signal.aborted) replace(list, trouble(error));
    }
  }

  repeat(look, PAUSE_MS, signal);
}

function columns(mayDrain) {
  const shown = [
    { label: "Node", show: (node) => h("span", { title: node.incarnation }, node.name) },
    {
      label: "State",
      show: (node) =>
        !node.alive ? mark("bad", "dead") : node.draining ? mark("warn", "draining") : mark("good", "alive"),
    },
    { label: "Clients", kind: "number", show: (node) => count(node.sessions) },
    { label: "Connections", kind: "number", show: (node) => count(node.connections) },
    { label: "Listeners", show: (node) => text((node.listen ?? []).join(", ")) },
    { label: "Admin", show: (node) => node.admin },
    { label: "Version", show: (node) => node.version },
    { label: "Started", kind: "time", show: (node) => ago(node.started) },
    { label: "Zone", show: (node) => [node.zone, node.kubernetes_node].filter(Boolean).join(", ") || null },
  ];
  if (mayDrain) shown.push({ label: "", kind: "actions", show: drainButton });
  return shown;
}

function drainButton(node) {
  if (!node.alive || node.draining) return "";
  return button("Drain…", () => drain(node), { class: "danger", "aria-label": `Drain node ${node.name}` });
}

async function drain(node) {
  const answer = await ask({
    title: `Drain node ${node.name}?`,
    text: `It sends its ${count(node.sessions)} clients away, stores what it owes, and ends. The others take them.`,
    body: field(
      "Tell them not to come back here (0x9D, Server moved)",
      h("input", { type: "checkbox", name: "moved" }),
      "beside",
    ),
    action: "Drain",
    danger: true,
  });
  if (!answer) return;
  await send("POST", `/nodes/${encodeURIComponent(node.incarnation)}/drain`, { moved: answer.moved });
  say(`Node ${node.name} drains.`);
}

async function rebalance() {
  const plan = await send("POST", "/rebalance", { dry_run: true });
  const shares = table(
    "Plan",
    [
      { label: "Node", show: (each) => each.name },
      { label: "Clients", kind: "number", show: (each) => count(each.sessions) },
      { label: "Would shed", kind: "number", show: (each) => count(each.shed) },
    ],
    plan.nodes,
  );
  const shed = plan.nodes.reduce((total, each) => total + each.shed, 0);
  const answer = await ask({
    title: "Rebalance clients?",
    text: shed
      ? `${count(shed)} clients are sent away, and come back to other nodes. The mean is ${count(plan.mean)}.`
      : `No node has more than a tenth above the mean, ${count(plan.mean)}: nothing would be done.`,
    body: shares,
    action: "Rebalance",
  });
  if (!answer) return;
  const done = await send("POST", "/rebalance", {});
  const problems = done.nodes.filter((each) => each.problem).map((each) => `${each.name}: ${each.problem}`);
  say(problems.length ? problems.join("; ") : "Rebalancing.");
}
