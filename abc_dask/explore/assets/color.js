// Palettes: what a code of 16 bits is drawn as. The fourth byte is the height on the page:
// higher ones lie above; 0 is for terms, of which none is above the others.

const LIGHT = ['#fbe3a8', '#fdb863', '#f5793b', '#d63b58', '#9c2079', '#5b1378', '#220a4a'];
const DARK = ['#3a3f78', '#2f6aa0', '#1f93a0', '#2fb784', '#86d24a', '#d9e021', '#fdf6a0'];
const ZERO = { light: '#dcdcdc', dark: '#3c4043' };
export const MISSING = { light: '#b9a9a0', dark: '#6a5a50' };
const PAPER = { light: '#ffffff', dark: '#17191c' };
// two genes: the first one, the second one, both
const PAIR = { light: ['#d6006c', '#0a8fd0', '#2b0a4a'], dark: ['#ff4fa3', '#35c3ff', '#ffffff'] };

export const rgb = (color) => [1, 3, 5].map((k) => parseInt(color.slice(k, k + 2), 16));
export const hex = (parts) => '#' + parts.map((v) => Math.round(v).toString(16).padStart(2, '0')).join('');
export const paper = (theme) => PAPER[theme];
export const zeroColor = (theme) => ZERO[theme];
export const pairColors = (theme) => PAIR[theme];
export const mixed = (a, b, t) => a.map((v, k) => v + (b[k] - v) * t);

// The colour at a part of the scale, 0 to 1.
export function ramp(part, theme) {
  const stops = theme === 'dark' ? DARK : LIGHT;
  const at = Math.min(1, Math.max(0, part)) * (stops.length - 1);
  const low = Math.min(stops.length - 2, Math.floor(at));
  return mixed(rgb(stops[low]), rgb(stops[low + 1]), at - low);
}

// Lower edge of a step, the same number as the builder's.
export function stepEdge(about, step) {
  if (step <= 1 - !about.zero) return about.low;
  if (step > 254) return about.high;
  const number = about.zero ? step - 1 : step;
  return Math.fround(about.low + ((about.high - about.low) / 254) * number);
}

export function stepValue(about, step) {
  if (step === 255) return NaN;
  if (step === 0 && about.zero) return 0;
  const width = (about.high - about.low) / 254;
  return about.low + width * ((about.zero ? step - 1 : step) + 0.5);
}

export function partOf(value, limits) {
  return limits[1] > limits[0] ? (value - limits[0]) / (limits[1] - limits[0]) : Number(value > limits[0]);
}

// Limits that a few values do not stretch: the 1st and 99th percentile, zeros left out where they
// have a colour of their own.
export function usualLimits(about, counts) {
  const first = about.zero ? 1 : 0, last = about.zero ? 254 : 253;
  let all = 0;
  for (let step = first; step <= last; step++) all += counts[step];
  if (!all) return [about.low, about.high];
  const reach = (part) => {
    let step = first, sum = counts[first];
    while (sum <= all * part && step < last) sum += counts[++step];
    return step;
  };
  return [stepEdge(about, reach(0.01)), stepEdge(about, reach(0.99) + 1)];
}

function filled() {
  return new Uint8Array(256 * 256 * 4);
}

export function termPalette(colors, theme) {
  const palette = filled();
  const missing = rgb(MISSING[theme]);
  for (let code = 0; code < 65536; code++) palette.set(missing, 4 * code);
  colors.forEach((color, code) => palette.set(rgb(color), 4 * code));
  return palette;
}

export function valuePalette(about, limits, theme) {
  const palette = filled();
  for (let step = 0; step < 256; step++) palette.set([...valueColor(about, limits, theme, step), height(about, step)], 4 * step);
  return palette;
}

export function valueColor(about, limits, theme, step) {
  if (step === 255) return rgb(MISSING[theme]);
  if (step === 0 && about.zero) return rgb(ZERO[theme]);
  return ramp(partOf(stepValue(about, step), limits), theme);
}

const height = (about, step) => (step === 255 || (step === 0 && about.zero) ? 1 : Math.max(2, step));

// Two genes at once: code is the first gene's step, and 256 times the second one's.
export function pairPalette(one, two, limits, theme) {
  const palette = filled();
  const [zero, missing] = [rgb(ZERO[theme]), rgb(MISSING[theme])];
  const [first, second, both] = PAIR[theme].map(rgb);
  const part = (about, step, own) => Math.min(1, Math.max(0, step ? partOf(stepValue(about, step), own) : 0));
  for (let b = 0; b < 256; b++) {
    for (let a = 0; a < 256; a++) {
      const at = 4 * (a + 256 * b);
      if (a === 255 || b === 255) { palette.set([...missing, 1], at); continue; }
      const s = part(one, a, limits[0]), t = part(two, b, limits[1]);
      const low = mixed(zero, first, s), high = mixed(second, both, s);
      palette.set([...mixed(low, high, t), a || b ? Math.max(2, Math.round(127 * (s + t))) : 1], at);
    }
  }
  return palette;
}
