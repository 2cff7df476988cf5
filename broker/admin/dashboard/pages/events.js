// What happens to clients, as it happens, on all nodes.

import { stream } from "../api.js";
import { choice, field, h, replace, values } from "../dom.js";
import { follow } from "../live.js";
import { moment } from "../format.js";
import { link, name } from "../widgets.js";

export const title = "Events";

const KINDS = ["connected", "disconnected", "refused", "taken_over", "subscribed", "unsubscribed"];
const SHOWN = new Set(["at", "node", "event", "kind", "client_id"]);

export function show(main, { query, signal, go }) {
  const form = h(
    "form",
    { class: "bar", role: "search" },
    field(
      "Kind",
      choice("kinds", [["", "all"], ...KINDS.map((kind) => [kind, kind.replaceAll("_", " ")])], query.kinds),
    ),
    field(
      "Client id (* at its end: all that begin so)",
      h("input", { name: "client_id", value: query.client_id ?? "" }),
      "wide",
    ),
    h("button", { class: "main" }, "Follow"),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    go("events", values(form));
  });
  const log = follow(
    "Events",
    (stop) => stream("/events", { kinds: query.kinds, client_id: query.client_id }, stop),
    line,
    signal,
  );
  replace(main, h("h1", {}, "Events"), form, log);
}

function line({ event, data }) {
  if (event === "silent") return `node ${data.node} does not tell: ${data.reason}`;
  if (event === "left_out") return `node ${data.node} has left out ${data.records} events`;
  return [
    `${moment(data.at)} ${data.node ?? ""} `,
    h("b", {}, String(data.event ?? data.kind ?? event).replaceAll("_", " ")),
    " ",
    data.client_id === undefined ? null : link(name(data.client_id), "client", data.client_id),
    " ",
    name(more(data), 1000),
  ];
}

/** The other fields, in one line. */
export function more(data, shown = SHOWN) {
  return Object.entries(data)
    .filter(([key, value]) => !shown.has(key) && value !== null && value !== "" && value !== false)
    .map(
      ([key, value]) =>
        `${key.replaceAll("_", " ")} ${typeof value === "object" ? JSON.stringify(value) : value}`,
    )
    .join(", ");
}
