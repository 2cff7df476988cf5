// A client of MQTT by WebSocket, in this very page, to try things.

import { get } from "../api.js";
import { choice, field, h, replace, values } from "../dom.js";
import { visible } from "../format.js";
import { log } from "../live.js";
import { mark, name, notice } from "../widgets.js";

export const title = "Try it";

const QOS = [
  ["0", "QoS 0"],
  ["1", "QoS 1"],
  ["2", "QoS 2"],
];
const PAYLOAD_SHOWN = 4000;

export async function show(main, { signal }) {
  const urls = h("datalist", { id: "urls" });
  const url = h("input", { name: "url", required: true, list: "urls", placeholder: "ws://HOST:PORT/mqtt" });
  const known = h("div");
  const state = h("span", { role: "status" }, mark("warn", "not connected"));
  const lines = log("Messages");
  const connecting = h(
    "form",
    { class: "bar card" },
    field("Listener", url, "wide"),
    urls,
    field(
      "Client id",
      h("input", { name: "clientId", value: `dashboard-${Math.random().toString(16).slice(2, 8)}` }),
    ),
    field("User name", h("input", { name: "username", autocomplete: "off" })),
    field("Password", h("input", { name: "password", type: "password", autocomplete: "off" })),
    field(
      "MQTT",
      choice("version", [
        ["5", "5.0"],
        ["4", "3.1.1"],
      ]),
    ),
    h("button", { class: "main" }, "Connect"),
    h("button", { type: "button", click: () => leave() }, "Disconnect"),
    state,
  );
  const subscribing = h(
    "form",
    { class: "bar card" },
    field("Topic Filter", h("input", { name: "filter", required: true, value: "#" }), "wide"),
    choice("qos", QOS, "1", { "aria-label": "QoS of the subscription" }),
    h("button", {}, "Subscribe"),
  );
  const publishing = h(
    "form",
    { class: "card" },
    h(
      "div",
      { class: "bar" },
      field("Topic", h("input", { name: "topic", required: true }), "wide"),
      choice("qos", QOS, "1", { "aria-label": "QoS of the message" }),
      field("retain", h("input", { name: "retain", type: "checkbox" }), "beside"),
      h("button", {}, "Publish"),
    ),
    field("Payload", h("textarea", { name: "payload" }), "whole"),
  );
  let client = null;

  on(connecting, async ({ url: target, clientId, username, password, version }) => {
    leave();
    replace(state, mark("warn", "connecting"));
    const { default: mqtt } = await import("../vendor/mqtt.esm.js");
    const options = {
      clientId,
      protocolVersion: Number(version),
      clean: true,
      reconnectPeriod: 0,
      connectTimeout: 8000,
      timerVariant: "native",
    };
    if (username) Object.assign(options, { username, password });
    client = mqtt.connect(target, options);
    follow(client, state, lines);
  });
  on(subscribing, ({ filter, qos }) =>
    withClient((mine) =>
      mine.subscribe(filter, { qos: Number(qos) }, (error, granted) => {
        lines.write(() =>
          error
            ? `not subscribed: ${error.message}`
            : ["subscribed to ", name(filter), ` with QoS ${granted?.[0]?.qos ?? qos}`],
        );
      }),
    ),
  );
  on(publishing, ({ topic, payload, qos, retain }) =>
    withClient((mine) =>
      mine.publish(topic, payload, { qos: Number(qos), retain }, (error) => {
        lines.write(() => (error ? `not published: ${error.message}` : ["published to ", name(topic)]));
      }),
    ),
  );
  replace(main, h("h1", {}, "Try it"), known, connecting, subscribing, publishing, lines.element);
  signal.addEventListener("abort", () => leave());
  await suggest(url, urls, known, signal);

  function leave() {
    client?.end(true);
    client = null;
  }

  function withClient(task) {
    if (client?.connected) task(client);
    else lines.write(() => "not connected");
  }
}

function on(form, task) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    task(values(form));
  });
}

function follow(client, state, lines) {
  client.on("connect", () => replace(state, mark("good", "connected")));
  client.on("close", () => replace(state, mark("warn", "not connected")));
  client.on("error", (error) => lines.write(() => `error: ${visible(error.message)}`));
  client.on("disconnect", (packet) =>
    lines.write(() => `disconnected by the broker, reason ${packet.reasonCode}`),
  );
  client.on("message", (topic, payload, packet) => {
    const time = new Date().toLocaleTimeString("en-GB");
    lines.write(() => [
      `${time} QoS ${packet.qos}${packet.retain ? " retained" : ""} `,
      h("b", {}, name(topic)),
      " ",
      name(payload.toString(), PAYLOAD_SHOWN),
    ]);
  });
}

/** Listeners of all nodes that speak WebSocket. One that is everywhere is where this page is, too. */
async function suggest(url, list, known, signal) {
  let found = [];
  try {
    const { nodes } = await get("/nodes", {}, signal);
    found = [
      ...new Set(
        nodes
          .flatMap((node) => node.listen ?? [])
          .filter((each) => /^wss?:/.test(each))
          .map(reachable),
      ),
    ];
  } catch {
    if (signal.aborted) return;
  }
  replace(
    list,
    found.map((each) => h("option", { value: each })),
  );
  if (found.length)
    url.value =
      found.find((each) => each.startsWith("wss:") === (location.protocol === "https:")) ?? found[0];
  else
    replace(
      known,
      notice(
        "warn",
        "No node says that it has a WebSocket listener. There may be one behind a load balancer.",
      ),
    );
}

function reachable(address) {
  const host = location.hostname;
  return address.replace("://0.0.0.0", `://${host}`).replace("://[::]", `://${host}`);
}
