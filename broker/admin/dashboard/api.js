// The way to /api/v1. Every request has the header by which a session counts (see sessions.py), so no page of
// another origin can do what this one does.

const BASE = "/api/v1";
const TIMEOUT_MS = 8000;
const LINE_MAXIMUM = 1 << 20;

/** What the API said no with; `status` 0: it was not reached. */
export class ApiError extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

/** GET; `parameters` that are empty are left out. */
export function get(path, parameters = {}, signal) {
  return request("GET", path + query(parameters), undefined, signal);
}

/** POST, PUT or DELETE, with JSON. */
export function send(method, path, body = {}, headers = {}) {
  return request(method, path, body, undefined, headers);
}

async function request(method, path, body, signal, headers = {}) {
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  const options = {
    method,
    headers: { "X-Moorline-Page": "1", ...headers },
    signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
    cache: "no-store",
  };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(BASE + path, options);
    return await content(response);
  } catch (error) {
    if (error instanceof ApiError || (signal && signal.aborted)) throw error;
    throw new ApiError(
      0,
      `the node does not answer (${error.name === "TimeoutError" ? "too slow" : error.message})`,
    );
  }
}

async function content(response) {
  const text = await response.text();
  let read = {};
  try {
    read = text ? JSON.parse(text) : {};
  } catch {
    read = { error: text.slice(0, 500) };
  }
  if (response.ok) return read;
  if (response.status === 401) dispatchEvent(new Event("moorline-login"));
  throw new ApiError(response.status, read.error || `status ${response.status}`);
}

/** Server-sent events, until `signal`: {event, data}, data as JSON; nothing that happens once this has returned
 *  is missed. A fetch and not an EventSource, which could neither send the header nor tell a refusal. */
export async function stream(path, parameters, signal) {
  const response = await fetch(BASE + path + query(parameters), {
    headers: { "X-Moorline-Page": "1", Accept: "text/event-stream" },
    signal,
    cache: "no-store",
  });
  if (!response.ok) await content(response);
  return records(response);
}

async function* records(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const texts = (rest + value.replaceAll("\r", "")).split("\n\n");
    rest = texts.pop();
    if (rest.length > LINE_MAXIMUM) throw new ApiError(0, "an event without an end");
    yield* texts.map(record).filter((each) => each !== null);
  }
}

function record(text) {
  let event = "message";
  const data = [];
  for (const line of text.split("\n")) {
    if (line.startsWith("event:")) event = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
  }
  if (!data.length) return null; // a comment, which keeps the connection open
  try {
    return { event, data: JSON.parse(data.join("\n")) };
  } catch {
    return { event, data: data.join("\n") };
  }
}

function query(parameters) {
  const filled = Object.entries(parameters).filter(
    ([, value]) => value !== "" && value !== null && value !== undefined,
  );
  const text = new URLSearchParams(filled).toString();
  return text ? `?${text}` : "";
}
