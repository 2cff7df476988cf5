// Values as people read them.

const NUMBER = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const BYTES = ["B", "KiB", "MiB", "GiB", "TiB"];
const STEPS = [
  [86400, "d"],
  [3600, "h"],
  [60, "min"],
  [1, "s"],
];
// Control characters, and those that turn the direction of a text or are not to be seen.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** A number; a dash if there is none. */
export function count(value) {
  if (typeof value !== "number") return "–";
  return Math.abs(value) < 100_000 ? NUMBER.format(value) : SHORT.format(value);
}

export function bytes(value) {
  if (typeof value !== "number") return "–";
  let unit = 0;
  while (value >= 1024 && unit < BYTES.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${NUMBER.format(value)} ${BYTES[unit]}`;
}

/** A length of time in its two largest units. */
export function duration(seconds) {
  if (typeof seconds !== "number") return "–";
  if (seconds < 1) return seconds <= 0 ? "0 s" : `${Math.round(seconds * 1000)} ms`;
  const parts = [];
  let rest = Math.floor(seconds);
  for (const [size, unit] of STEPS) {
    if (rest >= size && parts.length < 2) parts.push(`${Math.floor(rest / size)} ${unit}`);
    rest %= size;
  }
  return parts.join(" ");
}

/** A moment, here and now: "14:02:07", with the day if that is another one. */
export function moment(text) {
  const date = new Date(text);
  if (!text || Number.isNaN(date.getTime())) return text ? String(text) : "–";
  const time = date.toLocaleTimeString("en-GB");
  return date.toDateString() === new Date().toDateString()
    ? time
    : `${date.toLocaleDateString("en-CA")} ${time}`;
}

/** How long ago that was, or how long it will be. */
export function ago(text) {
  const date = new Date(text);
  if (!text || Number.isNaN(date.getTime())) return "–";
  const seconds = (Date.now() - date.getTime()) / 1000;
  if (Math.abs(seconds) < 1) return "now";
  return seconds >= 0 ? `${duration(seconds)} ago` : `in ${duration(-seconds)}`;
}

/** A name from somebody else: what can't be seen in it is written as \uXXXX, and it ends after `most`. */
export function visible(text, most = 200) {
  const whole = String(text);
  const shown = (whole.length > most ? whole.slice(0, most) : whole).replace(
    UNSEEN,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  return whole.length > most ? `${shown}… (${count(whole.length)} characters)` : shown;
}

/** `keep_alive_seconds` as "keep alive seconds". */
export function words(name) {
  return name.replaceAll("_", " ");
}

/** The same for a heading. */
export function heading(name) {
  return name.charAt(0).toUpperCase() + words(name).slice(1);
}
