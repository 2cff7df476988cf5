// A small line chart that moves: the last minutes, up to five, of a few series.

import { h, replace, svg } from "./dom.js";
import { duration } from "./format.js";

const SHORTEST_MS = 60_000;
const LONGEST_MS = 5 * 60_000;
const WIDTH = 600;
const HEIGHT = 150;
const BOTTOM = 4;
const TOP = 8;

/** `series`: the names; `format` shows a value. Gives {element, draw(points)}, where a point is
 *  {at, values}, values in the order of the series; null leaves a gap. */
export function chart(title, series, format) {
  const paths = series.map((_, place) => svg("path", { class: `s${place}` }));
  const lines = [TOP, (HEIGHT - BOTTOM + TOP) / 2, HEIGHT - BOTTOM].map((y) =>
    svg("path", { class: "grid", d: `M0 ${y}H${WIDTH}` }),
  );
  const picture = svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": title },
    lines,
    paths,
  );
  const scale = h("div", { class: "label" });
  const legend = h("ul");
  const element = h("section", { class: "card chart" }, h("h2", {}, title), scale, picture, legend);

  function draw(points) {
    const now = points.length ? points[points.length - 1].at : 0;
    const seen = points.filter((point) => point.at >= now - LONGEST_MS);
    const span = Math.max(SHORTEST_MS, seen.length ? now - seen[0].at : 0);
    const most = nice(Math.max(0, ...seen.flatMap((point) => point.values.map((value) => value ?? 0))));
    paths.forEach((path, place) => path.setAttribute("d", line(seen, place, now - span, span, most)));
    const latest = seen.length ? seen[seen.length - 1].values : [];
    replace(scale, `0 to ${format(most)}, the last ${duration(span / 1000)}`);
    replace(
      legend,
      series.map((name, place) => h("li", { class: `s${place}` }, `${name} ${format(latest[place])}`)),
    );
    picture.setAttribute(
      "aria-label",
      `${title}: ${series.map((name, place) => `${name} ${format(latest[place])}`).join(", ")}`,
    );
  }

  return { element, draw };
}

function line(points, place, begin, span, most) {
  let path = "";
  let isDown = false;
  for (const point of points) {
    const value = point.values[place];
    if (typeof value !== "number") {
      isDown = false;
      continue;
    }
    const x = (WIDTH * (point.at - begin)) / span;
    const y = HEIGHT - BOTTOM - ((HEIGHT - BOTTOM - TOP) * value) / most;
    path += `${isDown ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    isDown = true;
  }
  return path;
}

/** The next of 1, 2, 5, 10, 20, ... that is not below. */
function nice(value) {
  if (value <= 1) return 1;
  const size = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((step) => step * size >= value) * size;
}
