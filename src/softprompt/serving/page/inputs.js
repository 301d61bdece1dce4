// What is asked: the inputs that the chosen prompts take, the requests that these make, and the same in code.

import { codeOf } from "./code.js";
import { $, make } from "./elements.js";
import { hasKey } from "./server.js";
import { backbone, chosenModels, state } from "./state.js";

const ONE_TEXT = ""; // stands among the names of fields for the input of prompts that take one text

let keyed = hasKey(); // whether the server asks for a key

/** The names of the fields that a prompt takes. */
function fieldsOf(model) {
  const fields = $("raw").checked ? null : model.card.fields;
  return fields?.length > 1 ? fields : [ONE_TEXT];
}

export function showChosen() {
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
export function requestsOf(model) {
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

export function showCode() {
  $("code").textContent = codeOf($("language").value, chosenModels().flatMap(requestsOf), keyed);
  $("copied").textContent = "";
}

export async function copyCode() {
  try {
    await navigator.clipboard.writeText($("code").textContent);
    $("copied").textContent = "Copied.";
  } catch {
    getSelection().selectAllChildren($("code")); // browsers give the clipboard to https and this machine only
    $("copied").textContent = "Selected; press Ctrl + C to copy.";
  }
}

/** The server asks for a key, and so does the code. */
export function needKey() {
  keyed = true;
  showCode();
}
