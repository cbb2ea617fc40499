/** A clip's caption streams in, then answers to questions about it. */

import { chat } from "./api.js";
import { clipSources } from "./clip.js";
import { inWords } from "./faults.js";
import { Picture } from "./picture.js";
import { aboutClip } from "./requests.js";
import { Running } from "./running.js";
import { Turn, element, inSeconds } from "./turn.js";
import { HEARD_RATE, toBase64, toPcm, wavFile, waveformOf } from "./waveform.js";

/**
 * @param {HTMLElement} root the article.
 * @param {import("./settings.js").Settings} settings
 * @param {import("./model.js").Model} model
 * @param {(caption: string) => void} onSoundWanted called with a caption that the user wants to hear.
 * @returns {(facts: object) => void} adapts the article to a model.
 */
export function listen(root, settings, model, onSoundWanted) {
  const running = new Running(root), picture = new Picture(root);
  const form = root.querySelector("form"), question = root.querySelector("#question");
  const figure = root.querySelector("figure"), audio = root.querySelector("audio"), turns = root.querySelector(".turns");
  const showFault = (error) => { running.fault.textContent = error ? inWords(error) : ""; };
  let clip = ""; // a WAV file in base64
  let taken = 0; // clips so far
  let sounds = false; // whether the model can make sound

  async function take(blob, name) {
    const number = ++taken;
    running.stop();
    showFault(null);
    try {
      const samples = await waveformOf(blob, name), wav = wavFile([toPcm(samples)], HEARD_RATE);
      const data = await toBase64(wav);
      if (number !== taken) return; // another clip has come meanwhile
      clip = data;
      show(samples, wav, name);
    } catch (error) {
      showFault(error);
      return;
    }
    turns.replaceChildren();
    await ask("", "What it hears", offer);
  }

  /** From the caption back to sound. */
  function offer(turn) {
    if (!sounds || !turn.said) return;
    const button = element("button", "", "Make a sound of this");
    button.type = "button";
    button.addEventListener("click", () => onSoundWanted(turn.said));
    turn.root.append(button);
  }

  function show(samples, wav, name) {
    figure.hidden = false;
    picture.clear(HEARD_RATE, true);
    picture.add(samples);
    URL.revokeObjectURL(audio.src);
    audio.src = URL.createObjectURL(wav);
    root.querySelector("figcaption").textContent = `${name}, ${inSeconds(samples.length / HEARD_RATE)}`;
    form.hidden = false;
  }

  function ask(text, title, whenComplete = () => {}) {
    return running.run(async (signal) => {
      const turn = new Turn(turns, title);
      running.say(text ? "The model answers." : "The model listens.");
      try {
        const body = { model: await model.name(), ...aboutClip(clip, text, settings.chosen) };
        for await (const { kind, value } of chat(body, { key: settings.key, signal })) {
          if (kind === "finish") turn.finish = value;
          else turn.add(kind, value);
        }
      } finally {
        turn.end(signal.aborted);
        running.say(turn.said);
      }
      whenComplete(turn);
    });
  }

  picture.follow(audio);
  const sources = clipSources(root, take, showFault);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (running.runs || !clip || !settings.check()) return;
    const text = question.value.trim();
    question.value = "";
    ask(text, text);
  });
  return ({ limits, modalities }) => {
    sources.longest = limits.audio_seconds;
    sounds = modalities.includes("audio");
  };
}
