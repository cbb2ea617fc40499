/** The sound that is being made: seen and heard as it comes, then to play again and to keep. */

import { Picture } from "./picture.js";
import { Player } from "./player.js";
import { inSeconds, runningSeconds } from "./turn.js";
import { MADE_RATE, fromBase64, fromPcm, wavFile } from "./waveform.js";

const STATES = { waiting: "waiting for more", playing: "playing", paused: "paused" };

export class Sound {
  /** @param {HTMLElement} figure */
  constructor(figure) {
    this.figure = figure;
    this.picture = new Picture(figure);
    this.pause = figure.querySelector(".pause");
    this.audio = figure.querySelector("audio");
    this.download = figure.querySelector(".download");
    this.caption = figure.querySelector("figcaption");
    this.picture.follow(this.audio);
    this.audio.addEventListener("play", () => this.silence());
    this.pause.addEventListener("click", () => this.toggle());
  }

  /** Begins anew; call it where the user pressed something, see `Player`. */
  begin() {
    this.silence();
    this.audio.pause();
    this.player = new Player(MADE_RATE);
    this.pcms = [];
    this.made = false;
    this.figure.hidden = true;
    this.audio.hidden = this.download.hidden = true;
    this.pause.hidden = false;
  }

  /** @param {string} data the next samples, PCM in base64. */
  add(data) {
    if (!this.pcms.length) this.show();
    const pcm = fromBase64(data), samples = fromPcm(pcm);
    this.pcms.push(pcm);
    this.picture.add(samples);
    this.player.add(samples);
  }

  show() {
    this.figure.hidden = false;
    this.picture.clear(MADE_RATE);
    const { player } = this;
    const step = () => {
      if (this.player !== player) return;
      this.tell();
      if (player.state === "over") this.silence();
      else requestAnimationFrame(step);
    };
    step();
  }

  /** No more comes, since it is complete or since it was stopped. */
  end(stopped) {
    this.player?.finish();
    if (stopped || !this.pcms.length) this.silence();
    if (!this.pcms.length) return;
    this.made = true;
    this.picture.complete();
    const wav = URL.createObjectURL(wavFile(this.pcms, MADE_RATE));
    URL.revokeObjectURL(this.audio.src);
    this.audio.src = this.download.href = wav;
    this.audio.hidden = this.download.hidden = false;
    this.tell();
  }

  /** Ends what plays while it is being made. */
  silence() {
    this.player?.stop();
    this.player = null;
    this.pause.hidden = true;
    if (this.made) this.tell();
    if (this.picture.spectrogram) this.picture.point(null);
  }

  async toggle() {
    const { player } = this;
    await (player.paused ? player.resume() : player.pause());
    this.tell();
  }

  tell() {
    const { player, made, picture } = this;
    const { seconds } = picture.spectrogram;
    const length = made ? inSeconds(seconds) : `${runningSeconds(seconds)} so far`;
    const state = player && STATES[player.state];
    this.caption.textContent = state ? `${length}, ${state} at ${runningSeconds(player.position)}` : length;
    if (!player) return;
    picture.point(player.position);
    this.pause.textContent = player.paused ? "Play" : "Pause";
  }
}
