// What the page knows: what is served, what of it is chosen, what was typed.

export const state = {
  models: [],
  chosen: new Set(), // names
  typed: new Map(), // by field
  running: null, // what aborts it
};

export const backbone = () => state.models.find((model) => model.kind === "backbone");
export const chosenModels = () => state.models.filter((model) => state.chosen.has(model.id));
