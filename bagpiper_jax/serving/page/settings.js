/** The settings of sampling; what is left empty is the model's own. */

import { element } from "./turn.js";

// [name, label, lowest, highest, step]
const FIELDS = [
  ["temperature", "Text temperature", 0, 2, "any"],
  ["audio_temperature", "Sound temperature", 0, 2, "any"],
  ["guidance", "Sound guidance", 1, 20, "any"],
  ["top_k", "Top-k", 0, 100000, 1],
  ["seed", "Seed", 0, Number.MAX_SAFE_INTEGER, 1],
  ["max_completion_tokens", "Longest text, tokens", 1, 100000, 1],
  ["max_seconds", "Longest sound, s", 0.1, 1000, "any"],
];

export class Settings {
  /** @param {HTMLFormElement} form @param {() => void} onKey called when the API key has changed. */
  constructor(form, onKey) {
    this.form = form;
    for (const [name, label, min, max, step] of FIELDS) {
      form.append(field(name, label, { type: "number", min, max, step, inputMode: "decimal" }));
    }
    // Kept in this field alone: nothing is stored, and reloading the page forgets it.
    form.append(field("key", "API key", { type: "password", autocomplete: "off" }));
    form.elements.key.addEventListener("change", onKey);
    form.addEventListener("submit", (event) => event.preventDefault());
  }

  get key() {
    return this.form.elements.key.value.trim();
  }

  /** Fields of a request for those that were set. */
  get chosen() {
    return Object.fromEntries(
      FIELDS.map(([name]) => [name, this.form.elements[name].valueAsNumber]).filter(([, value]) => !Number.isNaN(value)),
    );
  }

  /** Whether all are within their bounds; else the browser shows the first that is not. */
  check() {
    return this.form.reportValidity();
  }

  /** Shows the model's own values where nothing is set. @param {object} facts as `/v1/models` has them */
  suggest({ text, audio }) {
    const own = {
      temperature: text.temperature,
      top_k: text.top_k,
      max_completion_tokens: text.max_steps,
      audio_temperature: audio.temperature,
      guidance: audio.guidance,
      max_seconds: audio.max_seconds,
      seed: "fixed",
    };
    for (const [name] of FIELDS) this.form.elements[name].placeholder = own[name];
  }
}

function field(name, label, attributes) {
  const row = element("label", "setting", label), input = element("input");
  Object.assign(input, { name, ...attributes });
  row.append(input);
  return row;
}
