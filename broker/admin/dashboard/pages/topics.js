// Retained messages, as a tree of topic levels; each level is asked for when it is opened.

import { get, send } from "../api.js";
import { field, h, replace, values } from "../dom.js";
import { bytes, count, moment, visible } from "../format.js";
import { ask, button, facts, name, notice, say, trouble } from "../widgets.js";

export const title = "Retained topics";

const LEVELS_AT_A_TIME = 100;

export function show(main, { parts, query, signal, can, go }) {
  const [topic] = parts;
  const prefix = query.prefix ?? "";
  const form = h(
    "form",
    { class: "bar", role: "search" },
    field("Topics that begin with", h("input", { name: "prefix", type: "search", value: prefix }), "wide"),
    h("button", { class: "main" }, "Show"),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    go("topics", values(form));
  });
  const value = h("div", {}, topic === undefined ? h("p", { class: "faint" }, "Choose a topic.") : null);
  const pick = (each) => showMessage(value, each, signal, can("admin"));
  replace(
    main,
    h("h1", {}, "Retained topics"),
    form,
    h(
      "div",
      { class: "two" },
      h("nav", { class: "card", "aria-label": "Topics" }, levels(prefix, signal, pick, true)),
      value,
    ),
  );
  if (topic !== undefined) pick(topic);
}

/** The levels below a prefix. */
function levels(prefix, signal, pick, isTop = false) {
  const list = h("ul", { class: isTop ? "tree top" : "tree" });
  load(null);
  return list;

  async function load(after) {
    try {
      const page = await get("/retained", { prefix, levels: "true", limit: LEVELS_AT_A_TIME, after }, signal);
      list.append(...page.levels.map((level) => item(level, signal, pick)));
      if (page.next) {
        const more = h(
          "li",
          {},
          button("More…", async () => {
            more.remove();
            await load(page.next);
          }),
        );
        list.append(more);
      }
      if (!list.childElementCount) list.append(h("li", { class: "faint" }, "None."));
    } catch (error) {
      if (!signal.aborted) list.append(h("li", {}, trouble(error)));
    }
  }
}

function item(level, signal, pick) {
  const below = h("div", { hidden: true });
  const text = level.name === "" ? "(empty)" : visible(level.name);
  const opener = level.below
    ? h("button", { type: "button", "aria-expanded": "false", "aria-label": `Open ${text}` }, "▸")
    : null;
  opener?.addEventListener("click", () => {
    const isOpen = opener.getAttribute("aria-expanded") === "true";
    opener.setAttribute("aria-expanded", String(!isOpen));
    replace(opener, isOpen ? "▸" : "▾");
    below.hidden = isOpen;
    if (!below.childElementCount) below.append(levels(`${level.level}/`, signal, pick));
  });
  const label = level.retained
    ? h("button", { type: "button", click: () => pick(level.level) }, h("span", { class: "name" }, text))
    : h("span", { class: "name" }, text);
  return h(
    "li",
    {},
    opener,
    label,
    level.below ? h("span", { class: "faint" }, ` ${count(level.below)} below`) : null,
    below,
  );
}

async function showMessage(element, topic, signal, mayDelete) {
  const path = `/retained/${encodeURIComponent(topic)}`;
  let message;
  try {
    message = await get(path, {}, signal);
  } catch (error) {
    if (!signal.aborted) replace(element, trouble(error));
    return;
  }
  const { payload, payload_base64: encoded, topic: _, bytes: size, expires_at: expires, ...more } = message;
  const remove = button(
    "Delete…",
    async () => {
      const answer = await ask({
        title: "Delete this retained message?",
        text: "Clients that subscribe get an empty message, as if somebody had published one.",
        body: h("p", {}, name(topic)),
        action: "Delete",
        danger: true,
      });
      if (!answer) return;
      await send("DELETE", path);
      say("Deleted.");
      replace(element, notice("good", "Deleted."));
    },
    { class: "danger" },
  );
  replace(
    element,
    h(
      "section",
      { class: "card" },
      h("h2", {}, name(topic, 2000)),
      h("p", { class: "faint" }, `${bytes(size)}${expires ? `, until ${moment(expires)}` : ""}`),
      content(payload, encoded),
      h("h2", {}, "Properties"),
      facts(more),
      mayDelete && !topic.startsWith("$SYS/") ? h("div", { class: "bar" }, remove) : null,
    ),
  );
}

function content(text, encoded) {
  if (text !== null && text !== undefined)
    return h("pre", { tabindex: 0, "aria-label": "Payload" }, pretty(text));
  if (encoded)
    return [
      h("p", { class: "faint" }, "No text; in base64:"),
      h("pre", { tabindex: 0, "aria-label": "Payload" }, encoded),
    ];
  return notice("warn", "Too large to be shown.");
}

function pretty(text) {
  if (!/^\s*[[{]/.test(text)) return text;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
