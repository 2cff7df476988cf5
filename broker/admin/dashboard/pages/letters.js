// Dead letters: that a message did not reach somebody, and why. The newest first.

import { field, h, replace, values } from "../dom.js";
import { moment } from "../format.js";
import { link, listing, name } from "../widgets.js";

export const title = "Dead letters";

export function show(main, { query, signal, go }) {
  const form = h(
    "form",
    { class: "bar", role: "search" },
    field(
      "Client id",
      h("input", { name: "client_id", type: "search", value: query.client_id ?? "" }),
      "wide",
    ),
    h("button", { class: "main" }, "Search"),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    go("letters", values(form));
  });
  replace(
    main,
    h("h1", {}, "Dead letters"),
    form,
    listing({
      path: "/letters",
      noun: "letters",
      label: "Dead letters",
      empty: "There is none.",
      signal,
      parameters: { client_id: query.client_id },
      columns: [
        { label: "At", kind: "time", show: (letter) => moment(letter.at) },
        { label: "Client", show: (letter) => link(name(letter.client_id), "client", letter.client_id) },
        { label: "Topic", show: (letter) => name(letter.topic) },
        { label: "Reason", show: (letter) => letter.reason },
      ],
    }),
  );
}
