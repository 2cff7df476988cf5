// Who is kept out of the cluster.

import { send } from "../api.js";
import { choice, field, h, replace, values } from "../dom.js";
import { ago, visible } from "../format.js";
import { ask, button, listing, mark, name, say } from "../widgets.js";

export const title = "Bans";

const KINDS = [
  ["client", "client id"],
  ["user", "user name"],
  ["address", "address or network"],
  ["pair", "user and address"],
];
const LASTING = [
  ["3600", "an hour"],
  ["86400", "a day"],
  ["604800", "a week"],
  ["", "for ever"],
];

export function show(main, { signal, can, again }) {
  const form = h(
    "form",
    { class: "bar" },
    field("Kind", choice("kind", KINDS)),
    field("Who", h("input", { name: "value", required: true }), "wide"),
    field("Reason", h("input", { name: "reason" }), "wide"),
    field("For", choice("seconds", LASTING)),
    h("button", { class: "danger" }, "Ban"),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const { kind, value, reason, seconds } = values(form);
    try {
      await send("POST", "/bans", { kind, value, reason, seconds: seconds ? Number(seconds) : null });
      say(`Banned: ${visible(value)}`);
      again();
    } catch (error) {
      say(error.message);
    }
  });
  replace(
    main,
    h("h1", {}, "Bans"),
    can("operate") ? form : null,
    listing({
      path: "/bans",
      noun: "bans",
      cursor: "cursor",
      label: "Bans",
      empty: "Nobody is banned.",
      signal,
      columns: [
        { label: "Kind", show: (ban) => ban.kind },
        { label: "Who", show: (ban) => name(ban.value) },
        { label: "Reason", show: (ban) => name(ban.reason) },
        { label: "By", show: (ban) => (ban.automatic ? mark("warn", "automatic") : name(ban.by)) },
        { label: "Since", kind: "time", show: (ban) => ago(ban.since) },
        { label: "Until", kind: "time", show: (ban) => (ban.until ? ago(ban.until) : "for ever") },
        {
          label: "",
          kind: "actions",
          show: (ban) => (can("operate") ? button("Remove…", () => remove(ban, again)) : ""),
        },
      ],
    }),
  );
}

async function remove(ban, again) {
  const answer = await ask({
    title: "Remove this ban?",
    body: h("p", {}, `${ban.kind} `, name(ban.value)),
    action: "Remove",
  });
  if (!answer) return;
  await send("POST", "/bans/remove", { kind: ban.kind, value: ban.value });
  say("Removed.");
  again();
}
