// What is kept of clients, whether they are there or not.

import { send } from "../api.js";
import { choice, field, h, replace, values } from "../dom.js";
import { ago, bytes, count } from "../format.js";
import { ask, button, link, listing, mark, name, say } from "../widgets.js";

export const title = "Sessions";

export function show(main, { query, signal, can, go }) {
  const form = h(
    "form",
    { class: "bar", role: "search" },
    field(
      "Beginning of the id",
      h("input", { name: "prefix", type: "search", value: query.prefix ?? "" }),
      "wide",
    ),
    field(
      "State",
      choice(
        "state",
        [
          ["", "all"],
          ["connected", "connected"],
          ["away", "away"],
        ],
        query.state,
      ),
    ),
    h("button", { class: "main" }, "Search"),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    go("sessions", values(form));
  });
  replace(
    main,
    h("h1", {}, "Sessions"),
    form,
    listing({
      path: "/sessions",
      noun: "sessions",
      label: "Persistent sessions",
      empty: "There is no session that this fits.",
      signal,
      parameters: { prefix: query.prefix, state: query.state },
      columns: columns(can("admin")),
    }),
  );
}

function columns(mayDelete) {
  const shown = [
    { label: "Client", show: (session) => link(name(session.client_id), "client", session.client_id) },
    {
      label: "State",
      show: (session) => mark(session.state === "connected" ? "good" : "warn", session.state),
    },
    { label: "Node", show: (session) => session.node },
    { label: "Queued", kind: "number", show: (session) => count(session.queued) },
    { label: "Bytes", kind: "number", show: (session) => bytes(session.queued_bytes) },
    { label: "Subscriptions", kind: "number", show: (session) => count(session.subscriptions) },
    { label: "Epoch", kind: "number", show: (session) => String(session.epoch) },
    { label: "Ends", kind: "time", show: (session) => (session.expires_at ? ago(session.expires_at) : null) },
    { label: "MQTT", show: (session) => session.protocol },
  ];
  if (mayDelete) {
    shown.push({
      label: "",
      kind: "actions",
      show: (session) => button("Delete…", () => remove(session.client_id), { class: "danger" }),
    });
  }
  return shown;
}

/** Asks, and deletes a session; whether it was done. */
export async function remove(clientId) {
  const answer = await ask({
    title: "Delete this session?",
    text: "Its subscriptions and all that waits for it are lost. A client that is connected is disconnected.",
    body: h("p", {}, name(clientId)),
    action: "Delete",
    danger: true,
  });
  if (!answer) return false;
  await send("DELETE", `/sessions/${encodeURIComponent(clientId)}`);
  say("Deleted.");
  return true;
}
