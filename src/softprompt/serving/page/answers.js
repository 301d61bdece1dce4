// Answers, side by side as they come.

import { $, make } from "./elements.js";
import { requestsOf } from "./inputs.js";
import { ask, eventsOf } from "./server.js";
import { chosenModels, state } from "./state.js";

const MOST_BARS = 12;
const AT_ONCE = 4; // a browser opens six connections to a server: two are left for the list and the load

export async function run(event) {
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
