// The network itself: the image of this step in the middle, each level a frame of tiles around what it surrounds, the answers below.

import { fit } from "./canvas.js";
import { accounts, css, mix, taskColour, weightColour } from "./colours.js";

export const PULSE_MS = 450;
const ANSWERS = 0.13; // of the height

// The rectangle of cells, as square as can be, that holds this many numbers: [wide, high].
export function grid(count) {
  const wide = Math.ceil(Math.sqrt(count));
  return [wide, Math.ceil(count / wide)];
}

// The numbers of a unit as it is drawn: incoming weights in reading order, then outgoing ones; a bias only where there is a plane.
export function pictureOf(level, unit) {
  const start = unit * level.stride;
  const found = new Int8Array(level.stride - 1);
  found.set(level.weights.subarray(start, start + level.incoming));
  found.set(level.weights.subarray(start + level.incoming + 1, start + level.stride), level.incoming);
  return found;
}

// Where `count` tiles lie along a rectangular frame about (x, y), clockwise from the top left, one in each corner: {tiles: their middles,
// spacing: the least between two}.
export function along(x, y, halfWidth, halfHeight, count) {
  const [w, h] = [2 * halfWidth, 2 * halfHeight];
  const top = Math.min(Math.ceil(count / 2), Math.max(1, Math.round((count / 2) * (w / (w + h)))));
  const right = Math.max(1, Math.floor(count / 2) - top);
  const sides = [
    [top, x - halfWidth, y - halfHeight, w, 0],
    [right, x + halfWidth, y - halfHeight, 0, h],
    [Math.max(1, count - top - 2 * right), x + halfWidth, y + halfHeight, -w, 0],
    [right, x - halfWidth, y + halfHeight, 0, -h],
  ];
  const tiles = sides.flatMap(([many, left, up, dx, dy]) => Array.from({ length: many }, (_, i) => [left + (dx * i) / many, up + (dy * i) / many]));
  return { tiles: tiles.slice(0, count), spacing: Math.min(...sides.map(([many, , , dx, dy]) => Math.abs(dx + dy) / many)) };
}

// Places and sizes of everything on a canvas: {centre, frames: one a level, fastest innermost, answers}. Frames go inwards from the
// edge, tiles as large as leaves a middle for the image.
export function arrangement(width, height, levels, scale = 1) {
  const foot = Math.max(38 * scale, height * ANSWERS);
  const [x, y] = [width / 2, (height - foot) / 2];
  const rings = levels.slice(0, -1);
  const least = (height - foot) * 0.17;
  const most = Math.min(width, height - foot) * 0.14; // of a tile, however few a level has
  let frames = [];
  for (let fill = 0.94; fill > 0.1; fill -= 0.02) {
    frames = [];
    let [w, h] = [width / 2 - 3, y - 3]; // to the edge of the next frame
    for (const { name, units } of [...rings].reverse()) {
      const room = Math.max(3, Math.min((fill * 4 * (w + h)) / (units + 4 * fill), h * 0.5, most));
      const [halfWidth, halfHeight] = [w - room / 2 - 1, h - room / 2 - 1];
      const { tiles, spacing } = along(x, y, halfWidth, halfHeight, units);
      const tile = Math.max(3, Math.min(room, 0.94 * spacing));
      frames.unshift({ name, x, y, halfWidth, halfHeight, tile, tiles });
      [w, h] = [halfWidth - tile / 2 - 6, halfHeight - tile / 2 - 6];
    }
    if (!frames.length || Math.min(frames[0].halfWidth, frames[0].halfHeight) - frames[0].tile / 2 >= least) break;
  }
  const first = frames[0] ?? { halfWidth: width / 2, halfHeight: y, tile: 0 };
  const centre = { x, y, w: 2 * first.halfWidth - first.tile * 1.6, h: 2 * first.halfHeight - first.tile * 1.6 };
  return { centre, frames, answers: { y: height - foot, h: foot, w: width } };
}

// What a unit's colour says: grey while its level has never been written, the hue of what it was taught, and the newer
// task's hue by as much as its response to earlier tasks is lost.
export function hueOf({ written, retained, earlier, current, theme }) {
  if (!written) return theme.untouched;
  const now = taskColour(current, theme);
  return retained === undefined || earlier === null ? now : mix(now, taskColour(earlier, theme), decided(retained / 255));
}

// A share with its middle drawn apart, so that more than half looks like all and less like none.
function decided(share) {
  return share * share * (3 - 2 * share);
}

// What stands in the middle before the first step: a sample of the wall, and what the network takes it for.
function firstSample({ samples, answers }) {
  const [task, shown] = Object.entries(samples?.tasks ?? {})[0] ?? [];
  const answer = answers?.[task]?.[0];
  return shown?.images && answer !== undefined ? { image: shown.images[0], label: shown.labels[0], answer } : null;
}

const sheets = new Map(); // canvas of a size, used again and again

function sheet(wide, high, name) {
  const key = `${name}:${wide}x${high}`;
  if (!sheets.has(key)) {
    const canvas = Object.assign(document.createElement("canvas"), { width: wide, height: high });
    const brush = canvas.getContext("2d");
    sheets.set(key, { canvas, brush, image: brush.createImageData(wide, high) });
  }
  return sheets.get(key);
}

// Paints numbers in [-127, 127] as a picture of cells into a square of this size.
export function paintCells(brush, numbers, wide, x, y, size, hue, theme) {
  const high = Math.ceil(numbers.length / wide);
  const { canvas, brush: small, image } = sheet(wide, high, "cells");
  for (let i = 0; i < wide * high; i++) weightColour((numbers[i] ?? 0) / 127, hue, theme, image.data, 4 * i);
  small.putImageData(image, 0, 0);
  brush.imageSmoothingEnabled = false;
  brush.drawImage(canvas, Math.round(x - size / 2), Math.round(y - size / 2), Math.round(size), Math.round(size));
}

// The half of the plane on which a unit of two inputs is active.
function paintHalfPlane(brush, [a, b, c], x, y, size, hue, theme) {
  const half = size / 2;
  brush.save();
  brush.beginPath();
  brush.rect(x - half, y - half, size, size);
  brush.clip();
  brush.fillStyle = css(theme.ground);
  brush.fillRect(x - half, y - half, size, size);
  const length = Math.hypot(a, b) || 1;
  const off = (-c / length / 4) * size; // the tile shows the plane from -2 to 2
  brush.translate(x, y);
  brush.rotate(-Math.atan2(b, a));
  brush.fillStyle = css(hue);
  brush.fillRect(off, -size, 2 * size, 2 * size);
  brush.restore();
}

// An image of hexadecimal shades in the text's colour on paper.
export function paintImage(brush, image, [high, wide], x, y, size, theme, colour = theme.contrast) {
  const { canvas, brush: small, image: cells } = sheet(wide, high, "image");
  for (let i = 0; i < wide * high; i++) {
    const [r, g, b] = mix(theme.paper, colour, parseInt(image[i] ?? "0", 16) / 15);
    cells.data.set([r, g, b, 255], 4 * i);
  }
  small.putImageData(cells, 0, 0);
  brush.imageSmoothingEnabled = false;
  const scale = size / Math.max(wide, high);
  brush.drawImage(canvas, Math.round(x - (wide * scale) / 2), Math.round(y - (high * scale) / 2), Math.round(wide * scale), Math.round(high * scale));
}

export class NetworkView {
  constructor() {
    this.pulses = {}; // level -> {at, changes}
    this.cache = null;
  }

  // A level has written: its frame lights up, and its tiles by how much they have changed.
  pulse(name, changed, now) {
    this.pulses[name] = { at: now, changed };
  }

  get moving() {
    const now = performance.now();
    return Object.values(this.pulses).some(({ at }) => now - at < PULSE_MS);
  }

  // state: {portrait, shape, levels: names in the order of the flow, written: level -> writes so far, held: level -> task -> share held
  // back, earlier, current: indices of tasks or null, classes: words, theme, still}. Tiles are painted once per portrait, then copied.
  draw(canvas, state) {
    const { theme, portrait } = state;
    const place = fit(canvas);
    if (!place) return;
    const { brush, width, height, ratio } = place;
    const key = [portrait.step, width, height, theme.ink, state.current, state.earlier, Object.values(state.written).map(Boolean)].join();
    if (this.cache?.key !== key || this.cache.portrait !== portrait) {
      const levels = state.levels.filter((name) => portrait.levels[name]).map((name) => ({ name, ...portrait.levels[name] }));
      this.places = arrangement(width, height, levels, theme.scale);
      const drawn = this.cache?.canvas ?? document.createElement("canvas");
      Object.assign(drawn, { width: canvas.width, height: canvas.height });
      const under = drawn.getContext("2d");
      under.setTransform(ratio, 0, 0, ratio, 0, 0);
      this.paintTiles(under, levels, this.places, state);
      this.cache = { key, portrait, canvas: drawn };
    }
    brush.setTransform(1, 0, 0, 1, 0, 0);
    brush.clearRect(0, 0, canvas.width, canvas.height);
    brush.drawImage(this.cache.canvas, 0, 0);
    brush.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.paintPulses(brush, this.places, state);
  }

  paintTiles(brush, levels, places, state) {
    const { theme, written } = state;
    places.frames.forEach((frame, i) => {
      const level = levels[i];
      this.paintFrame(brush, frame, state, level.name);
      frame.tiles.forEach(([x, y], unit) => {
        const hue = hueOf({ written: written[level.name], retained: level.retained?.[unit], earlier: state.earlier, current: state.current, theme });
        this.paintUnit(brush, level, unit, x, y, frame.tile, hue, theme);
      });
    });
    this.paintSeen(brush, places.centre, state);
    this.paintAnswers(brush, places.answers, levels.at(-1), state);
  }

  paintUnit(brush, level, unit, x, y, size, hue, theme) {
    const start = unit * level.stride;
    if (level.incoming === 2) return paintHalfPlane(brush, level.weights.subarray(start, start + 3), x, y, size, hue, theme);
    const numbers = pictureOf(level, unit);
    paintCells(brush, numbers, grid(numbers.length)[0], x, y, size, hue, theme);
  }

  // The frame of a level; as much of its way round as it holds back of a write is a wall, in the colour of the task it is held back for.
  paintFrame(brush, frame, state, name) {
    const { theme } = state;
    const [w, h, margin] = [frame.halfWidth, frame.halfHeight, frame.tile / 2 + 2];
    brush.lineWidth = 1;
    brush.strokeStyle = theme.faint;
    brush.strokeRect(frame.x - w - margin, frame.y - h - margin, 2 * (w + margin), 2 * (h + margin));
    const [wide, high] = [2 * (w + margin), 2 * (h + margin)];
    const around = 2 * (wide + high);
    brush.lineWidth = 3.5 * (theme.scale ?? 1);
    for (const { colour, from, to } of accounts(state.held[name], state.tasks, theme)) {
      brush.strokeStyle = css(colour);
      brush.setLineDash([around * (to - from), around]);
      brush.lineDashOffset = -around * from;
      brush.strokeRect(frame.x - w - margin, frame.y - h - margin, wide, high);
    }
    brush.setLineDash([]);
    brush.lineDashOffset = 0;
  }

  paintSeen(brush, centre, state) {
    const { theme, portrait } = state;
    const seen = portrait.seen ?? firstSample(state);
    const square = Math.sqrt(seen?.image?.length ?? 0);
    const shape = state.shape ?? (Number.isInteger(square) ? [square, square] : null); // of a crowd of tasks no samples are shown
    brush.textAlign = "center";
    brush.textBaseline = "middle";
    brush.fillStyle = theme.ink;
    const small = Math.max(8, Math.min(13 * (theme.scale ?? 1), centre.h * 0.16));
    brush.font = `${small}px ${state.font}`;
    if (!seen) {
      brush.globalAlpha = 0.7;
      brush.fillText("no sample yet", centre.x, centre.y);
      brush.globalAlpha = 1;
      return;
    }
    const answer = seen.answer ?? seen.scores.indexOf(Math.max(...seen.scores));
    const upright = centre.h > 1.1 * centre.w; // the image above the answer, else beside it
    const side = upright ? Math.min(centre.w * 0.9, centre.h * 0.55) : Math.min(centre.h, centre.w * 0.48);
    const [px, py] = upright ? [centre.x, centre.y - centre.h / 2 + side / 2] : [centre.x - centre.w / 2 + side / 2, centre.y];
    const room = upright ? { x: centre.x, y: centre.y + side / 2, w: centre.w, h: centre.h - side } : { x: centre.x + side / 2, y: centre.y, w: centre.w - side, h: centre.h };
    if (seen.image && shape) paintImage(brush, seen.image, shape, px, py, side, theme);
    else if (seen.point) brush.fillText(seen.point.map((value) => value.toFixed(1)).join(", "), px, py);
    const word = state.classes[answer] ?? String(answer);
    const large = Math.max(11, Math.min(34, room.h * 0.42, (1.7 * room.w) / Math.max(2, word.length)));
    brush.font = `600 ${large}px ${state.font}`;
    brush.fillText(word, room.x, room.y - small * 0.5);
    brush.font = `${small}px ${state.font}`;
    brush.fillText(answer === seen.label ? "right" : `is ${state.classes[seen.label] ?? seen.label}`, room.x, room.y + large * 0.55);
  }

  paintAnswers(brush, place, head, state) {
    if (!head) return;
    const { theme, portrait } = state;
    const scores = portrait.seen?.scores;
    const pitch = place.w / head.units;
    const size = Math.min(pitch * 0.62, place.h - 9 - 12 * (theme.scale ?? 1));
    const most = scores ? Math.max(...scores.map(Math.abs), 1e-9) : 1;
    for (let unit = 0; unit < head.units; unit++) {
      const x = pitch * (unit + 0.5);
      const y = place.y + 4 + size / 2;
      const hue = hueOf({ written: state.written[head.name], retained: head.retained?.[unit], earlier: state.earlier, current: state.current, theme });
      this.paintUnit(brush, head, unit, x, y, size, hue, theme);
      if (scores) {
        brush.fillStyle = css(theme.contrast);
        const share = Math.max(0, scores[unit] / most);
        brush.fillRect(x - size / 2, y + size / 2 + 1.5, size * share, 2.5);
      }
      const room = place.h - size - 9;
      const word = state.classes[unit] ?? String(unit);
      brush.font = `${scores && unit === scores.indexOf(Math.max(...scores)) ? "700 " : ""}${Math.max(7, Math.min(12 * (theme.scale ?? 1), room, (1.9 * pitch) / word.length))}px ${state.font}`;
      brush.textAlign = "center";
      brush.textBaseline = "top";
      brush.fillStyle = theme.ink;
      brush.fillText(word, x, y + size / 2 + 5);
    }
  }

  paintPulses(brush, places, state) {
    const now = performance.now();
    for (const frame of places.frames) {
      const pulse = this.pulses[frame.name];
      const age = pulse ? (now - pulse.at) / PULSE_MS : 1;
      if (age >= 1 || state.still) continue;
      const fade = 1 - age;
      const margin = frame.tile / 2 + 2 + 3 * age;
      brush.strokeStyle = css(taskColour(state.current, state.theme), 0.8 * fade);
      brush.lineWidth = 1 + 3 * fade;
      brush.strokeRect(frame.x - frame.halfWidth - margin, frame.y - frame.halfHeight - margin, 2 * (frame.halfWidth + margin), 2 * (frame.halfHeight + margin));
      const most = Math.max(...pulse.changed, 1e-9);
      frame.tiles.forEach(([x, y], unit) => {
        const share = (pulse.changed[unit] ?? 0) / most;
        if (share < 0.25) return;
        brush.lineWidth = 1 + 1.5 * share;
        brush.strokeStyle = css(taskColour(state.current, state.theme), fade * share);
        brush.strokeRect(x - frame.tile / 2 - 1, y - frame.tile / 2 - 1, frame.tile + 2, frame.tile + 2);
      });
    }
  }

  // The unit under a point of the canvas: {level, unit}, or null.
  unitAt(x, y) {
    for (const frame of this.places?.frames ?? []) {
      const unit = frame.tiles.findIndex(([tx, ty]) => Math.abs(x - tx) <= frame.tile / 2 + 1 && Math.abs(y - ty) <= frame.tile / 2 + 1);
      if (unit >= 0) return { level: frame.name, unit };
    }
    return null;
  }
}
