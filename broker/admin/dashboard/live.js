// A log that is written to while one looks: the newest line last, so many and no more; it can be held.

import { ApiError } from "./api.js";
import { h, replace } from "./dom.js";
import { count } from "./format.js";
import { mark, trouble } from "./widgets.js";

const LINES_MAXIMUM = 1000;
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 15_000;

/** An element with lines, and `write(make)`: `make()` gives what is in the line. Lines are made once for each
 *  picture of the screen, and only as many as stay, so a flood costs what the screen does. */
export function log(label) {
  const lines = h("div", { class: "log", role: "log", "aria-label": label, tabindex: 0, "aria-live": "off" });
  let waiting = [];
  let isHeld = false;
  let isDue = false;
  const hold = h("button", { type: "button", "aria-pressed": "false", click: toggle }, "Hold");
  const clear = h("button", { type: "button", click: () => replace(lines) }, "Clear");
  const state = h("span", { role: "status" });
  const element = h("div", {}, h("div", { class: "bar" }, hold, clear, state), lines);

  function toggle() {
    isHeld = !isHeld;
    hold.setAttribute("aria-pressed", String(isHeld));
    replace(hold, isHeld ? "Go on" : "Hold");
    draw();
  }

  function write(make) {
    waiting.push(make);
    if (waiting.length > 2 * LINES_MAXIMUM) waiting = waiting.slice(-LINES_MAXIMUM);
    if (!isDue) requestAnimationFrame(draw);
    isDue = true;
  }

  function draw() {
    isDue = false;
    if (isHeld) return;
    const isAtEnd = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 40;
    lines.append(...waiting.slice(-LINES_MAXIMUM).map((make) => h("div", {}, make())));
    waiting = [];
    while (lines.childElementCount > LINES_MAXIMUM) lines.firstChild.remove();
    if (isAtEnd) lines.scrollTop = lines.scrollHeight;
  }

  return { element, state, write };
}

/** Follows a stream until `signal`, or its end; it is opened again when it breaks. `open(signal)` resolves to
 *  the events once they come, `line(event)` what is written of one. */
export function follow(label, open, line, signal, { goesOn = true } = {}) {
  const { element, state, write } = log(label);
  signal.addEventListener("abort", () => replace(state));
  run();
  return element;

  async function run() {
    let pauseMs = FIRST_PAUSE_MS;
    while (!signal.aborted) {
      let seen = 0;
      try {
        const events = await open(signal);
        replace(state, mark("good", "following"));
        for await (const event of events) {
          seen += 1;
          write(() => line(event));
        }
        if (!goesOn) return void replace(state, mark("warn", `ended, ${count(seen)} lines`));
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof ApiError && error.status > 0 && error.status !== 503)
          return void replace(state, trouble(error));
        replace(state, mark("warn", "not connected, trying again"));
        if (!(error instanceof ApiError || error instanceof TypeError || error instanceof DOMException))
          throw error;
      }
      pauseMs = seen ? FIRST_PAUSE_MS : Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  }
}
