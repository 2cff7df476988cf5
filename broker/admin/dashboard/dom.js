// Elements, made of data. Text goes in as text nodes only: there is no way here from a string to markup, so
// client ids, topics and payloads may be anything.

const SVG = "http://www.w3.org/2000/svg";

/** An element. `attributes`: functions are listeners by their event's name, false and null are left out.
 *  `children`: nodes, strings, numbers, arrays of these; null and false are left out. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children) {
    if (Array.isArray(child)) add(element, child);
    else if (child !== null && child !== undefined && child !== false) element.append(child);
  }
}

/** Puts these in place of all that is there. */
export function replace(element, ...children) {
  element.replaceChildren();
  add(element, children);
  return element;
}

/** The same for what is drawn again and again: focus, and how far tables are scrolled, stay. */
export function redraw(element, ...children) {
  const path = pathTo(element, document.activeElement);
  const scrolled = [...element.querySelectorAll(".scroll")].map((each) => each.scrollLeft);
  replace(element, ...children);
  element.querySelectorAll(".scroll").forEach((each, place) => {
    each.scrollLeft = scrolled[place] ?? 0;
  });
  if (path) path.reduce((node, place) => node?.children[place], element)?.focus({ preventScroll: true });
}

function pathTo(element, inner) {
  if (inner === element || !element.contains(inner)) return null;
  const path = [];
  for (let node = inner; node !== element; node = node.parentElement)
    path.unshift([...node.parentElement.children].indexOf(node));
  return path;
}

/** The values of a form, by the names of its fields; a checkbox is a boolean. */
export function values(form) {
  const found = {};
  for (const field of form.elements) {
    if (field.name) found[field.name] = field.type === "checkbox" ? field.checked : field.value;
  }
  return found;
}

/** A field with its label around it. */
export function field(label, input, kind = "") {
  return h("label", { class: kind }, kind === "beside" ? [input, label] : [label, input]);
}

/** A choice; `options`: [value, text] each. */
export function choice(name, options, value, more = {}) {
  const select = h(
    "select",
    { name, ...more },
    options.map(([key, text]) => h("option", { value: key }, text)),
  );
  if (value !== undefined && value !== null) select.value = value;
  return select;
}
