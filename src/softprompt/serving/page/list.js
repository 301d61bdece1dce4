// The list of prompts, each with its card.

import { $, make } from "./elements.js";
import { showChosen } from "./inputs.js";
import { showLoad } from "./load.js";
import { ask } from "./server.js";
import { backbone, chosenModels, state } from "./state.js";

const MOST_ROWS = 200;

export async function loadModels() {
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

export function showList() {
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
