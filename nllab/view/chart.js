// Draws the lab's figures on a canvas from the specification that Plotly would take: lines, marks, labels, heat maps. It draws what
// figures.py uses and nothing else; Plotly itself is loaded where a figure is saved.

import { fit, roomOf } from "./canvas.js";
import { css, DASHES, onScale } from "./colours.js";

const SIZE = 12;

// "<b>A</b> and <i>B</i><br>…" as lines of plain text; a line may be bold.
export function plain(text) {
  const entities = { "&lt;": "<", "&gt;": ">", "&amp;": "&", "&quot;": '"', "&#x27;": "'" };
  return String(text).split(/<br\s*\/?>/).map((line) => ({
    bold: /<b>/.test(line),
    text: line.replace(/<[^>]*>/g, "").replace(/&(lt|gt|amp|quot|#x27);/g, (found) => entities[found]),
  }));
}

// About `count` round numbers between two.
export function ticks(low, high, count) {
  const rough = (high - low) / Math.max(count, 1);
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * power).find((times) => times >= rough);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(Number((i * step).toPrecision(12)));
  return found;
}

function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value === null || value === undefined || Number.isNaN(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : null;
}

// Moves labels as little as keeps them `gap` pixels apart, and between two ends where they fit.
export function apart(labels, gap, [from, to] = [-Infinity, Infinity]) {
  labels.sort((a, b) => a.at - b.at);
  const wanted = labels.reduce((sum, { at }) => sum + at, 0);
  for (let i = 1; i < labels.length; i++) labels[i].at = Math.max(labels[i].at, labels[i - 1].at + gap);
  const shift = (labels.reduce((sum, { at }) => sum + at, 0) - wanted) / Math.max(labels.length, 1);
  for (const label of labels) label.at -= shift;
  for (let i = labels.length - 1, most = to; i >= 0; i--, most = labels[i + 1].at - gap) labels[i].at = Math.min(labels[i].at, most);
  for (let i = 0, least = from; i < labels.length; least = labels[i].at + gap, i++) labels[i].at = Math.max(labels[i].at, least);
}

// From a value of an axis to a pixel and back. `pixels`: where the range begins and ends.
export function scaleOf(axis, values, pixels, categories) {
  if (categories) {
    const step = (pixels[1] - pixels[0]) / categories.length;
    const flip = axis.autorange === "reversed" ? categories.length - 1 : null;
    const place = (value) => {
      const index = typeof value === "string" ? categories.indexOf(value) : value;
      return pixels[0] + ((flip === null ? index : flip - index) + 0.5) * step;
    };
    return { place, categories, step: Math.abs(step) };
  }
  const log = axis.type === "log";
  const of = (value) => (log ? Math.log10(value) : value);
  let range = axis.range;
  if (!range) {
    const [low, high] = extent(values.map((value) => (value === null ? null : of(value)))) ?? (log ? [-2, 0] : [0, 1]);
    const room = log ? Math.max(0.15, (high - low) * 0.06) : (high - low) * 0.06 || 0.5;
    range = [axis.rangemode === "tozero" || axis.rangemode === "nonnegative" ? Math.min(0, low) : low - room, high + room];
    if (axis.autorange === "reversed") range.reverse();
  }
  const slope = (pixels[1] - pixels[0]) / (range[1] - range[0] || 1);
  return { place: (value) => pixels[0] + (of(value) - range[0]) * slope, at: (pixel) => (pixel - pixels[0]) / slope + range[0], range, log, slope };
}

// Accuracies of many tasks as a map: a line for each task, a column for each measurement.
export function accuracyMap(data, layout, tasks) {
  const curves = data.slice(0, -1);
  const steps = curves[0].x;
  const spacing = steps.length > 1 ? (steps.at(-1) - steps[0]) / (steps.length - 1) : 1;
  const heat = { type: "heatmap", z: curves.map((trace) => trace.y), zmin: 0, zmax: 1, colorscale: "Cividis", x0: steps[0] ?? 0, dx: spacing };
  const every = Math.ceil(tasks.length / 8);
  const places = tasks.map((_, i) => i).filter((i) => i % every === 0);
  const y = { range: [tasks.length - 0.5, -0.5], tickvals: places, ticktext: places.map((i) => tasks[i]), showgrid: false };
  const shapes = layout.shapes.filter((shape) => shape.yref === "paper");
  const margin = { ...layout.margin, t: 26 }; // the first task's name stands below the title
  return { data: steps.length ? [heat] : [], layout: { ...layout, margin, yaxis: y, shapes, annotations: [], title: { text: "Accuracy: dark 0, bright 1" } } };
}

export class Chart {
  constructor(frame, height) {
    this.frame = frame;
    this.height = height;
    this.canvas = document.createElement("canvas");
    this.canvas.style.cssText = "display:block;width:100%";
    frame.append(this.canvas);
    this.cursor = null;
  }

  // spec: {data, layout}; theme: of colours.js, with font. Draws everything anew.
  draw({ data, layout }, theme) {
    const scale = (this.scale = theme.scale ?? 1);
    const height = scale * (this.height ?? layout.height ?? 260);
    const { width } = roomOf(this.frame);
    const place = fit(this.canvas, { width, height });
    if (!place) return false;
    if (this.size?.[1] !== height) this.canvas.style.height = `${height}px`;
    this.theme = theme;
    const brush = (this.brush = place.brush);
    brush.clearRect(0, 0, width, height);
    const margin = { l: 44, r: 16, t: 30, b: 34, ...layout.margin };
    for (const side of Object.keys(margin)) margin[side] *= scale;
    if (width < 300) Object.assign(margin, { l: Math.min(margin.l, 78), r: Math.min(margin.r, 40) });
    let area = { x: margin.l, y: margin.t, w: Math.max(20, width - margin.l - margin.r), h: Math.max(20, height - margin.t - margin.b) };
    this.size = [width, height];
    if (layout.title?.text) this.text(plain(layout.title.text), 0, 4, { size: 13, baseline: "top", gap: 17 });
    const heat = data.find((trace) => trace.type === "heatmap");
    const axes = { x: layout.xaxis ?? {}, y: layout.yaxis ?? {} };
    const values = { x: [], y: [] };
    const categories = { x: null, y: null };
    for (const trace of data) {
      if (trace === heat) {
        const [rows, columns] = [trace.z.length, trace.z[0]?.length ?? 0];
        if (trace.x) categories.x = trace.x;
        else values.x.push((trace.x0 ?? 0) - (trace.dx ?? 1) / 2, (trace.x0 ?? 0) + (trace.dx ?? 1) * (columns - 0.5));
        if (trace.y) categories.y = trace.y;
        else values.y.push((trace.y0 ?? 0) - (trace.dy ?? 1) / 2, (trace.y0 ?? 0) + (trace.dy ?? 1) * (rows - 0.5));
      } else for (const axis of ["x", "y"]) values[axis].push(...(trace[axis] ?? []));
    }
    const tight = heat && !categories.x ? { rangemode: "normal", range: undefined } : {};
    const rangeOf = (axis) => (heat && !categories[axis] && !axes[axis].range ? { ...axes[axis], ...tight, range: axes[axis].autorange === "reversed" ? extent(values[axis]).reverse() : extent(values[axis]) } : axes[axis]);
    if (axes.y.scaleanchor && heat) area = this.square(area, extent(values.x), extent(values.y));
    const x = scaleOf(rangeOf("x"), values.x, [area.x, area.x + area.w], categories.x);
    const y = scaleOf(rangeOf("y"), values.y, [area.y + area.h, area.y], categories.y);
    Object.assign(this, { area, x, y });
    this.grid(axes, area, x, y);
    brush.save();
    brush.beginPath();
    brush.rect(area.x - 1, area.y - 2, area.w + 2, area.h + 4);
    brush.clip();
    for (const trace of data) {
      if (trace.type === "heatmap") this.heat(trace, x, y);
      else if (trace.mode !== "text") this.lines(trace, x, y);
    }
    for (const shape of layout.shapes ?? []) this.shape(shape, area, x, y);
    brush.restore();
    for (const note of layout.annotations ?? []) this.note(note, area, x, y);
    for (const trace of data) if (trace.mode === "text") this.labels(trace, x, y);
    if (this.cursor !== null) this.line(this.cursor);
    return true;
  }

  // The part of an area in which units are as long along x as along y.
  square(area, [left, right], [bottom, top]) {
    const unit = Math.min(area.w / Math.abs(right - left), area.h / Math.abs(top - bottom));
    return { x: area.x, y: area.y, w: unit * Math.abs(right - left), h: unit * Math.abs(top - bottom) };
  }

  text(lines, x, y, { size = SIZE, align = "left", baseline = "middle", colour = this.theme.ink, gap = size * 1.25 } = {}) {
    const { brush } = this;
    brush.textAlign = align;
    brush.textBaseline = baseline;
    brush.fillStyle = colour;
    [size, gap] = [size * this.scale, gap * this.scale];
    lines.forEach(({ text, bold }, i) => {
      brush.font = `${bold ? "600 " : ""}${i ? Math.min(size, SIZE * this.scale) : size}px ${this.theme.font}`;
      brush.fillText(text, x, y + i * gap);
    });
  }

  grid(axes, area, x, y) {
    const { brush, theme } = this;
    brush.lineWidth = 1;
    brush.strokeStyle = theme.faint;
    const shown = (axis) => axis.showticklabels !== false;
    const small = { size: 11, colour: theme.ink };
    const label = (value, scale) => (scale.log ? String(Number(10 ** value)) : String(value));
    if (shown(axes.x)) {
      const low = axes.x.title?.text && this.size[1] - area.y - area.h < 30 * this.scale; // the title stands in the line of the numbers
      const places = x.categories ?? axes.x.tickvals ?? ticks(...x.range, area.w / 80);
      places.forEach((value, i) => {
        const at = x.place(value);
        if (at < area.x - 1 || at > area.x + area.w + (low ? -44 * this.scale : 1)) return;
        this.text([{ text: axes.x.ticktext?.[i] ?? String(value) }], at, area.y + area.h + 9 * this.scale, { ...small, align: "center" });
      });
      if (axes.x.title?.text) this.text([{ text: axes.x.title.text }], area.x + area.w, area.y + area.h + (low ? 9 : 22) * this.scale, { ...small, align: "right" });
    }
    if (!shown(axes.y)) return;
    const whole = y.log ? ticks(Math.ceil(y.range[0]), Math.floor(y.range[1]), 4).filter(Number.isInteger) : null;
    const places = y.categories ?? axes.y.tickvals ?? whole ?? ticks(...[...y.range].sort((a, b) => a - b), area.h / 36);
    places.forEach((value, i) => {
      const at = y.log ? y.place(10 ** value) : y.place(value);
      if (at < area.y - 2 || at > area.y + area.h + 2) return;
      if (axes.y.showgrid !== false && !y.categories) {
        brush.beginPath();
        brush.moveTo(area.x, Math.round(at) + 0.5);
        brush.lineTo(area.x + area.w, Math.round(at) + 0.5);
        brush.stroke();
      }
      this.text([{ text: axes.y.ticktext?.[i] ?? label(value, y) }], area.x - 6, at, { ...small, align: "right" });
    });
  }

  lines(trace, x, y) {
    const { brush, theme } = this;
    const { line = {}, marker } = trace;
    if (trace.mode !== "markers") {
      brush.beginPath();
      let pen = false;
      for (let i = 0; i < trace.x.length; i++) {
        const value = trace.y[i];
        if (value === null || (y.log && !(value > 0))) pen = false;
        else {
          if (pen) brush.lineTo(x.place(trace.x[i]), y.place(value));
          else brush.moveTo(x.place(trace.x[i]), y.place(value));
          pen = true;
        }
      }
      brush.strokeStyle = theme.colour(line.color ?? theme.ink);
      brush.lineWidth = (line.width ?? 2) * this.scale;
      brush.lineJoin = "round";
      brush.setLineDash(DASHES[line.dash] ?? []);
      brush.stroke();
      brush.setLineDash([]);
    }
    if (!/markers/.test(trace.mode)) return;
    const radius = marker?.size ? marker.size / 2 : 2.2;
    for (let i = 0; i < trace.x.length; i++) {
      if (trace.y[i] === null) continue;
      brush.beginPath();
      brush.arc(x.place(trace.x[i]), y.place(trace.y[i]), radius, 0, 7);
      brush.fillStyle = theme.colour((Array.isArray(marker?.color) ? marker.color[i] : marker?.color) ?? line.color ?? theme.ink);
      brush.fill();
    }
  }

  heat(trace, x, y) {
    const { brush } = this;
    const [low, high] = [trace.zmin, trace.zmax].some((value) => value === undefined) ? (extent(trace.z.flat()) ?? [0, 1]) : [trace.zmin, trace.zmax];
    const middle = (axis, i) => (trace[axis] ? trace[axis][i] : (trace[`${axis}0`] ?? 0) + (trace[`d${axis}`] ?? 1) * i);
    const wide = x.categories ? x.step : Math.abs(x.slope * (trace.dx ?? 1));
    const tall = y.categories ? y.step : Math.abs(y.slope * (trace.dy ?? 1));
    const [gapX, gapY] = [trace.xgap ?? 0, trace.ygap ?? 0];
    trace.z.forEach((row, r) => row.forEach((value, c) => {
      if (value === null) return;
      const colour = onScale(trace.colorscale ?? "Cividis", (value - low) / (high - low || 1), trace.reversescale);
      const [px, py] = [x.place(middle("x", c)), y.place(middle("y", r))];
      brush.fillStyle = css(colour, trace.opacity ?? 1);
      brush.fillRect(px - wide / 2 + gapX / 2, py - tall / 2 + gapY / 2, wide - gapX + (gapX ? 0 : 0.5), tall - gapY + (gapY ? 0 : 0.5));
      if (!trace.texttemplate || wide < 24) return;
      const bright = colour.reduce((sum, part) => sum + part, 0) > 380;
      this.text([{ text: value.toFixed(2) }], px, py, { size: 11, align: "center", colour: bright ? "#16181C" : "#FFFFFF" });
    }));
  }

  shape(shape, area, x, y) {
    const { brush, theme } = this;
    const along = (value, ref, scale, start, length) => (ref === "paper" ? start + value * length : scale.place(value));
    brush.beginPath();
    const up = (value) => (shape.yref === "paper" ? area.y + (1 - value) * area.h : y.place(value));
    brush.moveTo(along(shape.x0, shape.xref, x, area.x, area.w), up(shape.y0));
    brush.lineTo(along(shape.x1, shape.xref, x, area.x, area.w), up(shape.y1));
    brush.strokeStyle = theme.colour(shape.line.color);
    brush.lineWidth = shape.line.width ?? 1;
    brush.setLineDash(DASHES[shape.line.dash] ?? []);
    brush.stroke();
    brush.setLineDash([]);
  }

  note(note, area, x, y) {
    const at = note.xref === "paper" ? area.x + note.x * area.w : x.place(note.x);
    const up = note.yref === "paper" ? area.y + (1 - note.y) * area.h : y.place(note.y);
    if (note.xref !== "paper" && (at < area.x - 2 || at > area.x + area.w + 2)) return;
    const lines = plain(note.text);
    const size = note.font?.size ?? 11;
    const height = lines.length * size * 1.25 * this.scale;
    const top = { top: up, bottom: up - height + size * 0.25 * this.scale, middle: up - height / 2 + size * 0.2 }[note.yanchor ?? "middle"];
    const align = { left: "left", right: "right" }[note.xanchor] ?? "center";
    this.text(lines, at + (note.xshift ?? 0), top, { size, align, baseline: "top" });
  }

  labels(trace, x, y) {
    const colours = trace.textfont?.color ?? [];
    const shown = trace.y.map((value, i) => ({ i, at: value === null ? null : y.place(value) })).filter(({ at, i }) => at !== null && trace.text[i]);
    apart(shown, 12 * this.scale, [this.area.y + 7, this.area.y + this.area.h + 2]);
    for (const { i, at } of shown) {
      const colour = this.theme.colour(Array.isArray(colours) ? colours[i] : colours);
      this.text([{ text: trace.text[i] }], Math.min(x.place(trace.x[i]), this.area.x + this.area.w) + 4, at, { size: 12, colour });
    }
  }

  line(step) {
    const at = this.x.place(step);
    if (at < this.area.x - 1 || at > this.area.x + this.area.w + 1) return;
    const { brush, theme, area } = this;
    brush.fillStyle = theme.ink;
    brush.fillRect(Math.round(at) - 0.5, area.y, 1.5, area.h);
    brush.beginPath();
    brush.arc(at, area.y + area.h, 4.5, 0, 7);
    brush.fill();
  }

  // The step under a pixel of the canvas, inside the range.
  stepAt(pixel) {
    if (!this.x?.at) return null;
    const { area, x } = this;
    return Math.max(0, x.at(Math.min(Math.max(pixel, area.x), area.x + area.w)));
  }
}
