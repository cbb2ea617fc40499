/**
 * Power spectra of windows of real samples.
 *
 * @param {number} size of the transform, a power of two.
 * @returns {(re: Float64Array, im: Float64Array) => void} the radix-2 transform, in place.
 */
export function fourierTransform(size) {
  const cos = new Float64Array(size / 2), sin = new Float64Array(size / 2), reversed = new Uint32Array(size);
  for (let n = 0; n < size / 2; n++) {
    cos[n] = Math.cos((2 * Math.PI * n) / size);
    sin[n] = -Math.sin((2 * Math.PI * n) / size);
  }
  for (let n = 1; n < size; n++) reversed[n] = (reversed[n >> 1] >> 1) | (n & 1 ? size >> 1 : 0);
  return (re, im) => {
    for (let n = 0; n < size; n++) {
      const other = reversed[n];
      if (other > n) {
        [re[n], re[other]] = [re[other], re[n]];
        [im[n], im[other]] = [im[other], im[n]];
      }
    }
    for (let half = 1; half < size; half *= 2) {
      const stride = size / (2 * half);
      for (let start = 0; start < size; start += 2 * half) {
        for (let n = 0; n < half; n++) butterfly(re, im, start + n, half, cos[n * stride], sin[n * stride]);
      }
    }
  };
}

function butterfly(re, im, at, half, c, s) {
  const other = at + half;
  const x = re[other] * c - im[other] * s, y = re[other] * s + im[other] * c;
  re[other] = re[at] - x;
  im[other] = im[at] - y;
  re[at] += x;
  im[at] += y;
}
