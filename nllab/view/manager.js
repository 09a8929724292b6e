// The manager beside the network: a dial from stability to plasticity, its reason at the moment that is shown, and its signals as small
// curves, which are drawn also while it only watches.

import { fit } from "./canvas.js";
import { css } from "./colours.js";

export const SIGNAL_NAMES = { surprise: "surprise", novelty: "novelty", conflict: "held for past" };
const LONGEST_MEMORY = 1000; // writes; a context that keeps more than this of itself forgets nothing that matters here

// Where the settings in force stand between stability (-1) and plasticity (1); 0 is the balance they start with. A lower rate is more
// stable by its power of ten; a context that forgets, or holds no more than some inputs for each direction, is more plastic,
// by the powers of ten that its memory has lost.
export function balance(did) {
  if (!did) return 0;
  const kept = Math.min(did["retention of the head"] ?? 1, did["retention of the others"] ?? 1);
  const held = did["inputs remembered for each direction"] ?? LONGEST_MEMORY;
  const span = Math.min(kept < 1 ? 1 / (1 - kept) : LONGEST_MEMORY, held);
  const plastic = Math.max(0, Math.log10(LONGEST_MEMORY / Math.min(span, LONGEST_MEMORY)) / 2);
  return Math.max(-1, Math.min(1, Math.log10(Math.max(did.rate ?? 1, 0.1)) + plastic));
}

// The decision in force at a step, of decisions in order; null: the newest.
export function decisionAt(decisions, step) {
  return (step === null ? decisions.at(-1) : decisions.findLast((one) => one.step <= step)) ?? null;
}

export class ManagerView {
  constructor() {
    const made = (tag, className) => Object.assign(document.createElement(tag), { className });
    this.root = made("div", "nl-manager");
    this.dial = made("canvas", "nl-dial");
    this.text = made("p", "nl-decision");
    this.curves = made("canvas", "nl-sparks");
    for (const canvas of [this.dial, this.curves]) canvas.setAttribute("role", "img");
    this.root.append(this.dial, this.text, this.curves);
    this.open({});
  }

  // note: what to say before anything was decided. names: of the levels.
  open({ note = "", shades = [] }) {
    Object.assign(this, { note, shades, decisions: [], signals: {}, acting: "", writer: "", step: null, last: 0, dirty: true });
  }

  // {step, text, did}
  tell(decision) {
    this.decisions.push(decision);
    this.dirty = true;
  }

  // signals: name -> [{x, y}] of each level. acting: whether it is the one who writes; writer: who is, in words.
  update({ signals = this.signals, acting = this.acting, writer = this.writer, last = this.last }) {
    Object.assign(this, { signals, acting, writer, last, dirty: true });
  }

  show(step) {
    if (step === this.step) return;
    this.step = step;
    this.dirty = true;
  }

  get sentence() {
    const now = decisionAt(this.decisions, this.step);
    if (!this.acting) return this.writer ? `${this.writer} writes, and nothing is held back. The deep optimizer only watches.` : this.note;
    return now ? `Manager, step ${now.step}: ${now.text}` : this.note || "Manager: all as usual, no decision so far.";
  }

  frame(theme, font) {
    if (!this.dirty && theme.ink === this.ink) return;
    [this.dirty, this.ink] = [false, theme.ink];
    const now = decisionAt(this.decisions, this.step);
    const at = this.acting ? balance(now?.did) : null;
    this.drawDial(at, theme, font);
    this.drawCurves(theme, font);
    const { sentence } = this;
    if (this.text.textContent !== sentence) {
      this.text.textContent = this.text.title = sentence;
      this.text.classList.toggle("nl-acts", Boolean(this.acting && now));
    }
    this.dial.setAttribute("aria-label", at === null ? "The manager only watches" : `Between stability (-1) and plasticity (1): ${at.toFixed(1)}`);
  }

  drawDial(at, theme, font) {
    const place = fit(this.dial);
    if (!place) return;
    const { brush, width, height } = place;
    brush.clearRect(0, 0, width, height);
    const foot = Math.max(9, height * 0.22);
    const [x, y] = [width / 2, height - foot];
    const radius = Math.min(width / 2 - 3, y - 3);
    brush.lineWidth = 3;
    brush.strokeStyle = theme.faint;
    brush.beginPath();
    brush.arc(x, y, radius, Math.PI, 2 * Math.PI);
    brush.stroke();
    if (at !== null) {
      const angle = Math.PI * (1.5 + at / 2);
      brush.strokeStyle = brush.fillStyle = css(theme.contrast);
      brush.lineCap = "round";
      brush.lineWidth = 2.5;
      brush.beginPath();
      brush.moveTo(x, y);
      brush.lineTo(x + (radius - 2) * Math.cos(angle), y + (radius - 2) * Math.sin(angle));
      brush.stroke();
      brush.beginPath();
      brush.arc(x, y, 3, 0, 7);
      brush.fill();
    }
    brush.font = `${foot - 1}px ${font}`;
    brush.fillStyle = theme.ink;
    brush.textBaseline = "bottom";
    brush.textAlign = "left";
    brush.fillText("stable", 0, height);
    brush.textAlign = "right";
    brush.fillText("plastic", width, height);
  }

  drawCurves(theme, font) {
    const place = fit(this.curves);
    if (!place) return;
    const { brush, width, height } = place;
    brush.clearRect(0, 0, width, height);
    const names = Object.keys(SIGNAL_NAMES);
    const wide = width / names.length;
    const foot = Math.max(9, height * 0.24);
    names.forEach((name, i) => {
      const left = i * wide + 4;
      const traces = this.signals[name] ?? [];
      const most = name === "conflict" ? 1 : Math.max(...traces.flatMap(({ y }) => y.filter((value) => value !== null)), 1e-9);
      const room = { w: wide - 10, h: height - foot - 3 };
      brush.strokeStyle = theme.faint;
      brush.lineWidth = 1;
      brush.strokeRect(left, 1.5, room.w, room.h);
      const across = (step) => left + (room.w * step) / Math.max(this.last, 1);
      traces.forEach(({ x, y }, level) => {
        brush.strokeStyle = theme.colour(this.shades[level] ?? theme.ink);
        brush.lineWidth = 1.2;
        brush.beginPath();
        let pen = false;
        x.forEach((step, k) => {
          if (y[k] === null) return;
          const up = 1.5 + room.h * (1 - Math.min(1, Math.max(0, y[k] / most)));
          if (pen) brush.lineTo(across(step), up);
          else brush.moveTo(across(step), up);
          pen = true;
        });
        brush.stroke();
      });
      if (this.step !== null && this.step <= this.last) {
        brush.strokeStyle = css(theme.contrast, 0.5);
        brush.beginPath();
        brush.moveTo(across(this.step), 1.5);
        brush.lineTo(across(this.step), 1.5 + room.h);
        brush.stroke();
      }
      brush.font = `${foot - 1}px ${font}`;
      brush.fillStyle = theme.ink;
      brush.textAlign = "left";
      brush.textBaseline = "bottom";
      brush.fillText(SIGNAL_NAMES[name], left, height);
    });
    this.curves.setAttribute("aria-label", `Surprise, novelty and what was held back for earlier tasks, of each level, up to step ${this.last}`);
  }
}
