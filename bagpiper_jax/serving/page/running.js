/** A form whose answer comes as a stream: one at a time, with a button that stops it where the one that asks was. */

import { inWords } from "./faults.js";

export class Running {
  /** @param {HTMLElement} root the article: its `.stop`, `.fault` and `.spoken`, and the button that asks. */
  constructor(root) {
    this.stopButton = root.querySelector(".stop");
    this.askButton = root.querySelector("[type=submit]");
    this.fault = root.querySelector(".fault");
    this.spoken = root.querySelector(".spoken");
    this.stopButton.addEventListener("click", () => this.stop());
  }

  /**
   * Runs one stream to its end; one that still runs is stopped.
   *
   * @param {(signal: AbortSignal) => Promise<void>} work
   */
  async run(work) {
    this.stop();
    const controller = new AbortController();
    this.controller = controller;
    this.fault.textContent = "";
    this.show(true);
    try {
      await work(controller.signal);
    } catch (error) {
      if (this.controller === controller || this.controller === null) this.fault.textContent = inWords(error);
    }
    if (this.controller === controller) this.stop();
  }

  stop() {
    this.controller?.abort();
    this.controller = null;
    this.show(false);
  }

  get runs() {
    return Boolean(this.controller);
  }

  show(runs) {
    const [shown, gone] = runs ? [this.stopButton, this.askButton] : [this.askButton, this.stopButton];
    const focused = document.activeElement === gone;
    shown.hidden = false;
    gone.hidden = true;
    if (focused) shown.focus();
  }

  /** Tells a screen reader; a stream's pieces would be read over each other. */
  say(text) {
    this.spoken.textContent = text;
  }
}
