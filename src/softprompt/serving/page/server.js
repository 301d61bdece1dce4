// The server: requests with the key that was typed, and streams as they come.

const KEY = "softprompt-key";

/** Whether a key was given, which is kept in this tab only. */
export const hasKey = () => sessionStorage.getItem(KEY) !== null;
export const keepKey = (key) => sessionStorage.setItem(KEY, key);

/** A response of the server; an Error with its words where it refuses. */
export async function ask(path, body, signal) {
  const key = sessionStorage.getItem(KEY);
  const headers = {};
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body) headers["Content-Type"] = "application/json";
  const how = body ? { method: "POST", body: JSON.stringify(body) } : {};
  const response = await fetch(path, { ...how, headers, signal, cache: "no-store" }).catch((error) => {
    throw error.name === "AbortError" ? error : new Error("The server cannot be reached.");
  });
  if (response.ok) return response;
  const said = await response.json().catch(() => null);
  const message = said?.error?.message ?? `The server answered with status ${response.status}.`;
  if (response.status === 401) document.dispatchEvent(new CustomEvent("keyneeded", { detail: message }));
  throw new Error(message);
}

/** The events of a stream as they come. */
export async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ; ) {
    const { value, done } = await reader.read().catch((error) => {
      throw error.name === "AbortError" ? error : new Error("The connection to the server was lost.");
    });
    if (done) throw new Error("The server ended its answer early.");
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const data = part.slice("data: ".length);
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new Error(event.error.message);
      yield event;
    }
  }
}
