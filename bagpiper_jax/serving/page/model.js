/** The model that answers, and whether its server is there. */

import { getJson } from "./api.js";
import { Refusal, inWords } from "./faults.js";
import { element, inSeconds } from "./turn.js";

const EVERY_MS = 10_000;

export class Model {
  /**
   * @param {HTMLElement} card a `dl`.
   * @param {HTMLElement} standing one line.
   * @param {import("./settings.js").Settings} settings
   * @param {(facts: object) => void} onFacts called with what `/v1/models` tells under `bagpiper`.
   */
  constructor(card, standing, settings, onFacts) {
    Object.assign(this, { card, standing, settings, onFacts });
    this.id = "";
  }

  /** Looks now and then, while the page is being looked at. */
  async watch() {
    if (!document.hidden) await this.look();
    setTimeout(() => this.watch(), EVERY_MS);
  }

  async look() {
    try {
      await getJson("health");
      // A server that was away may have come back with another model.
      if (this.standing.className === "faulty") this.id = "";
      await this.name();
      this.tell("Ready");
    } catch (error) {
      const ends = error instanceof Refusal && error.status === 503;
      this.tell(ends ? "The server is about to end." : inWords(error), true);
    }
  }

  /** What requests call the model. Raises Fault: the server does not tell, and why. */
  async name() {
    if (!this.id) {
      const { data: [{ id, bagpiper: facts }] } = await getJson("v1/models", this.settings.key);
      this.id = id;
      this.show(facts);
      this.onFacts(facts);
    }
    return this.id;
  }

  show(facts) {
    const rows = {
      Name: this.id,
      Stage: facts.stage,
      Answers: facts.modalities.join(" and "),
      "Longest clip it hears": inSeconds(facts.limits.audio_seconds),
      "Longest sound it makes": facts.modalities.includes("audio") && inSeconds(facts.audio.max_seconds),
      "System prompt": facts.system_prompt,
    };
    this.card.replaceChildren(...Object.entries(rows).filter(([, value]) => value).map(([name, value]) => {
      const row = element("div");
      row.append(element("dt", "", name), element("dd", "", value));
      return row;
    }));
  }

  tell(text, isFault = false) {
    // Only news are written, since a screen reader reads whatever is.
    if (this.standing.textContent !== text) this.standing.textContent = text;
    this.standing.className = isFault ? "faulty" : "ready";
  }
}
