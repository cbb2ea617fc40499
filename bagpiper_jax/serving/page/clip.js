/** How a clip comes to the page: chosen, dropped or recorded. */

import { Recorder } from "./recorder.js";
import { runningSeconds } from "./turn.js";

/**
 * @param {HTMLElement} root the article.
 * @param {(blob: Blob, name: string) => void} onClip
 * @param {(error: Error | null) => void} onFault called with null before a new attempt.
 * @returns {{longest: number}} seconds after which a recording ends.
 */
export function clipSources(root, onClip, onFault) {
  const drop = root.querySelector(".drop"), file = root.querySelector("#file");
  file.addEventListener("change", () => {
    const [chosen] = file.files;
    file.value = ""; // so that the same file can be chosen again
    if (chosen) onClip(chosen, chosen.name);
  });
  dropTarget(root, drop, onClip);
  const limits = { longest: 30 };
  recordButton(root, limits, onClip, onFault);
  return limits;
}

function dropTarget(root, drop, onClip) {
  const over = (is) => drop.classList.toggle("over", is);
  root.addEventListener("dragover", (event) => {
    event.preventDefault();
    over(true);
  });
  root.addEventListener("dragleave", (event) => over(root.contains(event.relatedTarget)));
  root.addEventListener("drop", (event) => {
    event.preventDefault();
    over(false);
    const [dropped] = event.dataTransfer.files;
    if (dropped) onClip(dropped, dropped.name);
  });
}

function recordButton(root, limits, onClip, onFault) {
  const button = root.querySelector(".record"), level = root.querySelector(".level");
  let recorder = null, opening = false;

  async function begin() {
    opening = true;
    onFault(null);
    try {
      recorder = await Recorder.open();
    } catch (error) {
      onFault(error);
      return;
    } finally {
      opening = false;
    }
    show();
  }

  async function end() {
    const ended = recorder;
    recorder = null;
    button.textContent = "Record";
    button.classList.remove("recording");
    level.hidden = true;
    onClip(await ended.end(), "the recording");
  }

  function show() {
    if (!recorder) return;
    if (recorder.seconds >= limits.longest) return end();
    level.hidden = false;
    level.firstElementChild.value = recorder.level;
    button.classList.add("recording");
    // The name stays the same while the seconds run, or a screen reader would read each.
    button.textContent = "Stop recording";
    level.lastElementChild.textContent = runningSeconds(recorder.seconds);
    requestAnimationFrame(show);
  }

  button.addEventListener("click", () => (recorder ? end() : opening || begin()));
}
