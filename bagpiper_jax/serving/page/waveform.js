/** Waveforms: Float32Array of mono samples within [-1, 1]; PCM: Int16Array, little-endian as every browser is. */

import { Fault } from "./faults.js";

/** Samples per second of what the model hears. */
export const HEARD_RATE = 16000;

/** Samples per second of `pcm16`, as clients of the OpenAI API assume it. */
export const MADE_RATE = 24000;

const LARGEST = 200e6; // bytes of a file; decoded it takes many times its size in memory

/** A file or a recording, decoded, mixed down and resampled to `HEARD_RATE`. */
export async function waveformOf(blob, name) {
  if (blob.size > LARGEST) throw new Fault(`${name} is too large; choose a clip of some seconds.`);
  const bytes = await blob.arrayBuffer();
  let decoded;
  try {
    decoded = await new OfflineAudioContext(1, 1, HEARD_RATE).decodeAudioData(bytes);
  } catch {
    throw new Fault(`${name} is no sound that this browser can read; try WAV, FLAC, MP3 or Ogg.`);
  }
  if (!decoded.length) throw new Fault(`${name} holds no sound.`);
  const mono = new Float32Array(decoded.length);
  for (let channel = 0; channel < decoded.numberOfChannels; channel++) {
    decoded.getChannelData(channel).forEach((sample, n) => { mono[n] += sample / decoded.numberOfChannels; });
  }
  return mono;
}

export function toPcm(samples) {
  return Int16Array.from(samples, (sample) => Math.max(-32768, Math.min(32767, Math.round(32768 * sample))));
}

export function fromPcm(pcm) {
  return Float32Array.from(pcm, (sample) => sample / 32768);
}

/** A WAV file of 16-bit mono samples. */
export function wavFile(pcms, rate) {
  const size = pcms.reduce((sum, pcm) => sum + pcm.byteLength, 0);
  const header = new DataView(new ArrayBuffer(44));
  const text = (at, letters) => [...letters].forEach((c, n) => header.setUint8(at + n, c.charCodeAt(0)));
  text(0, "RIFF");
  header.setUint32(4, 36 + size, true);
  text(8, "WAVEfmt ");
  header.setUint32(16, 16, true);
  header.setUint16(20, 1, true); // PCM
  header.setUint16(22, 1, true); // channels
  header.setUint32(24, rate, true);
  header.setUint32(28, 2 * rate, true);
  header.setUint16(32, 2, true);
  header.setUint16(34, 16, true);
  text(36, "data");
  header.setUint32(40, size, true);
  return new Blob([header, ...pcms], { type: "audio/wav" });
}

export function fromBase64(data) {
  return new Int16Array(Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0)).buffer);
}

export function toBase64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
