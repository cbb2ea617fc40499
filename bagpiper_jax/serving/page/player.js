/** Plays samples while more are on their way. */

const LEAD_S = 0.1; // between scheduling and sounding
const FIRST_S = 0.2; // of sound that has to be there before it starts

/**
 * Chunks are scheduled on the clock of Web Audio, each at the sample where the one before it ends, so there is no seam.
 * Where sound is made more slowly than it plays, playing waits; each time until twice as much has come.
 */
export class Player {
  /** Call it where the user pressed something: browsers let no page sound by itself. */
  constructor(rate) {
    // At the rate of the samples, or every chunk would be resampled for itself and its ends would click.
    this.context = new AudioContext({ sampleRate: rate });
    this.rate = rate;
    this.pieces = []; // {at: time of the context, from, seconds: of the sound}
    this.kept = [];
    this.keptSeconds = 0;
    this.made = 0;
    this.needed = FIRST_S;
    this.complete = false;
    this.sources = new Set();
  }

  /** Takes the samples that follow. */
  add(samples) {
    this.kept.push(samples);
    this.keptSeconds += samples.length / this.rate;
    this.made += samples.length / this.rate;
    this.schedule();
  }

  /** No more samples come. */
  finish() {
    this.complete = true;
    this.schedule();
  }

  schedule() {
    const last = this.pieces.at(-1), now = this.context.currentTime;
    const end = last ? last.at + last.seconds : 0;
    const starved = end <= now;
    if (starved && this.keptSeconds < this.needed && !this.complete) return;
    if (starved && last) this.needed *= 2;
    let at = starved ? now + LEAD_S : end, from = last ? last.from + last.seconds : 0;
    for (const samples of this.kept) {
      const seconds = samples.length / this.rate;
      this.start(samples, at);
      this.pieces.push({ at, from, seconds });
      at += seconds;
      from += seconds;
    }
    this.kept = [];
    this.keptSeconds = 0;
  }

  start(samples, at) {
    if (!samples.length) return;
    const source = this.context.createBufferSource(), buffer = this.context.createBuffer(1, samples.length, this.rate);
    buffer.copyToChannel(samples, 0);
    source.buffer = buffer;
    source.connect(this.context.destination);
    source.onended = () => this.sources.delete(source);
    source.start(at);
    this.sources.add(source);
  }

  /** Seconds of the sound that have been heard. */
  get position() {
    const now = this.context.currentTime, piece = this.pieces.findLast(({ at }) => at <= now);
    return piece ? piece.from + Math.min(now - piece.at, piece.seconds) : 0;
  }

  /** "waiting" for more sound, "playing", "paused" or "over". */
  get state() {
    if (this.context.state === "closed" || (this.complete && this.position >= this.made - 1e-6)) return "over";
    if (this.paused) return "paused";
    const last = this.pieces.at(-1);
    return last && this.context.currentTime < last.at + last.seconds ? "playing" : "waiting";
  }

  get paused() {
    return this.context.state === "suspended";
  }

  pause() {
    return this.context.suspend();
  }

  resume() {
    return this.context.resume();
  }

  stop() {
    this.sources.forEach((source) => source.stop());
    if (this.context.state !== "closed") this.context.close();
  }
}
