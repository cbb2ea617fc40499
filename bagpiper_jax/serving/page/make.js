/** A request's reasoning and caption stream in, then its sound, which plays while it is being made. */

import { chat } from "./api.js";
import { Fault } from "./faults.js";
import { soundFor, soundOf } from "./requests.js";
import { Running } from "./running.js";
import { Sound } from "./sound.js";
import { Turn } from "./turn.js";

const HINT_OF_SILENT = "This model has no codec: it writes, and makes no sound.";
const HINT_OF_PRETRAINED = "Write a caption of what you want to hear: the model makes the sound while it plays.";

/**
 * @param {HTMLElement} root the article.
 * @param {import("./settings.js").Settings} settings
 * @param {import("./model.js").Model} model
 * @returns {{fit: (facts: object) => void, take: (caption: string) => void}} adapts the article to a model; puts in a
 *   caption that a sound is to be made of.
 */
export function make(root, settings, model) {
  const running = new Running(root), sound = new Sound(root.querySelector("figure"));
  const form = root.querySelector("form"), turns = root.querySelector(".turns"), request = root.querySelector("#request");
  let asCaption = "caption"; // the choice by which the model takes a text for a caption

  function start(text, isCaption) {
    sound.begin();
    turns.replaceChildren();
    return running.run(async (signal) => {
      const turn = new Turn(turns, "What it makes");
      running.say(isCaption ? "The model begins." : "The model plans.");
      try {
        const body = { model: await model.name(), ...(isCaption ? soundOf : soundFor)(text, settings.chosen) };
        for await (const { kind, value } of chat(body, { key: settings.key, signal })) {
          if (kind === "audio") hear(turn, value);
          else if (kind === "finish") turn.finish = value;
          else turn.add(kind, value);
        }
      } finally {
        turn.end(signal.aborted);
        sound.end(signal.aborted);
      }
      if (!sound.pcms.length) throw new Fault("The model answered without a sound; try another seed or another request.");
      running.say(`The sound is complete: ${sound.caption.textContent}.`);
    });
  }

  function hear(turn, data) {
    if (!sound.pcms.length) {
      turn.root.classList.add("told");
      running.say(`${turn.said} The sound begins.`);
    }
    sound.add(data);
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (running.runs || !settings.check()) return;
    start(request.value.trim(), form.elements.given.value === "caption");
  });
  request.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });

  function fit({ thinks, modalities }) {
    const sounds = modalities.includes("audio");
    form.hidden = !sounds;
    // A model that was only pretrained makes the sound of a caption, and plans nothing: to it a request is a caption.
    root.querySelector(".given").hidden = !thinks;
    asCaption = thinks ? "caption" : "request";
    if (thinks && sounds) return;
    root.querySelector(".hint").textContent = sounds ? HINT_OF_PRETRAINED : HINT_OF_SILENT;
    root.querySelector("[for=request]").textContent = "Caption";
  }

  function take(caption) {
    request.value = caption;
    form.elements.given.value = asCaption;
    request.focus();
  }

  return { fit, take };
}
