/** A log-mel spectrogram that grows as samples come: 0 to 8 kHz, 10 ms a column, 70 dB from dark to bright. */

import { fourierTransform } from "./fourier.js";

const ROWS = 128, HIGHEST = 8000, RANGE_DB = 70, COLUMN_S = 0.01, WINDOW_S = 0.032, SILENCE_DB = -60;
const SPANS_S = [5, 10, 20, 40, 80, 160, 320]; // of the time axis: it grows in steps, so that pictures hold still

// The stops of the pictures in the project's other pages.
const STOPS = [[0, 0, 4], [40, 11, 84], [101, 21, 110], [159, 42, 99], [212, 72, 66], [245, 125, 21],
  [250, 193, 39], [252, 255, 164]];
const PALETTE = new Uint32Array(256).map((_, n) => {
  const at = (n / 255) * (STOPS.length - 1), low = Math.min(Math.floor(at), STOPS.length - 2);
  const [r, g, b] = STOPS[low].map((from, c) => Math.round(from + (at - low) * (STOPS[low + 1][c] - from)));
  return (255 << 24) | (b << 16) | (g << 8) | r;
});

export class Spectrogram {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {number} rate samples per second.
   * @param {boolean} whole whether all samples come at once, so that the axis ends where they end.
   */
  constructor(canvas, rate, whole = false) {
    this.canvas = canvas;
    this.rate = rate;
    this.whole = whole;
    this.hop = Math.round(COLUMN_S * rate);
    this.window = Math.round(WINDOW_S * rate);
    this.size = 2 ** Math.ceil(Math.log2(this.window));
    this.transform = fourierTransform(this.size);
    this.re = new Float64Array(this.size);
    this.im = new Float64Array(this.size);
    this.hann = Float64Array.from({ length: this.window }, (_, n) => 0.5 - 0.5 * Math.cos((2 * Math.PI * n) / this.window));
    this.bands = melBands(this.size, rate);
    this.columns = [];
    this.samples = 0;
    this.held = new Float32Array(this.window >> 1); // the first window is centred on the first sample
    this.loudest = SILENCE_DB;
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(canvas);
  }

  get seconds() {
    return this.samples / this.rate;
  }

  /** Seconds of the time axis. */
  get span() {
    const { seconds } = this;
    return this.whole && seconds ? seconds : SPANS_S.find((span) => span >= seconds) ?? seconds;
  }

  add(samples) {
    const all = new Float32Array(this.held.length + samples.length);
    all.set(this.held);
    all.set(samples, this.held.length);
    let start = 0;
    for (; start + this.window <= all.length; start += this.hop) this.columns.push(this.column(all, start));
    this.held = all.slice(start);
    this.samples += samples.length;
    this.draw();
  }

  /** Decibels of one window, lowest band first. */
  column(samples, start) {
    const { re, im, bands, hann } = this;
    re.fill(0);
    im.fill(0);
    for (let n = 0; n < this.window; n++) re[n] = samples[start + n] * hann[n];
    this.transform(re, im);
    const levels = new Float32Array(ROWS);
    for (let row = 0; row < ROWS; row++) {
      const [first, weights] = bands[row];
      let power = 1e-12;
      for (let n = 0; n < weights.length; n++) power += weights[n] * (re[first + n] ** 2 + im[first + n] ** 2);
      levels[row] = 10 * Math.log10(power);
      if (levels[row] > this.loudest) this.loudest = levels[row];
    }
    return levels;
  }

  draw() {
    const width = Math.round(this.canvas.clientWidth * devicePixelRatio);
    const height = Math.round(this.canvas.clientHeight * devicePixelRatio);
    if (!width || !height) return;
    Object.assign(this.canvas, { width, height }); // which also clears it
    if (!this.columns.length) return;
    const share = this.whole ? 1 : Math.min(1, (this.columns.length * COLUMN_S) / this.span);
    this.canvas.getContext("2d").drawImage(this.picture(), 0, 0, width * share, height);
  }

  /** All columns, a pixel each. */
  picture() {
    const width = this.columns.length, pixels = new Uint32Array(width * ROWS);
    for (let x = 0; x < width; x++) {
      for (let row = 0; row < ROWS; row++) {
        const shade = Math.round(255 * (1 + (this.columns[x][row] - this.loudest) / RANGE_DB));
        pixels[(ROWS - 1 - row) * width + x] = PALETTE[Math.max(0, shade)];
      }
    }
    const picture = new OffscreenCanvas(width, ROWS);
    const image = new ImageData(new Uint8ClampedArray(pixels.buffer), width, ROWS);
    picture.getContext("2d").putImageData(image, 0, 0);
    return picture;
  }

  close() {
    this.observer.disconnect();
  }
}

/** Triangles over the bins of the transform, evenly spaced in mel: [first bin, weights] for each row. */
function melBands(size, rate) {
  const mel = (hertz) => 2595 * Math.log10(1 + hertz / 700), hertz = (mels) => 700 * (10 ** (mels / 2595) - 1);
  const top = mel(Math.min(HIGHEST, rate / 2));
  const bin = (row) => (hertz((top * row) / (ROWS + 1)) * size) / rate;
  return Array.from({ length: ROWS }, (_, row) => {
    const centre = bin(row + 1);
    // Where bands are narrower than a bin, a triangle is as wide as two bins and takes what lies beside it.
    const left = Math.max(1, centre - bin(row)), right = Math.max(1, bin(row + 2) - centre);
    const first = Math.max(0, Math.ceil(centre - left)), last = Math.min(size / 2, Math.floor(centre + right));
    const weights = Array.from({ length: last - first + 1 }, (_, n) => {
      const off = first + n - centre;
      return Math.max(0, 1 - (off < 0 ? -off / left : off / right));
    });
    const sum = weights.reduce((a, b) => a + b, 0);
    return [first, weights.map((weight) => weight / sum)];
  });
}
