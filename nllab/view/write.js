// One write, opened: the sample, the error, the gradient as an arrow, what earlier inputs have used as an ellipse, what of the arrow is
// held back, and what was written. Everything drawn was measured on this write.

import { fit } from "./canvas.js";
import { css, mix, taskColour } from "./colours.js";
import { grid, paintCells, paintImage } from "./network.js";

export const PHASES = ["Forward", "Error", "Gradient", "Held back", "What passes", "The write"];
export const PHASE_MS = 2600; // of slow motion
const GROW_MS = 700; // in which what is new in a phase comes

const capital = (text) => text[0].toUpperCase() + text.slice(1);
const percent = (share) => (share > 0.99 && share < 1 ? "over 99 %" : `${Math.round(100 * share)} %`);

// The share of the arrow that is held back, in the plane that is drawn.
export function heldShare({ gradient, passed }) {
  return Math.hypot(gradient[0] - passed[0], gradient[1] - passed[1]) / Math.hypot(...gradient);
}

// One sentence for each phase. opened: of anatomy.py. words: of the classes; writer: who wrote, in words.
export function sentences(opened, words, writer) {
  const { seen, plane, level, period, acting, earlier } = opened;
  if (!plane) return PHASES.map(() => (seen ? `No error reached the level ${level} in this step, so there is nothing to write.` : `Nothing can be shown of the level ${level}: it stands still, or the memory does not see what it reads.`));
  const word = (one) => words[one] ?? String(one);
  const answer = seen ? seen.scores.indexOf(Math.max(...seen.scores)) : 0;
  const collected = period === 1 ? "this batch" : `the ${period} steps since its last write`;
  const deep = acting === "deep";
  const task = earlier.find((name) => opened.spill[name]);
  const moves = task && opened.spill[task];
  const there = (share) => share.toFixed(2);
  const past = earlier.reduce((sum, name) => sum + Math.max(0, opened.held_by?.[name] ?? 0), 0);
  const sake = past > 0 ? `; of the whole step ${percent(past)} for the sake of ${earlier.length > 1 ? "earlier tasks" : earlier[0]}` : "";
  return [
    seen ? `The first image of the batch passes through the levels. Answer: ${word(answer)}; right is ${word(seen.label)}.` : "The batch passes through the levels.",
    seen ? `Bars are the scores, the outline is what was asked for: 1 for ${word(seen.label)}, 0 for the others.` : "The error is how far the scores are from what was asked for.",
    `What the error asks of the level ${level} over ${collected}. Its main direction, ${percent(plane.share)} of it, is the arrow.`,
    deep
      ? `The ellipse is what earlier inputs have used of this plane. ${capital(percent(heldShare(plane)))} of the arrow lies where they are, and is held back${sake}.`
      : `${writer} knows nothing of earlier inputs: nothing is held back. The ellipse is what the watching memory has seen.`,
    deep ? "What passes points where few inputs have been." : "All of it passes.",
    moves
      ? deep
        ? `Written. When the outputs for this batch move by 1, those for ${task} move by ${there(moves.written)}; the gradient alone would move them by ${there(moves.gradient)}.`
        : `Written. When the outputs for this batch move by 1, those for ${task} move by ${there(moves.written)}; had the memory written, by ${there(moves.bent)}.`
      : "Written. There is no earlier task yet that it could disturb.",
  ];
}

export class WriteView {
  // reduced: whether nothing may move.
  constructor({ reduced = false } = {}) {
    this.reduced = reduced;
    const made = (tag, className) => Object.assign(document.createElement(tag), { className });
    this.root = made("div", "nl-write");
    this.canvas = made("canvas", "nl-write-canvas");
    this.canvas.setAttribute("role", "img");
    this.text = made("p", "nl-write-text");
    this.root.append(this.canvas, this.text);
    this.root.hidden = true;
    this.phase = 0;
  }

  // told: {classes, tasks, shape, writer}; null closes it.
  show(opened, told) {
    Object.assign(this, { opened, told, dirty: true });
    this.root.hidden = !opened;
    if (opened) this.lines = sentences(opened, told.classes, told.writer);
  }

  go(phase) {
    Object.assign(this, { phase, since: performance.now(), dirty: true });
  }

  get moving() {
    return Boolean(this.opened) && !this.reduced && performance.now() - (this.since ?? 0) < GROW_MS;
  }

  // How far what belongs to a phase has come: 0 not yet, 1 whole.
  grown(phase) {
    if (phase !== this.phase || this.reduced) return phase <= this.phase ? 1 : 0;
    const way = Math.min(1, (performance.now() - this.since) / GROW_MS);
    return 1 - (1 - way) ** 2;
  }

  frame(theme, font) {
    if (!this.opened || (!this.dirty && !this.moving && theme.ink === this.ink)) return false;
    Object.assign(this, { dirty: false, ink: theme.ink, theme });
    if (this.text.textContent !== this.lines[this.phase]) this.text.textContent = this.lines[this.phase];
    this.canvas.setAttribute("aria-label", `${PHASES[this.phase]}: ${this.lines[this.phase]}`);
    const place = fit(this.canvas);
    if (!place) return false;
    const { brush, width, height } = place;
    brush.clearRect(0, 0, width, height);
    const scale = theme.scale ?? 1;
    const size = Math.max(10, Math.min(13, height * 0.045)) * scale;
    const pen = { brush, theme, font, size };
    const foot = this.opened.plane ? Math.min(height * 0.24, 5.2 * size) : 0;
    const side = Math.min(width * 0.25, height * 0.6);
    this.drawSample(pen, 0, 0, side, height - foot);
    if (this.opened.plane) {
      this.drawPlane(pen, side + 10, 0, width - 2 * side - 20, height - foot);
      this.drawTiles(pen, width - side, 0, side, height - foot);
      this.drawSpill(pen, 0, height - foot, width, foot);
    }
    return this.moving;
  }

  write({ brush, theme, font, size }, text, x, y, { align = "left", bold = false, colour = theme.ink, base = "middle" } = {}) {
    brush.font = `${bold ? "600 " : ""}${size}px ${font}`;
    brush.textAlign = align;
    brush.textBaseline = base;
    brush.fillStyle = colour;
    brush.fillText(text, x, y);
  }

  get hue() {
    return taskColour(Math.max(0, this.told.tasks.indexOf(this.opened.task)), this.theme);
  }

  // The sample, and below it a bar for each answer: before the write, and after it once it was written.
  drawSample(pen, x, y, width, height) {
    const { brush, theme, size } = pen;
    const { seen, scores_after: after } = this.opened;
    if (!seen) return;
    const { classes, shape } = this.told;
    const side = Math.min(width * 0.8, height * 0.5);
    if (seen.image && shape) paintImage(brush, seen.image, shape, x + width / 2, y + side / 2, side, theme);
    else if (seen.point) this.write(pen, seen.point.map((value) => value.toFixed(1)).join(", "), x + width / 2, y + side / 2, { align: "center" });
    const scores = this.phase === 5 && after ? after : seen.scores;
    const top = y + side + 6;
    const room = height - side - 6 - size * 1.4;
    const pitch = width / scores.length;
    const most = Math.max(1, ...seen.scores, ...(after ?? []));
    scores.forEach((score, i) => {
      const left = x + i * pitch + 1;
      const tall = Math.max(0, (score / most) * room * this.grown(0));
      brush.fillStyle = css(i === seen.label ? this.hue : theme.untouched);
      brush.fillRect(left, top + room - tall, pitch - 2, tall);
      if (this.phase >= 1 && i === seen.label) {
        brush.strokeStyle = css(theme.contrast);
        brush.lineWidth = 1.2;
        brush.strokeRect(left, top + room * (1 - this.grown(1) / most), pitch - 2, (room * this.grown(1)) / most);
      }
      const word = String(classes[i] ?? i);
      if (word.length < 3) this.write(pen, word, left + pitch / 2 - 1, top + room + size * 0.8, { align: "center", bold: i === seen.label });
    });
  }

  drawPlane(pen, x, y, width, height) {
    const { brush, theme, size } = pen;
    const { plane, acting } = this.opened;
    const [cx, cy] = [x + width / 2, y + height / 2];
    const radius = Math.min(width / 2, height / 2) - size * 1.7;
    const arrow = ([dx, dy], colour, thick, name, below) => {
      const [tx, ty] = [cx + dx * radius, cy - dy * radius];
      brush.strokeStyle = brush.fillStyle = colour;
      brush.lineWidth = thick;
      brush.lineCap = "round";
      brush.beginPath();
      brush.moveTo(cx, cy);
      brush.lineTo(tx, ty);
      brush.stroke();
      const length = Math.hypot(dx, dy) * radius;
      const angle = Math.atan2(-dy, dx);
      if (length > 6) {
        brush.beginPath();
        brush.moveTo(tx + 3 * Math.cos(angle), ty + 3 * Math.sin(angle));
        for (const turn of [2.55, -2.55]) brush.lineTo(tx + 9 * Math.cos(angle + turn), ty + 9 * Math.sin(angle + turn));
        brush.fill();
      }
      if (name) this.write(pen, name, Math.min(x + width - 2, Math.max(x + 2, tx)), below ? Math.max(ty, cy + radius * plane.ellipse[1]) + size * 1.1 : ty - size * 1.1, { align: tx > cx + 4 ? "right" : "center", colour, bold: true });
    };
    const come = this.grown(2);
    const [long, short] = plane.ellipse;
    brush.beginPath();
    brush.ellipse(cx, cy, Math.max(1, radius * 0.96 * long * come), Math.max(2, radius * 0.96 * short * come), 0, 0, 7);
    brush.fillStyle = css(theme.untouched, this.phase >= 3 ? 0.34 : 0.16);
    if (this.phase >= 2) {
      brush.fill();
      brush.lineWidth = 1;
      brush.strokeStyle = css(theme.untouched);
      brush.stroke();
      this.write(pen, "used by earlier inputs", cx - radius * 0.96, cy + Math.max(size * 1.2, radius * short + size), { colour: theme.ink });
    }
    const deep = acting === "deep";
    const given = plane.gradient;
    if (this.phase >= 2) {
      const held = deep ? this.grown(3) : 0;
      // What is held back goes pale, from its tip on.
      arrow(given.map((part) => part * come), css(theme.contrast, deep && this.phase >= 3 ? 0.28 : 1), 3, "gradient", false);
      if (held > 0) {
        const [from, to] = [given, plane.passed];
        brush.setLineDash([4, 4]);
        brush.strokeStyle = css(theme.contrast, 0.9);
        brush.lineWidth = 1.5;
        brush.beginPath();
        brush.moveTo(cx + from[0] * radius, cy - from[1] * radius);
        brush.lineTo(cx + (from[0] + (to[0] - from[0]) * held) * radius, cy - (from[1] + (to[1] - from[1]) * held) * radius);
        brush.stroke();
        brush.setLineDash([]);
      }
    }
    const hue = css(this.hue);
    if (this.phase === 4) arrow((deep ? plane.passed : given).map((part) => part * (deep ? 1 : this.grown(4))), hue, 4, "", true);
    if (this.phase === 5 && plane.written) {
      arrow(plane.written.map((part) => part * this.grown(5)), hue, 4, "written", plane.written[1] < 0.2); // the gradient's name stands above its tip
      if (plane.outside > 0.2) this.write(pen, `${percent(plane.outside)} of it points out of this plane`, cx, y + height - size * 0.6, { align: "center" });
    }
  }

  // The two directions as pictures over the level's inputs.
  drawTiles(pen, x, y, width, height) {
    const { brush, theme, size } = pen;
    const { pictures } = this.opened;
    const shown = [["gradient", "gradient", 2], ["written", "written", 5]].filter(([name, , phase]) => pictures[name] && this.phase >= phase);
    const side = Math.min(width * 0.8, height / 2 - size * 1.6);
    shown.forEach(([name, label, phase], i) => {
      const top = y + i * (height / 2);
      brush.globalAlpha = this.grown(phase);
      paintCells(brush, pictures[name], grid(pictures[name].length)[0], x + width / 2, top + side / 2, side, name === "written" ? this.hue : mix(theme.ground, theme.contrast, 0.85), theme);
      this.write(pen, label, x + width / 2, top + side + size * 0.9, { align: "center" });
      brush.globalAlpha = 1;
    });
  }

  // On whose account the step is held back: a bar of shares, a task's in its colour, what is being learned now grey.
  drawAccounts(pen, x, y, width) {
    const { brush, theme, size } = pen;
    const { held_by: shares, task, acting } = this.opened;
    const parts = Object.entries(shares).filter(([, share]) => share > 0.005);
    if (!parts.length) return;
    this.write(pen, acting === "deep" ? "Held back on account of" : "The memory would hold back on account of", x, y + size * 0.7);
    let left = x;
    for (const [name, share] of parts) {
      const wide = width * Math.min(1, share) * this.grown(3);
      const index = this.told.tasks.indexOf(name);
      brush.fillStyle = index < 0 ? css(theme.untouched, 0.5) : css(taskColour(index, theme), acting === "deep" ? 1 : 0.45);
      brush.fillRect(left, y + size * 1.7, Math.max(0, wide - 1), size * 1.5);
      const words = `${name || `${task} so far`} ${percent(share)}`;
      brush.font = `600 ${size}px ${pen.font}`;
      const outside = wide < brush.measureText(words).width + 8;
      this.write(pen, words, left + 5, y + size * (outside ? 4 : 2.45), { bold: true, colour: outside || index < 0 || acting !== "deep" ? theme.ink : css(theme.paper) });
      left += wide;
    }
  }

  // How far the outputs for each other task move with this write, and how far they would have.
  drawSpill(pen, x, y, width, height) {
    const { brush, theme, size } = pen;
    if (this.phase === 3 || this.phase === 4) this.drawAccounts(pen, x, y, width);
    if (this.phase < 5) return;
    const { spill, earlier, acting } = this.opened;
    const task = earlier.find((name) => spill[name]);
    if (!task) return;
    const other = acting === "deep" ? ["gradient alone", spill[task].gradient] : ["with the memory", spill[task].bent];
    const rows = [["this write", spill[task].written], other];
    const most = Math.max(1, ...rows.map(([, value]) => value));
    const left = x + size * 8;
    this.write(pen, `Outputs for ${task} move, where those for this batch move by 1:`, x, y + size * 0.7);
    rows.forEach(([name, value], i) => {
      const up = y + size * (2 + 1.45 * i);
      this.write(pen, name, x, up, { bold: i === 0 });
      const wide = (width - size * 11) * (value / most) * this.grown(5);
      brush.fillStyle = css(taskColour(this.told.tasks.indexOf(task), theme), i ? 0.45 : 1);
      brush.fillRect(left, up - size * 0.5, wide, size);
      this.write(pen, value.toFixed(2), left + wide + 5, up, { bold: i === 0 });
    });
  }
}
