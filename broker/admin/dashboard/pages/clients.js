// Who is connected, on all nodes.

import { send } from "../api.js";
import { choice, field, h, replace, values } from "../dom.js";
import { ago, count } from "../format.js";
import { ask, button, link, listing, mark, name, notice, say } from "../widgets.js";

export const title = "Clients";

export function show(main, { query, signal, can, go }) {
  const form = h(
    "form",
    { class: "bar", role: "search" },
    field(
      "Search by",
      choice(
        "by",
        [
          ["prefix", "beginning of the id"],
          ["user", "user name"],
          ["address", "address"],
        ],
        query.by,
      ),
    ),
    field("Text", h("input", { name: "search", type: "search", value: query.search ?? "" }), "wide"),
    field("Node", h("input", { name: "node", value: query.node ?? "", size: 12 })),
    h("button", { class: "main" }, "Search"),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    go("clients", values(form));
  });
  const silent = h("div");
  replace(
    main,
    h("h1", {}, "Clients"),
    form,
    silent,
    listing({
      path: "/clients",
      noun: "clients",
      label: "Clients",
      empty: "Nobody is connected whom this fits.",
      signal,
      parameters: { by: query.search ? query.by : null, search: query.search, node: query.node },
      columns: columns(can("operate")),
      found(page) {
        const nodes = page.silent ?? [];
        replace(
          silent,
          nodes.length
            ? notice("warn", `These nodes did not answer, their clients are missing: ${nodes.join(", ")}`)
            : null,
        );
      },
    }),
  );
}

function columns(mayDisconnect) {
  const shown = [
    { label: "Client", show: (client) => link(name(client.client_id), "client", client.client_id) },
    { label: "State", show: (client) => mark(client.state === "ok" ? "good" : "warn", client.state) },
    { label: "User", show: (client) => (client.username ? name(client.username) : null) },
    { label: "Address", show: (client) => client.address },
    { label: "Node", show: (client) => client.node },
    { label: "MQTT", show: (client) => client.protocol },
    { label: "Connected", kind: "time", show: (client) => ago(client.connected_at) },
    { label: "Subscriptions", kind: "number", show: (client) => count(client.subscriptions) },
    { label: "In flight", kind: "number", show: (client) => count(client.in_flight) },
    { label: "Waiting", kind: "number", show: (client) => count(client.waiting) },
  ];
  if (mayDisconnect)
    shown.push({
      label: "",
      kind: "actions",
      show: (client) => button("Disconnect…", () => disconnect(client.client_id)),
    });
  return shown;
}

/** Asks, and closes the connection of a client; whether it was done. */
export async function disconnect(clientId) {
  const answer = await ask({
    title: "Disconnect this client?",
    text: "Its connection is closed (0x98). A persistent session stays, and most clients come back at once.",
    body: h("p", {}, name(clientId)),
    action: "Disconnect",
    danger: true,
  });
  if (!answer) return false;
  await send("DELETE", `/clients/${encodeURIComponent(clientId)}`);
  say("Disconnected.");
  return true;
}
