// The frame: who is there, which page is shown. A page is a module in pages/ with `title` and
// `show(main, context)`; it is loaded when it is first wanted, and told by `context.signal` when it is left.

import { ApiError, get, send } from "./api.js";
import { field, h, replace, values } from "./dom.js";
import { notice, say } from "./widgets.js";

const GROUPS = [
  [
    "Now",
    [
      ["", "Overview"],
      ["nodes", "Nodes"],
      ["alarms", "Alarms"],
      ["explain", "Explain"],
      ["events", "Events"],
    ],
  ],
  [
    "Clients",
    [
      ["clients", "Clients"],
      ["sessions", "Sessions"],
      ["subscriptions", "Subscriptions"],
      ["bans", "Bans"],
      ["trace", "Trace"],
    ],
  ],
  [
    "Messages",
    [
      ["topics", "Retained topics"],
      ["shared", "Shared groups"],
      ["letters", "Dead letters"],
      ["forwards", "Forwards"],
      ["try", "Try it"],
    ],
  ],
  ["Broker", [["settings", "Settings"]]],
];
const FILES = { "": "overview", client: "client" };
const ROLES = ["read", "operate", "admin"];

const main = document.getElementById("main");
const session = { asks: false, name: null, role: null };
let leaving = new AbortController();
let shownPage = null;

function place() {
  const [path, text] = location.hash.replace(/^#\/?/, "").split("?");
  const [page, ...parts] = path.split("/");
  return { page, parts: parts.map(decoded), query: Object.fromEntries(new URLSearchParams(text || "")) };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

async function show() {
  if (location.hash && !location.hash.startsWith("#/")) return; // of a link within the page
  if (session.asks && session.name === null) return; // the log-in is shown
  const { page, parts, query } = place();
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  closeMenu();
  markCurrent(page);
  const known =
    GROUPS.flatMap(([, pages]) => pages).some(([each]) => each === page) || Object.hasOwn(FILES, page);
  if (!known) return replace(main, h("h1", {}, "No such page"));
  const module = await load(FILES[page] ?? page);
  if (signal.aborted) return;
  if (module === null) return replace(main, notice("bad", "The node does not answer: load this page again."));
  const typedIn = page === shownPage ? document.activeElement?.name : null;
  document.title = `${module.title} – Moorline`;
  replace(main);
  module.show(main, { parts, query, signal, session, can, go, again: show });
  if (typedIn) main.querySelector(`[name="${CSS.escape(typedIn)}"]`)?.focus();
  else if (shownPage !== null) main.focus();
  shownPage = page;
}

/** The module of a page; null if it can't be had now. */
async function load(page) {
  try {
    return await import(`./pages/${page}.js`);
  } catch (error) {
    if (error instanceof TypeError) return null;
    throw error;
  }
}

/** Whether the one who is here may do what takes this role. */
function can(role) {
  return ROLES.indexOf(session.role) >= ROLES.indexOf(role);
}

/** To a page, with the filters of a form. */
function go(page, query = {}) {
  const filled = Object.entries(query).filter(([, value]) => value !== "");
  const target = `#/${page}${filled.length ? `?${new URLSearchParams(filled)}` : ""}`;
  // Not by `location.hash`, which tells of it later: until then the page before would still go on.
  if (target !== location.hash) history.pushState(null, "", target);
  show();
}

function drawMenu() {
  const menu = document.getElementById("nav");
  replace(
    menu,
    GROUPS.map(([group, pages]) => [
      h("h2", {}, group),
      h(
        "ul",
        {},
        pages.map(([page, text]) => h("li", {}, h("a", { href: `#/${page}`, "data-page": page }, text))),
      ),
    ]),
  );
}

function markCurrent(page) {
  const listed = page === "client" ? "clients" : page;
  for (const each of document.querySelectorAll("nav a")) {
    if (each.dataset.page === listed) each.setAttribute("aria-current", "page");
    else each.removeAttribute("aria-current");
  }
}

function closeMenu() {
  document.getElementById("nav").classList.remove("open");
  document.getElementById("menu").setAttribute("aria-expanded", "false");
}

async function start() {
  try {
    Object.assign(session, await get("/login"));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    replace(main, notice("bad", error.message));
    setTimeout(start, 3000);
    return;
  }
  document.getElementById("leave").hidden = session.name === null;
  replace(document.getElementById("who"), session.name === null ? "" : `${session.name} (${session.role})`);
  if (session.asks && session.name === null) return askForToken();
  drawMenu();
  await show();
}

function askForToken() {
  leaving.abort();
  replace(document.getElementById("nav"));
  const said = h("div");
  const token = h("input", {
    name: "token",
    type: "password",
    autocomplete: "current-password",
    required: true,
  });
  const form = h("form", {}, field("Token", token), h("button", { class: "main" }, "Log in"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await send("POST", "/login", {}, { Authorization: `Bearer ${values(form).token.trim()}` });
      shownPage = null;
      await start();
    } catch (error) {
      const isWrong = error instanceof ApiError && error.status === 401;
      replace(said, notice("bad", isWrong ? "There is no such token." : error.message));
      token.select();
    }
  });
  document.title = "Log in – Moorline";
  replace(
    main,
    h(
      "div",
      { class: "card login" },
      h("h1", {}, "Log in"),
      h(
        "p",
        { class: "faint" },
        "With a token that `moorline token` has made. The browser keeps a session for it, for 8 hours.",
      ),
      said,
      form,
    ),
  );
  token.focus();
}

document.getElementById("menu").addEventListener("click", (event) => {
  const isOpen = document.getElementById("nav").classList.toggle("open");
  event.currentTarget.setAttribute("aria-expanded", String(isOpen));
});
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
document.getElementById("leave").addEventListener("click", async () => {
  await send("POST", "/logout");
  say("Logged out.");
  await start();
});
addEventListener("hashchange", show);
addEventListener("moorline-login", () => {
  if (session.name !== null) {
    session.name = null;
    document.getElementById("leave").hidden = true;
    askForToken();
  }
});
start();
