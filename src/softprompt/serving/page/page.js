// The playground. What the server sends enters the page as text only, never as markup.

import { codeOf } from "./code.js";

const MOST_ROWS = 200;
const MOST_BARS = 12;
const AT_ONCE = 4; // a browser opens six connections to a server: two are left for the list and the load
const POLL_MS = 2000;
const MOST_POINTS = 60;
const KEY = "softprompt-key";
const ONE_TEXT = ""; // stands among the names of fields for the input of prompts that take one text

const $ = (id) => document.getElementById(id);
const state = {
  models: [],
  chosen: new Set(), // names
  typed: new Map(), // by field
  running: null, // what aborts it
  keyed: sessionStorage.getItem(KEY) !== null, // whether the server asks for a key
};

/** An element with attributes and children; strings become text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// ---- the server

/** A response of the server; an Error with its words where it refuses. */
async function ask(path, body, signal) {
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
  if (response.status === 401) askForKey(message);
  throw new Error(message);
}

/** The events of a stream as they come. */
async function* eventsOf(response) {
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

function askForKey(reason) {
  state.keyed = true;
  showCode();
  $("key-reason").textContent = reason;
  if (!$("key-dialog").open) $("key-dialog").showModal();
}

function useKey(event) {
  event.preventDefault();
  sessionStorage.setItem(KEY, $("key").value);
  $("key").value = "";
  $("key-dialog").close();
  loadModels();
}

// ---- the list of prompts

async function loadModels() {
  try {
    state.models = (await (await ask("v1/models")).json()).data;
  } catch (error) {
    $("count").textContent = error.message;
    return;
  }
  const usable = state.models.filter((model) => model.kind !== "damaged");
  state.chosen = new Set(usable.map((model) => model.id).filter((id) => state.chosen.has(id)));
  const first = usable.find((model) => model.kind !== "backbone") ?? usable[0];
  if (!state.chosen.size && first) state.chosen.add(first.id);
  $("backbone").textContent = `: ${backbone()?.id ?? "unknown"}`;
  showList();
  showChosen();
  showLoad();
}

const backbone = () => state.models.find((model) => model.kind === "backbone");
const chosenModels = () => state.models.filter((model) => state.chosen.has(model.id));

function showList() {
  const words = $("filter").value.toLowerCase().split(/\s+/);
  const found = state.models.filter((model) => {
    const text = [model.id, model.kind, model.card.task, model.card.method].join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  });
  const all = new Set([...chosenModels(), ...found]); // what is chosen stays in sight
  const shown = new Set([...all].slice(0, MOST_ROWS));
  $("prompts").replaceChildren(...state.models.filter((model) => shown.has(model)).map(rowOf));
  const less = found.length > MOST_ROWS ? ` The first ${MOST_ROWS} are shown; filter for others.` : "";
  $("count").textContent = `${found.length} of ${state.models.length}.${less}`;
}

function rowOf(model) {
  const tick = make("input", { type: "checkbox" });
  tick.checked = state.chosen.has(model.id);
  tick.disabled = model.kind === "damaged";
  tick.addEventListener("change", () => {
    state.chosen[tick.checked ? "add" : "delete"](model.id);
    showChosen();
  });
  const { method, virtual_tokens: virtual, members } = model.card;
  const about = method ? `${method}, ${virtual} virtual tokens` : members ? `ensemble of ${members}` : model.kind;
  const row = make("li", {}, make("label", { class: "tick" }, tick, make("span", { class: "name" }, model.id)));
  if (model.kind === "damaged") {
    row.append(make("p", { class: "error" }, "Damaged: it cannot be used."));
    return row;
  }
  const card = make("details", {}, make("summary", { "aria-label": `${about}: card of ${model.id}` }, about));
  card.addEventListener("toggle", () => card.children.length > 1 || card.append(cardOf(model)));
  row.append(card);
  return row;
}

const written = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));

function cardOf({ kind, card }) {
  const { metrics, fields, labels, ...others } = card;
  const facts = { kind, ...others, fields: fields?.join(", "), labels: labels?.join(", ") };
  for (const [split, scores] of Object.entries(metrics ?? {})) {
    const pairs = Object.entries(scores ?? {}).map(([name, score]) => `${name} ${written(score)}`);
    facts[`scores on ${split}`] = pairs.join(", ");
  }
  const list = make("dl", { class: "card" });
  for (const [name, value] of Object.entries(facts)) {
    if (value === null || value === undefined) continue;
    const text = typeof value === "number" ? value.toLocaleString("en") : written(value);
    list.append(make("dt", {}, name.replaceAll("_", " ")), make("dd", { dir: "auto" }, text));
  }
  return list;
}

// ---- what is asked

/** The names of the fields that a prompt takes. */
function fieldsOf(model) {
  const fields = $("raw").checked ? null : model.card.fields;
  return fields?.length > 1 ? fields : [ONE_TEXT];
}

function showChosen() {
  const models = chosenModels();
  $("chosen").textContent = models.length
    ? `Asked: ${models.map((model) => model.id).join(", ")}`
    : "No prompt is chosen. Choose one or several from the list.";
  const takers = new Map(models.length ? [] : [[ONE_TEXT, []]]);
  for (const model of models) {
    for (const field of fieldsOf(model)) takers.set(field, [...(takers.get(field) ?? []), model.id]);
  }
  const focused = document.activeElement?.dataset?.field;
  const areas = [...takers].map(([field, ids]) => {
    const hint = takers.size > 1 && models.length > 1 ? ` for ${ids.join(", ")}` : "";
    const rows = takers.size > 1 ? 2 : 4;
    const area = make("textarea", { rows, dir: "auto", "data-field": field, spellcheck: "false" });
    area.value = state.typed.get(field) ?? "";
    area.addEventListener("input", () => {
      state.typed.set(field, area.value);
      showCode();
    });
    const name = make("span", { class: "name" }, field === ONE_TEXT ? "Input" : field);
    return make("label", {}, name, make("span", { class: "quiet" }, hint), area);
  });
  $("inputs").replaceChildren(...areas);
  if (focused !== undefined) areas.map((label) => label.lastChild).find((a) => a.dataset.field === focused)?.focus();
  showCode();
}

/** What is sent for a prompt: its labels' probabilities where it has labels, and text. */
function requestsOf(model) {
  const typed = (field) => state.typed.get(field) ?? "";
  const fields = fieldsOf(model);
  const isText = fields[0] === ONE_TEXT;
  const input = isText ? typed(ONE_TEXT) : Object.fromEntries(fields.map((name) => [name, typed(name)]));
  const raw = $("raw").checked ? { raw: true } : {};
  const sampling = {};
  for (const name of ["max_tokens", "temperature", "seed"]) {
    if ($(name).value !== "") sampling[name] = Number($(name).value);
  }
  const requests = model.card.labels ? [{ path: "v1/classify", body: { model: model.id, input, ...raw } }] : [];
  if (!requests.length || backbone()?.card.architecture !== "encoder-only") {
    requests.push({ path: "v1/completions", body: { model: model.id, prompt: input, ...sampling, ...raw } });
  }
  return requests;
}

// ---- answers

async function run(event) {
  event?.preventDefault();
  if (!$("try").reportValidity()) return;
  state.running?.abort();
  const models = chosenModels();
  $("status").textContent = models.length ? "" : "Choose at least one prompt.";
  if (!models.length) return;
  const running = (state.running = new AbortController());
  const waiting = models.map((model) => {
    const place = make("article", { "aria-label": model.id }, make("h3", {}, model.id));
    return { requests: requestsOf(model), place };
  });
  $("no-answers").hidden = true;
  $("answers").replaceChildren(...waiting.map((one) => one.place));
  $("answers").setAttribute("aria-busy", "true");
  $("stop").disabled = false;
  const work = async () => {
    for (let one; (one = waiting.shift()); ) await answer(one, running.signal);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  if (state.running !== running) return; // another run has begun
  $("answers").removeAttribute("aria-busy");
  $("status").textContent = running.signal.aborted ? "Stopped." : "Done.";
  if (document.activeElement === $("stop")) $("run").focus();
  $("stop").disabled = true;
}

async function answer({ requests, place }, signal) {
  place.classList.add("busy");
  try {
    for (const { path, body } of requests) {
      await (path === "v1/classify" ? classify : complete)(path, body, place, signal);
    }
  } catch (error) {
    const stopped = error.name === "AbortError";
    place.append(stopped ? make("p", { class: "quiet" }, "Stopped.") : make("p", { class: "error" }, error.message));
  }
  place.classList.remove("busy");
}

async function classify(path, body, place, signal) {
  const { label: best, probabilities } = (await (await ask(path, body, signal)).json()).data[0];
  const likeliest = [...probabilities].sort((one, other) => other.probability - one.probability).slice(0, MOST_BARS);
  const list = make("ul", { class: "bars" });
  for (const one of probabilities.filter((each) => likeliest.includes(each))) {
    const bar = make("span", { class: "bar", "aria-hidden": "true" }, make("span"));
    bar.firstChild.style.width = `${100 * one.probability}%`;
    const label = make("span", { class: "name", dir: "auto" }, one.label === best ? `✓ ${one.label}` : one.label);
    const row = make("li", one.label === best ? { class: "best" } : {}, label, bar);
    row.append(make("span", { class: "share" }, `${(100 * one.probability).toFixed(1)} %`));
    list.append(row);
  }
  place.append(list);
  const more = probabilities.length - likeliest.length;
  if (more) place.append(make("p", { class: "quiet" }, `and ${more} less likely labels`));
}

async function complete(path, body, place, signal) {
  const started = performance.now();
  const text = make("p", { class: "text", dir: "auto" });
  place.append(text);
  let usage, finish;
  const streamed = { ...body, stream: true, stream_options: { include_usage: true } };
  for await (const event of eventsOf(await ask(path, streamed, signal))) {
    for (const choice of event.choices) {
      text.append(choice.text);
      finish = choice.finish_reason ?? finish;
    }
    usage = event.usage ?? usage;
  }
  if (!text.textContent) text.append(make("span", { class: "quiet" }, "(an empty text)"));
  const facts = [`${((performance.now() - started) / 1000).toFixed(2)} s`];
  if (usage) {
    const { prompt_tokens: read, prompt_tokens_details: details, completion_tokens: made } = usage;
    facts.push(`${read} tokens read, ${details.virtual_tokens} virtual tokens, ${made} written`);
  }
  if (finish === "length") facts.push("ended at max tokens");
  place.append(make("p", { class: "quiet" }, facts.join(" · ")));
}

// ---- the same in code

function showCode() {
  $("code").textContent = codeOf($("language").value, chosenModels().flatMap(requestsOf), state.keyed);
  $("copied").textContent = "";
}

async function copyCode() {
  try {
    await navigator.clipboard.writeText($("code").textContent);
    $("copied").textContent = "Copied.";
  } catch {
    getSelection().selectAllChildren($("code")); // browsers give the clipboard to https and this machine only
    $("copied").textContent = "Selected; press Ctrl + C to copy.";
  }
}

// ---- the load

const points = []; // answered per second
let before = null;

async function showLoad() {
  if (document.hidden || $("key-dialog").open || !state.models.length) return;
  let told;
  try {
    told = await (await ask("v1/load")).json();
  } catch (error) {
    $("load").replaceChildren(make("dd", {}, error.message));
    return;
  }
  const { engine, prompts } = told;
  const now = { ...engine, at: performance.now() };
  const gone = before ? (now.at - before.at) / 1000 : 0;
  const speed = gone ? Math.max(0, now.answered - before.answered) / gone : 0;
  const passes = before ? now.passes - before.passes : 0;
  const facts = {
    waiting: engine.waiting,
    running: engine.running,
    "answered per second": speed.toFixed(1),
    "rows per pass": passes > 0 ? ((now.rows - before.rows) / passes).toFixed(1) : "–",
    "prompts in memory": prompts?.loaded ?? 0,
  };
  $("load").replaceChildren(
    ...Object.entries(facts).map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, `${value}`))),
  );
  before = now;
  points.push(speed);
  points.splice(0, points.length - MOST_POINTS);
  const most = Math.max(1, ...points);
  const step = 120 / (MOST_POINTS - 1);
  const left = 120 - (points.length - 1) * step;
  const line = points.flatMap((value, place) => [left + place * step, 27 - (26 * value) / most]);
  $("spark").firstElementChild.setAttribute("points", line.map((number) => number.toFixed(1)).join(" "));
}

// ---- what people do

$("filter").addEventListener("input", showList);
$("reload").addEventListener("click", loadModels);
$("try").addEventListener("submit", run);
$("stop").addEventListener("click", () => state.running?.abort());
$("raw").addEventListener("change", showChosen);
for (const id of ["max_tokens", "temperature", "seed", "language"]) $(id).addEventListener("input", showCode);
$("copy").addEventListener("click", copyCode);
$("key-form").addEventListener("submit", useKey);
$("key-cancel").addEventListener("click", () => $("key-dialog").close());
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !$("key-dialog").open) run(event);
});

loadModels();
setInterval(showLoad, POLL_MS);
