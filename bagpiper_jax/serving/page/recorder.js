/** The microphone. */

import { Fault } from "./faults.js";

const REFUSALS = {
  NotAllowedError: "The microphone is not allowed here; allow it in the browser's settings for this page.",
  NotFoundError: "There is no microphone.",
  NotReadableError: "The microphone is in use by another program.",
};

// What browsers do for telephony takes away what the model is to hear.
const PLAIN = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };

export class Recorder {
  /** Raises Fault: there is no microphone, or none for this page. */
  static async open() {
    if (!navigator.mediaDevices) throw new Fault("Recording needs a page that is opened by https or on localhost.");
    try {
      return new Recorder(await navigator.mediaDevices.getUserMedia({ audio: PLAIN }));
    } catch (error) {
      throw new Fault(REFUSALS[error.name] ?? `The microphone cannot be opened: ${error.message}`);
    }
  }

  constructor(stream) {
    this.stream = stream;
    this.started = performance.now();
    this.context = new AudioContext();
    this.analyser = this.context.createAnalyser();
    this.context.createMediaStreamSource(stream).connect(this.analyser);
    this.wave = new Float32Array(this.analyser.fftSize);
    this.parts = [];
    this.media = new MediaRecorder(stream);
    this.media.ondataavailable = ({ data }) => this.parts.push(data);
    this.media.start();
  }

  get seconds() {
    return (performance.now() - this.started) / 1000;
  }

  /** Loudness now, 0 to 1 over 60 dB. */
  get level() {
    this.analyser.getFloatTimeDomainData(this.wave);
    const power = this.wave.reduce((sum, sample) => sum + sample ** 2, 0) / this.wave.length;
    return Math.max(0, Math.min(1, 1 + Math.log10(power + 1e-12) / 6));
  }

  /** Ends the recording. @returns {Promise<Blob>} in the browser's format. */
  async end() {
    const ended = new Promise((resolve) => { this.media.onstop = resolve; });
    this.media.stop();
    await ended;
    this.stream.getTracks().forEach((track) => track.stop());
    this.context.close();
    return new Blob(this.parts, { type: this.media.mimeType });
  }
}
