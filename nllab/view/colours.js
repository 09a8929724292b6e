// What colours mean, everywhere: tasks have hues, levels have shades and dashes, weights go from the ground to a hue or to ink.

export const TASKS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B26F00"];
export const DASHES = { solid: [], dash: [7, 4], dot: [2, 3], dashdot: [7, 3, 2, 3], longdash: [11, 4], longdashdot: [11, 4, 2, 4] };

export function channels(colour) {
  const hex = /^#(..)(..)(..)$/.exec(colour);
  if (hex) return hex.slice(1).map((part) => parseInt(part, 16));
  return (colour.match(/[\d.]+/g) ?? [128, 128, 128]).slice(0, 3).map(Number);
}

// Between two colours, given as channels: 0 is the first, 1 the second.
export function mix(one, other, share) {
  return one.map((value, i) => Math.round(value + (other[i] - value) * share));
}

export function css(colour, alpha = 1) {
  return alpha === 1 ? `rgb(${colour.join(",")})` : `rgba(${colour.join(",")},${alpha})`;
}

// A colour that reads on a dark page: a third of the way to white.
export function lifted(colour) {
  return css(mix(channels(colour), [255, 255, 255], 0.33));
}

// The colours of a page, read from its text.
export function themeOf(ink) {
  const text = channels(ink);
  const dark = text.reduce((sum, part) => sum + part, 0) > 384;
  return {
    ink, dark, text,
    paper: dark ? [20, 23, 28] : [255, 255, 255],
    ground: dark ? [46, 51, 60] : [233, 235, 239],
    untouched: dark ? [150, 156, 166] : [118, 124, 134],
    contrast: dark ? [244, 246, 249] : [24, 28, 34],
    faint: "rgba(128,128,128,0.25)",
    colour: (value) => (dark && value.startsWith("#") ? lifted(value) : value),
  };
}

export function taskColour(index, theme) {
  return channels(theme.colour(TASKS[index % TASKS.length]));
}

// A weight as a colour: 0 the ground, positive towards the hue, negative towards ink. value in [-1, 1]. Written into `data` from `at` on,
// red, green, blue, opacity: a network has thousands of weights, drawn many times a second.
export function weightColour(value, hue, { ground, contrast }, data = [], at = 0) {
  const size = Math.min(1, Math.sqrt(Math.abs(value)));
  const end = value > 0 ? hue : contrast;
  for (let i = 0; i < 3; i++) data[at + i] = Math.round(ground[i] + (end[i] - ground[i]) * size);
  data[at + 3] = 255;
  return data;
}

const SCALES = {
  Cividis: ["#00224E", "#35456C", "#666970", "#948E77", "#C8B866", "#FEE838"],
  Greys: ["#000000", "#FFFFFF"],
};

// The colour of a share in [0, 1] on a scale: a name, or a list of [share, colour].
export function onScale(scale, share, reversed = false) {
  const at = Math.min(1, Math.max(0, reversed ? 1 - share : share));
  const stops = Array.isArray(scale) ? scale : SCALES[scale].map((colour, i, all) => [i / (all.length - 1), colour]);
  const next = stops.findIndex(([place]) => place >= at);
  if (next <= 0) return channels(stops[0][1]);
  const [[low, one], [high, other]] = [stops[next - 1], stops[next]];
  return mix(channels(one), channels(other), high > low ? (at - low) / (high - low) : 1);
}

// What was held back of a write, task by task in their order: [{task, share, colour, from, to}], in parts of the whole write. shares: task ->
// share, "" where nobody knows for whose sake.
export function accounts(shares, tasks, theme) {
  let at = 0;
  const named = Object.entries(shares ?? {}).filter(([, share]) => share > 0);
  named.sort(([one], [other]) => (tasks.indexOf(one) + 1 || Infinity) - (tasks.indexOf(other) + 1 || Infinity));
  return named.map(([task, share]) => {
    const from = at;
    at = Math.min(1, at + share);
    return { task, share, from, to: at, colour: tasks.includes(task) ? taskColour(tasks.indexOf(task), theme) : theme.untouched };
  });
}
