// Shared subscriptions: what waits for each group, and what its members have and have not acknowledged.

import { h, replace } from "../dom.js";
import { count } from "../format.js";
import { listing, name } from "../widgets.js";

export const title = "Shared groups";

export function show(main, { signal, again }) {
  replace(
    main,
    h("h1", {}, "Shared groups"),
    h("div", { class: "bar" }, h("button", { type: "button", click: again }, "Look again")),
    listing({
      path: "/shared",
      noun: "shared",
      label: "Shared groups",
      empty: "There is no shared subscription.",
      signal,
      columns: [
        { label: "Group", show: (group) => name(group.group) },
        { label: "Topic Filter", show: (group) => name(group.filter) },
        { label: "Waiting", kind: "number", show: (group) => count(group.waiting) },
        { label: "Given", kind: "number", show: (group) => count(group.given) },
        {
          label: "Members",
          kind: "number",
          show: (group) => count(Array.isArray(group.members) ? group.members.length : group.members),
        },
      ],
    }),
  );
}
