// SPDX-License-Identifier: Apache-2.0
// The API of the daemon that this page came from.

/** The answer's JSON; throws the API's error, whose `advice` says what to do next. */
export async function get(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } });
  const body = await answer.json();
  if (!answer.ok)
    throw Object.assign(new Error(body.message ?? `HTTP status ${answer.status}`), { advice: body.advice });
  return body;
}

export function socketUrl(path) {
  return `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}${path}`;
}

/** Calls `changed` when a vm's records change, at most once in a while, and after each break of the connection. */
export function watch(changed) {
  const events = new EventSource("/v1/events");
  let due = null;
  const soon = () => { due ??= setTimeout(() => { due = null; changed(); }, 200); };
  events.onopen = soon;
  events.onmessage = soon;
  return events;
}

/** A line for the user in the element `#said`. */
export function say(text, bad = false) {
  const line = document.getElementById("said");
  line.textContent = text;
  line.className = bad ? "bad" : "";
}

export function sayError(error) {
  say(error.advice ? `${error.message}. ${error.advice}` : error.message, true);
}
