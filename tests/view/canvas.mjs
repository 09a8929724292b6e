// A canvas and a document of nothing but what the views ask of them: whatever is drawn is written down, and must be finite.
import assert from "node:assert/strict";

export class Pen {
  constructor(canvas) {
    this.canvas = canvas;
    this.texts = [];
    this.points = [];
    this.shift = [[0, 0]];
    return new Proxy(this, {
      get: (target, name) => (name in target ? target[name] : () => undefined),
      set: (target, name, value) => ((target[name] = value), true),
    });
  }

  at(...numbers) {
    for (const number of numbers) assert.ok(Number.isFinite(number), `drew at ${numbers}`);
    const [x, y] = this.shift.at(-1);
    for (let i = 0; i + 1 < numbers.length; i += 2) this.points.push([numbers[i] + x, numbers[i + 1] + y]);
  }

  save() { this.shift.push([...this.shift.at(-1)]); }
  restore() { this.shift.pop(); }
  translate(x, y) { this.shift[this.shift.length - 1] = [this.shift.at(-1)[0] + x, this.shift.at(-1)[1] + y]; }
  moveTo(x, y) { this.at(x, y); }
  lineTo(x, y) { this.at(x, y); }
  fillRect(x, y, w, h) { this.at(x, y, x + w, y + h); }
  strokeRect(x, y, w, h) { this.at(x, y, x + w, y + h); }
  arc(x, y, r) { this.at(x - r, y - r, x + r, y + r); }
  ellipse(x, y, a, b) { assert.ok(a > 0 && b > 0); this.at(x - a, y - b, x + a, y + b); }
  drawImage(_, x, y, w = 0, h = 0) { this.at(x, y, x + w, y + h); }
  measureText(text) { return { width: 6 * text.length }; }
  createImageData(w, h) { return { data: new Uint8ClampedArray(4 * w * h) }; }
  fillText(text, x, y) {
    this.at(x, y);
    this.texts.push({ text: String(text), x: x + this.shift.at(-1)[0], y: y + this.shift.at(-1)[1], align: this.textAlign, font: this.font });
  }
}

let sizes = [600, 340];

export const sizeOfAll = (size) => (sizes = size);

export class Element {
  constructor(tag) {
    Object.assign(this, { tag, children: [], style: { setProperty() {} }, attributes: {}, classList: { toggle() {}, add() {}, remove() {} }, dataset: {} });
    [this.clientWidth, this.clientHeight] = sizes;
    if (tag === "canvas") [this.width, this.height] = sizes;
  }

  append(...more) { this.children.push(...more); }
  setAttribute(name, value) { this.attributes[name] = String(value); }
  addEventListener() {}
  getContext() { return (this.pen ??= new Pen(this)); }
}

globalThis.document = { createElement: (tag) => new Element(tag) };
globalThis.window = { devicePixelRatio: 1 };

// Everything else that the page's script asks of a browser. Frames are drawn by `flush`.
export function page() {
  Object.defineProperty(Element.prototype, "textContent", { get() { return this.words ?? ""; }, set(words) { this.words = String(words); } });
  Object.defineProperty(Element.prototype, "firstChild", { get() { return this.children[0]; } });
  Object.defineProperty(Element.prototype, "lastChild", { get() { return this.children.at(-1); } });
  Object.assign(Element.prototype, {
    replaceChildren(...children) { this.children = children; },
    appendChild(child) { this.children.push(child); return child; },
    getBoundingClientRect() { return { left: 0, top: 0, width: this.clientWidth, height: this.clientHeight }; },
    getAttribute(name) { return this.attributes[name]; },
    querySelector: () => null,
    querySelectorAll: () => [],
    animate() { this.animated = (this.animated ?? 0) + 1; },
    remove() {},
  });
  document.createElementNS = (_, tag) => new Element(tag);
  Object.assign(document, { addEventListener() {}, removeEventListener() {}, querySelector: () => null, documentElement: { dataset: {} } });
  let frames = [];
  class Idle { observe() {} disconnect() {} close() {} }
  Object.assign(globalThis, {
    addEventListener() {}, removeEventListener() {}, location: { search: "", pathname: "/" }, matchMedia: () => ({ matches: false, addEventListener() {} }),
    requestAnimationFrame: (frame) => frames.push(frame), ResizeObserver: Idle, EventSource: Idle, sessionStorage: { getItem: () => null, setItem() {} },
    getComputedStyle: () => ({ color: "rgb(27,31,36)", fontFamily: "sans-serif", fontSize: "16px" }),
  });
  return () => {
    for (let i = 0; i < 30 && frames.length; i++) {
      const now = frames;
      frames = [];
      now.forEach((frame) => frame());
    }
  };
}
