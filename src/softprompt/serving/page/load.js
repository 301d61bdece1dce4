// What the server has to do at this moment.

import { $, make } from "./elements.js";
import { ask } from "./server.js";
import { state } from "./state.js";

const MOST_POINTS = 60;

const points = []; // answered per second
let before = null;

export async function showLoad() {
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
