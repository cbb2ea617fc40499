/** A spectrogram in the page, with its time axis and a line where it is being played. */

import { Spectrogram } from "./spectrogram.js";
import { element, inSeconds } from "./turn.js";

const STEPS_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100], MOST_MARKS = 6;

export class Picture {
  /** @param {HTMLElement} figure its `canvas`, `.axis` and `.playhead`. */
  constructor(figure) {
    this.canvas = figure.querySelector("canvas");
    this.axis = figure.querySelector(".axis");
    this.playhead = figure.querySelector(".playhead");
    this.label = this.canvas.getAttribute("aria-label");
  }

  /** Begins anew; the arguments are those of `Spectrogram`. */
  clear(rate, whole = false) {
    this.spectrogram?.close();
    this.spectrogram = new Spectrogram(this.canvas, rate, whole);
    this.playhead.hidden = true;
    this.mark();
  }

  add(samples) {
    const before = this.spectrogram.span;
    this.spectrogram.add(samples);
    this.canvas.setAttribute("aria-label", `${this.label}, ${inSeconds(this.spectrogram.seconds)}`);
    if (this.spectrogram.span !== before) this.mark();
  }

  /** No more samples come: the axis ends where they end. */
  complete() {
    this.spectrogram.whole = true;
    this.spectrogram.draw();
    this.mark();
  }

  mark() {
    const { span } = this.spectrogram, step = STEPS_S.find((each) => span / each <= MOST_MARKS) ?? span;
    this.axis.replaceChildren();
    // A mark nearer to the end would stand beyond the picture.
    for (let at = 0; at <= 0.95 * span; at += step) {
      const mark = element("span", "", inSeconds(at));
      mark.style.left = `${(100 * at) / span}%`;
      this.axis.append(mark);
    }
  }

  /** Shows where it is being played; `null` takes the line away. */
  point(seconds) {
    this.playhead.hidden = seconds === null;
    this.playhead.style.left = `${(100 * (seconds ?? 0)) / this.spectrogram.span}%`;
  }

  /** Lets the line follow an `audio` element. */
  follow(audio) {
    const step = () => {
      this.point(audio.currentTime);
      if (!audio.paused) requestAnimationFrame(step);
    };
    audio.addEventListener("play", step);
    audio.addEventListener("seeked", step);
  }
}
