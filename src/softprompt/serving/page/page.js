// The playground: what people do on the page.

import { run } from "./answers.js";
import { $ } from "./elements.js";
import { copyCode, needKey, showChosen, showCode } from "./inputs.js";
import { loadModels, showList } from "./list.js";
import { showLoad } from "./load.js";
import { keepKey } from "./server.js";
import { state } from "./state.js";

const POLL_MS = 2000;

function askForKey({ detail: reason }) {
  needKey();
  $("key-reason").textContent = reason;
  if (!$("key-dialog").open) $("key-dialog").showModal();
}

function useKey(event) {
  event.preventDefault();
  keepKey($("key").value);
  $("key").value = "";
  $("key-dialog").close();
  loadModels();
}

$("filter").addEventListener("input", showList);
$("reload").addEventListener("click", loadModels);
$("try").addEventListener("submit", run);
$("stop").addEventListener("click", () => state.running?.abort());
$("raw").addEventListener("change", showChosen);
for (const id of ["max_tokens", "temperature", "seed", "language"]) $(id).addEventListener("input", showCode);
$("copy").addEventListener("click", copyCode);
document.addEventListener("keyneeded", askForKey);
$("key-form").addEventListener("submit", useKey);
$("key-cancel").addEventListener("click", () => $("key-dialog").close());
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !$("key-dialog").open) run(event);
});

loadModels();
setInterval(showLoad, POLL_MS);
