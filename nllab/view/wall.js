// A wall of test images, a block for each task: a card shows its image while the network reads it, and what it is taken for otherwise.

import { fit } from "./canvas.js";
import { css, mix, taskColour } from "./colours.js";
import { paintImage } from "./network.js";

export const FLIP_MS = 320;

// Blocks of cards below one another: {cell, cards: [{task, index, x, y}], heads: [{task, y}]}, cells as large as fit, images never stretched.
export function bricks(width, height, counts, scale = 1) {
  const head = scale * Math.max(13, Math.min(16, height * 0.05));
  const names = Object.keys(counts);
  let best = null;
  for (let across = 1; across <= 40; across++) {
    const cell = width / across;
    const rows = names.map((name) => Math.ceil(counts[name] / across));
    const tall = rows.reduce((sum, count) => sum + count * cell + head, 0);
    if (tall <= height) {
      best = { across, cell, rows };
      break;
    }
  }
  best ??= { across: 40, cell: width / 40, rows: names.map((name) => Math.ceil(counts[name] / 40)) };
  let y = 0;
  const heads = [];
  const cards = [];
  names.forEach((task, i) => {
    heads.push({ task, y });
    for (let index = 0; index < counts[task]; index++) {
      cards.push({ key: `${task}:${index}`, task, index, x: (index % best.across) * best.cell, y: y + head + Math.floor(index / best.across) * best.cell });
    }
    y += head + best.rows[i] * best.cell;
  });
  return { cell: best.cell, head, heads, cards };
}

export class WallView {
  constructor() {
    this.flips = new Map(); // card -> {at, from}
    this.known = new Map();
    this.faces = new Map(); // card -> what is drawn of it
  }

  get moving() {
    return this.flips.size > 0; // a card that has turned is drawn once more, and no longer moves
  }

  // state: {samples: {tasks, shape}, answers: task -> classes, tasks: names, classes: words, theme, font, still}. anew: whether it is
  // another than before; if not, only cards that turn are drawn.
  draw(canvas, state, anew = true) {
    const place = fit(canvas);
    if (!place) return this.flips.clear(); // nobody sees them turn
    const now = performance.now();
    const all = anew || place.resized || !this.laid;
    if (all) this.lay(place, state);
    for (const card of this.laid.cards) if (all || this.flips.has(card.key)) this.drawCard(place.brush, card, this.laid.cell, state, now);
  }

  // Where everything lies; the whole wall is cleared where that has changed, else cards are drawn over one by one.
  lay({ brush, width, height, ratio }, { samples, answers, tasks, theme, font }) {
    const counts = Object.fromEntries(Object.entries(samples.tasks).map(([name, { labels }]) => [name, labels.length]));
    const key = JSON.stringify([width, height, ratio, counts, theme.scale, theme.ink, font]);
    if (key !== this.laid?.key) {
      this.laid = { key, ...bricks(width, height, counts, theme.scale) };
      this.faces.clear();
      brush.clearRect(0, 0, width, height);
    }
    const { head, heads } = this.laid;
    brush.textBaseline = "middle";
    for (const { task, y } of heads) {
      const right = answers ? samples.tasks[task].labels.filter((label, i) => answers[task]?.[i] === label).length : 0;
      brush.clearRect(0, y, width, head);
      brush.font = `600 ${head * 0.82}px ${font}`;
      brush.textAlign = "left";
      brush.fillStyle = css(taskColour(tasks.indexOf(task), theme));
      brush.fillText(answers ? `${task} · ${right} of ${counts[task]} right` : `${task} · ${counts[task]} test images`, 0, y + head / 2);
    }
  }

  drawCard(brush, { key, task, index, x, y }, cell, state, now) {
    const { samples, answers, theme } = state;
    const { labels, images } = samples.tasks[task];
    const answer = answers?.[task]?.[index];
    const right = answer === labels[index];
    const known = this.known.get(key);
    if (known !== undefined && known !== right && !state.still) this.flips.set(key, { at: now, from: known });
    this.known.set(key, right);
    const flip = this.flips.get(key);
    const age = flip ? (now - flip.at) / FLIP_MS : 1;
    const face = age < 0.5 ? flip.from : right;
    const squeeze = age < 1 ? Math.abs(1 - 2 * age) : 1;
    if (age >= 1) this.flips.delete(key);
    const drawn = squeeze < 1 ? undefined : `${face} ${answer}`;
    if (drawn && drawn === this.faces.get(key)) return;
    this.faces.set(key, drawn);
    brush.clearRect(x, y, cell, cell);
    const [side, mx, my] = [cell - 2, x + cell / 2, y + cell / 2];
    brush.save();
    brush.beginPath();
    brush.rect(x, y, cell, cell);
    brush.clip(); // a long word would lie on neighbours that are not drawn again
    brush.translate(mx, my);
    brush.scale(Math.max(0.05, squeeze), 1);
    const colour = taskColour(state.tasks.indexOf(task), theme);
    if (face) {
      paintImage(brush, images[index], samples.shape, 0, 0, side, theme, colour);
      brush.strokeStyle = css(colour);
      brush.lineWidth = 1;
      brush.strokeRect(-side / 2, -side / 2, side, side);
    } else {
      brush.fillStyle = css(theme.ground);
      brush.fillRect(-side / 2, -side / 2, side, side);
      brush.globalAlpha = 0.22;
      paintImage(brush, images[index], samples.shape, 0, 0, side, { ...theme, paper: theme.ground });
      brush.globalAlpha = 1;
      const word = answer === undefined ? "" : String(state.classes[answer] ?? answer);
      brush.fillStyle = theme.ink;
      brush.textAlign = "center";
      brush.textBaseline = "middle";
      brush.font = `600 ${Math.max(6, Math.min(side * 0.62, (1.6 * side) / Math.max(1, word.length)))}px ${state.font}`;
      if (cell >= 9) brush.fillText(word, 0, side * 0.04);
    }
    brush.restore();
  }

  // What a card says in words, for whoever points at it.
  cardAt(x, y, { samples, answers, classes }) {
    const { cell, cards } = this.laid ?? { cards: [] };
    const card = cards.find((one) => x >= one.x && x < one.x + cell && y >= one.y && y < one.y + cell);
    if (!card) return null;
    const label = samples.tasks[card.task].labels[card.index];
    const answer = answers?.[card.task]?.[card.index];
    const word = (value) => classes[value] ?? value;
    return answer === label ? `${word(label)}, read right` : `${word(label)}, taken for ${word(answer)}`;
  }
}

// The colour of each class: the hue of the task that has it, its first class full, further ones paler.
export function classShades(tasks, theme) {
  const found = {};
  Object.values(tasks).forEach(({ labels }, i) => {
    [...new Set(labels)].sort((a, b) => a - b).forEach((label, k) => (found[label] ??= mix(taskColour(i, theme), theme.paper, Math.min(0.75, 0.5 * k))));
  });
  return found;
}

// The plane, coloured by what the network would answer at every point, with test samples as dots.
export class SurfaceView {
  moving = false;

  draw(canvas, { surface, samples, theme }) {
    const place = fit(canvas);
    if (!place) return;
    const { brush, width, height } = place;
    brush.clearRect(0, 0, width, height);
    const [left, right, bottom, top] = surface.span;
    const unit = Math.min(width / (right - left), height / (top - bottom));
    const [wide, high] = [(right - left) * unit, (top - bottom) * unit];
    const [x0, y0] = [(width - wide) / 2, (height - high) / 2];
    const rows = surface.classes;
    const cellX = wide / rows[0].length;
    const cellY = high / rows.length;
    const shades = classShades(samples.tasks, theme);
    const colour = (c) => css(mix(theme.paper, shades[c] ?? theme.untouched, 0.45));
    rows.forEach((line, row) => {
      for (let column = 0; column < line.length; ) {
        let end = column + 1;
        while (end < line.length && line[end] === line[column]) end++;
        brush.fillStyle = colour(parseInt(line[column], 16));
        brush.fillRect(x0 + column * cellX, y0 + high - (row + 1) * cellY, (end - column) * cellX + 0.5, cellY + 1);
        column = end;
      }
    });
    const marks = [(x, y, r) => brush.arc(x, y, r, 0, 7), (x, y, r) => brush.rect(x - r, y - r, 2 * r, 2 * r)];
    const dot = Math.max(1.5, Math.min(3.2, width / 130));
    for (const { points, labels } of Object.values(samples.tasks)) {
      points.forEach(([px, py], i) => {
        brush.beginPath();
        marks[labels[i] % 2](x0 + (px - left) * unit, y0 + high - (py - bottom) * unit, dot);
        brush.fillStyle = css(shades[labels[i]]);
        brush.strokeStyle = css(theme.paper);
        brush.lineWidth = 0.7;
        brush.fill();
        brush.stroke();
      });
    }
  }
}
