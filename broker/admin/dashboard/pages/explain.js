// What holds up a client, who gets a topic, where a message is: asked by name.

import { get } from "../api.js";
import { choice, field, h, replace, values } from "../dom.js";
import { facts, hash, notice, prose, trouble } from "../widgets.js";

export const title = "Explain";

const WAYS = [
  ["client_id", "a client, by its id"],
  ["topic", "who gets a topic"],
  ["token", "where a message is, by its token"],
];

export async function show(main, { parts, signal }) {
  const [way = "client_id", text = ""] = parts;
  const form = h(
    "form",
    { class: "bar", role: "search" },
    field("Explain", choice("way", WAYS, way)),
    field("Name", h("input", { name: "text", type: "search", value: text, required: true }), "wide"),
    h("button", { class: "main" }, "Explain"),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const asked = values(form);
    location.hash =
      asked.way === "client_id" ? hash("client", asked.text) : hash("explain", asked.way, asked.text);
  });
  const told = h("div");
  replace(main, h("h1", {}, "Explain"), form, told);
  if (!text) return;
  try {
    const { verdict, ...rest } = await get("/explain", { [way]: text }, signal);
    replace(
      told,
      notice("good", "", (verdict ?? []).map(prose)),
      h("section", { class: "card" }, facts(rest)),
    );
  } catch (error) {
    if (!signal.aborted) replace(told, trouble(error));
  }
}
