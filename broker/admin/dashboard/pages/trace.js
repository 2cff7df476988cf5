// A live trace: the packets of a client, a topic or an address, for a while.

import { send, stream } from "../api.js";
import { choice, field, h, replace, values } from "../dom.js";
import { moment } from "../format.js";
import { follow } from "../live.js";
import { button, link, name, notice, say, trouble } from "../widgets.js";
import { more } from "./events.js";

export const title = "Trace";

const OF = [
  ["client_id", "client id (* at its end: all that begin so)"],
  ["topic", "Topic Filter"],
  ["address", "address or network"],
];
const SHOWN = new Set(["at", "node", "direction", "packet", "client_id"]);

export function show(main, { query, signal, can }) {
  const of = OF.map(([key]) => key).find((key) => query[key]) ?? "client_id";
  const form = h(
    "form",
    { class: "bar" },
    field("Trace", choice("of", OF, of)),
    field("Text", h("input", { name: "text", value: query[of] ?? "", required: true }), "wide"),
    field(
      "For",
      choice(
        "seconds",
        [
          ["30", "30 s"],
          ["60", "a minute"],
          ["300", "5 minutes"],
          ["600", "10 minutes"],
        ],
        "60",
      ),
    ),
    can("admin") ? field("payloads", h("input", { name: "payloads", type: "checkbox" }), "beside") : null,
    h("button", { class: "main" }, "Start"),
  );
  const place = h("div");
  let running = null;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const { of: kind, text, seconds, payloads } = values(form);
    try {
      await stop();
      const trace = await send("POST", "/traces", {
        [kind]: text,
        seconds: Number(seconds),
        payloads: payloads ?? false,
      });
      begin(trace);
    } catch (error) {
      replace(place, trouble(error));
    }
  });
  replace(
    main,
    h("h1", {}, "Trace"),
    can("operate") ? form : notice("warn", "To trace takes the role operate."),
    place,
  );
  signal.addEventListener("abort", () => stop());

  function begin(trace) {
    const end = new AbortController();
    running = { id: trace.id, end };
    const log = follow("Packets", (until) => stream(`/traces/${trace.id}`, {}, until), line, end.signal, {
      goesOn: false,
    });
    replace(
      place,
      h(
        "div",
        { class: "bar" },
        button("Stop", async () => {
          await stop();
          say("Stopped.");
        }),
      ),
      log,
    );
  }

  async function stop() {
    const last = running;
    running = null;
    if (last === null) return;
    last.end.abort();
    await send("DELETE", `/traces/${last.id}`).catch(() => null); // it has ended by itself
  }
}

function line({ event, data }) {
  if (event === "end") return h("b", {}, "The trace has ended.");
  if (event === "silent") return `node ${data.node} does not tell: ${data.reason}`;
  if (event === "left_out") return `node ${data.node} has left out ${data.records} packets`;
  return [
    `${moment(data.at)} ${data.node ?? ""} `,
    data.client_id === undefined ? null : link(name(data.client_id), "client", data.client_id),
    " ",
    data.direction === "out" ? "← " : "→ ",
    h("b", {}, String(data.packet ?? event)),
    " ",
    name(more(data, SHOWN), 2000),
  ];
}
