// A fan of futures: where each task ends, by the moment at which the deep optimizer is switched on, or by another knob. Dragging along it
// shows the course of that future.

import { fit } from "./canvas.js";
import { DASHES, taskColour } from "./colours.js";

// The places of the futures along the axis, from 0 to 1: moments by their step; of another knob each as wide as the next.
export function places(futures, knob, last) {
  if (knob === "toggle") return futures.map(({ value }) => value / Math.max(last, 1));
  return futures.map((_, i) => (futures.length > 1 ? i / (futures.length - 1) : 0.5));
}

export function nearest(found, share) {
  let best = 0;
  found.forEach((place, i) => {
    if (Math.abs(place - share) < Math.abs(found[best] - share)) best = i;
  });
  return best;
}

export const endOf = ({ curve }, task) => curve.at(-1)?.[1][task];

export function sentenceOf(future, knob, tasks) {
  const ends = tasks.map((task) => `${task} ends at ${endOf(future, task)?.toFixed(2) ?? "–"}`);
  const listed = ends.length > 1 ? `${ends.slice(0, -1).join(", ")} and ${ends.at(-1)}` : ends[0];
  return knob === "toggle" ? `Switched on at step ${future.value}: ${listed}.` : `Retention ${future.value}, from the first step: ${listed}.`;
}

export class FanView {
  constructor() {
    const made = (tag, className) => Object.assign(document.createElement(tag), { className });
    this.root = made("div", "nl-fan");
    this.canvas = made("canvas", "nl-fan-canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "slider");
    this.text = made("p", "nl-fan-text");
    this.text.setAttribute("aria-live", "polite");
    this.root.append(this.canvas, this.text);
    this.picked = null;
    const pick = (event) => {
      const { left } = this.canvas.getBoundingClientRect();
      if (this.area && this.futures.length) this.pick(nearest(this.places, (event.clientX - left - this.area.x) / this.area.w));
    };
    this.canvas.addEventListener("pointermove", pick);
    this.canvas.addEventListener("pointerdown", pick);
    this.canvas.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!way || !this.futures.length) return;
      this.pick(Math.max(0, Math.min(this.futures.length - 1, (this.picked ?? -1) + way)));
      event.preventDefault();
      event.stopPropagation();
    });
  }

  // data: {futures: [{value, at, curve: [[step, accuracies]]}], knob, tasks, last: the steps of the plan, chance}
  show(data) {
    Object.assign(this, data);
    this.futures = [...data.futures].sort((a, b) => a.value - b.value);
    this.places = places(this.futures, data.knob, data.last);
    if (this.picked !== null && this.picked >= this.futures.length) this.picked = null;
    this.say();
  }

  pick(index) {
    if (index === this.picked) return;
    this.picked = index;
    this.say();
    this.draw(this.theme, this.font);
  }

  say() {
    const future = this.futures[this.picked];
    this.text.textContent = future ? sentenceOf(future, this.knob, this.tasks) : this.futures.length ? "Drag along the axis, or use the arrow keys." : "";
    this.canvas.setAttribute("aria-label", this.knob === "toggle" ? "The moment at which the deep optimizer is switched on" : "Retention");
    this.canvas.setAttribute("aria-valuemin", 0);
    this.canvas.setAttribute("aria-valuemax", Math.max(0, this.futures.length - 1));
    this.canvas.setAttribute("aria-valuenow", this.picked ?? 0);
    this.canvas.setAttribute("aria-valuetext", this.text.textContent);
  }

  draw(theme, font) {
    Object.assign(this, { theme, font });
    const place = theme && fit(this.canvas);
    if (!place) return;
    const { brush, width, height } = place;
    brush.clearRect(0, 0, width, height);
    const area = (this.area = { x: 40, y: 10, w: width - 110, h: height - 44 });
    const across = (share) => area.x + area.w * share;
    const up = (accuracy) => area.y + area.h * (1 - accuracy);
    const write = (text, x, y, align = "left", colour = theme.ink, bold = false) => {
      brush.font = `${bold ? "600 " : ""}12px ${font}`;
      Object.assign(brush, { textAlign: align, textBaseline: "middle", fillStyle: colour });
      brush.fillText(text, x, y);
    };
    const line = (points, colour, wide, dash = [], alpha = 1) => {
      brush.globalAlpha = alpha;
      brush.strokeStyle = colour;
      brush.lineWidth = wide;
      brush.setLineDash(dash);
      brush.beginPath();
      points.forEach(([x, y], i) => (i ? brush.lineTo(x, y) : brush.moveTo(x, y)));
      brush.stroke();
      brush.setLineDash([]);
      brush.globalAlpha = 1;
    };
    for (const level of [0, 0.25, 0.5, 0.75, 1]) {
      line([[area.x, up(level)], [area.x + area.w, up(level)]], theme.faint, 1);
      write(String(level), area.x - 8, up(level), "right");
    }
    line([[area.x, up(this.chance)], [area.x + area.w, up(this.chance)]], theme.faint, 1, DASHES.dot);
    const named = Math.max(1, Math.ceil(this.futures.length / (area.w / 60)));
    if (this.knob === "toggle") for (let step = 0; step <= this.last; step += this.last > 100 ? 20 * Math.ceil(this.last / 200) : 10) write(String(step), across(step / this.last), area.y + area.h + 12, "center");
    else this.futures.forEach(({ value }, i) => i % named || write(String(value), across(this.places[i]), area.y + area.h + 12, "center"));
    write(this.knob === "toggle" ? "step at which the deep optimizer is switched on" : "retention", area.x + area.w, area.y + area.h + 27, "right");
    const dashes = [DASHES.solid, DASHES.dash, DASHES.dot];
    this.tasks.forEach((task, index) => {
      const [r, g, b] = taskColour(index, theme);
      const colour = `rgb(${r},${g},${b})`;
      const dash = dashes[index % dashes.length];
      if (this.knob === "toggle") {
        for (const [i, { curve }] of this.futures.entries()) {
          const way = curve.map(([step, accuracy]) => [across(step / this.last), up(accuracy[task])]);
          line(way, colour, i === this.picked ? 2 : 1, dash, i === this.picked ? 0.9 : 0.16);
        }
      }
      const ends = this.futures.map((future, i) => [across(this.places[i]), up(endOf(future, task))]);
      line(ends, colour, 3, dash);
      brush.fillStyle = colour;
      ends.forEach(([x, y], i) => {
        brush.beginPath();
        brush.arc(x, y, i === this.picked ? 5.5 : 3, 0, 7);
        brush.fill();
      });
    });
    const labels = this.futures.length ? this.tasks.map((task, index) => ({ task, index, at: up(endOf(this.futures[this.picked ?? this.futures.length - 1], task)) })) : [];
    labels.sort((a, b) => a.at - b.at).forEach((label, i, all) => {
      if (i && label.at < all[i - 1].at + 14) label.at = all[i - 1].at + 14;
      const [r, g, b] = taskColour(label.index, theme);
      const end = endOf(this.futures[this.picked ?? this.futures.length - 1], label.task);
      write(`${label.task} ${end.toFixed(2)}`, area.x + area.w + 8, label.at, "left", `rgb(${r},${g},${b})`, true);
    });
    if (this.picked !== null) line([[across(this.places[this.picked]), area.y], [across(this.places[this.picked]), area.y + area.h]], theme.ink, 1, DASHES.dot);
  }
}
