// Who has subscribed to what: by filter, by a topic that it would match, or by client.

import { choice, field, h, replace, values } from "../dom.js";
import { link, listing, name } from "../widgets.js";
import { options } from "./client.js";

export const title = "Subscriptions";

export function show(main, { query, signal, go }) {
  const by = query.by ?? "topic";
  const form = h(
    "form",
    { class: "bar", role: "search" },
    field(
      "Look up",
      choice(
        "by",
        [
          ["topic", "who gets this topic"],
          ["filter", "filters that begin so"],
          ["client_id", "client"],
        ],
        by,
      ),
    ),
    field(
      "Text",
      h("input", { name: "text", type: "search", value: query.text ?? "", required: true }),
      "wide",
    ),
    h("button", { class: "main" }, "Look up"),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    go("subscriptions", values(form));
  });
  replace(main, h("h1", {}, "Subscriptions"), form);
  if (!query.text) {
    main.append(
      h("p", { class: "faint" }, "By the topic of a message: every subscription that it would go to."),
    );
    return;
  }
  main.append(
    listing({
      path: "/subscriptions",
      noun: "subscriptions",
      label: "Subscriptions",
      empty: "There is none.",
      signal,
      parameters: { [by]: query.text },
      columns: [
        { label: "Client", show: (row) => link(name(row.client_id), "client", row.client_id) },
        { label: "Topic Filter", show: (row) => name(row.filter) },
        { label: "QoS", kind: "number", show: (row) => row.qos },
        { label: "Node", show: (row) => row.node },
        { label: "Options", show: options },
      ],
    }),
  );
}
