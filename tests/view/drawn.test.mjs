// The views drawn on a canvas that writes down what it is told: everything finite and inside, with the words and numbers of what they show.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Element, sizeOfAll } from "./canvas.mjs";

const { themeOf } = await import("../../nllab/view/colours.js");
const { fit, roomOf, survey } = await import("../../nllab/view/canvas.js");
const { WallView } = await import("../../nllab/view/wall.js");
const { FanView } = await import("../../nllab/view/fan.js");
const { ManagerView } = await import("../../nllab/view/manager.js");
const { PHASES, WriteView } = await import("../../nllab/view/write.js");
const { Chart } = await import("../../nllab/view/chart.js");
const light = themeOf("rgb(27, 31, 36)");

const inside = (pen, [width, height], slack = 1) => {
  for (const [x, y] of pen.points) assert.ok(x >= -slack && y >= -slack && x <= width + slack && y <= height + slack, `drew at ${x}, ${y} of ${width} x ${height}`);
};
const sized = (size, make) => {
  sizeOfAll(size);
  return make();
};

const opened = (acting, ellipse = 0.15) => ({
  step: 70, level: "input", acting, task: "B", earlier: ["A"], period: 1, samples: 10, held_by: { A: 0.3, "": 0.69 },
  seen: { label: 7, scores: [0, 0.1, 0, -0.1, 0.5, 0, 0, 0.4, 0.1, 0], image: "0".repeat(32) + "f".repeat(32) }, scores_after: [0, 0, 0, 0, 0.3, 0, 0, 0.6, 0, 0],
  spill: { A: { gradient: 0.76, bent: 0.26, written: acting === "deep" ? 0.26 : 0.84 }, B: { gradient: 1, bent: 1, written: 1 } },
  plane: { gradient: [0.995, 0.1], passed: [0.02, 0.1], ellipse: [1, ellipse], written: acting === "deep" ? [0.2, 0.98] : [0.94, 0.02], outside: 0.33, share: 0.84 },
  pictures: { gradient: Array(64).fill(10), written: Array(64).fill(-90) },
});
const told = { tasks: ["A", "B"], classes: [..."0123456789"], shape: [8, 8], writer: "Adam" };

test("every phase of a write stays on its canvas at every size, and shows its numbers", () => {
  for (const size of [[640, 300], [590, 330], [172, 230], [900, 600]]) {
    for (const acting of ["deep", "adam"]) {
      const view = sized(size, () => new WriteView({ reduced: true }));
      view.show(opened(acting), told);
      PHASES.forEach((_, phase) => {
        view.canvas.pen = null;
        view.go(phase);
        view.frame(light, "sans-serif");
        inside(view.canvas.pen, size, 4);
        assert.ok(view.text.textContent.length > 10);
      });
      const words = view.canvas.pen.texts.map(({ text }) => text);
      assert.ok(words.includes(acting === "deep" ? "0.26" : "0.84") && words.includes("this write"));
    }
  }
});

test("a write that nothing can be said of, and one without a sample, are drawn too", () => {
  const view = sized([400, 300], () => new WriteView({ reduced: true }));
  for (const one of [{ step: 3, level: "fast" }, { ...opened("deep"), seen: null }, { ...opened("deep"), plane: null, pictures: null }]) {
    view.show(one, told);
    for (let phase = 0; phase < PHASES.length; phase++) {
      view.go(phase);
      view.frame(light, "sans-serif");
    }
  }
});

test("a fan draws an end for every task and future, and names those of the one that is pointed at", () => {
  for (const size of [[1180, 300], [340, 300]]) {
    const view = sized(size, () => new FanView());
    const futures = [1, 40, 69, 79, 136].map((value, i) => ({ value, at: value, curve: [[value, { A: 0.9, B: 0 }], [136, { A: 0.96 - 0.2 * i, B: 0.9 }]] }));
    view.show({ futures, knob: "toggle", tasks: ["A", "B"], last: 136, chance: 0.1 });
    view.draw(light, "sans-serif");
    inside(view.canvas.pen, size);
    view.canvas.pen = null;
    view.pick(2);
    const words = view.canvas.pen.texts.map(({ text }) => text);
    assert.ok(words.includes("A 0.56") && words.includes("B 0.90"));
    assert.equal(view.text.textContent, "Switched on at step 69: A ends at 0.56 and B ends at 0.90.");
    view.show({ futures: [], knob: "retention", tasks: [], last: 136, chance: 0.1 }); // before the first one has come
    view.draw(light, "sans-serif");
  }
});

test("the manager draws no needle while it only watches, and the reason of the step that is shown", () => {
  const view = sized([70, 43], () => new ManagerView());
  view.open({ shades: ["#8A86A0"] });
  view.tell({ step: 10, text: "Noise.", did: { rate: 0.1, "retention of the head": 1, "retention of the others": 1 } });
  view.update({ signals: { surprise: [{ x: [1, 5], y: [0.5, null] }] }, acting: false, writer: "Adam", last: 12 });
  view.frame(light, "sans-serif");
  const strokes = view.dial.pen.points.length;
  assert.match(view.text.textContent, /^Adam writes, and nothing is held back/);
  view.dial.pen = null;
  view.update({ acting: true });
  view.frame(light, "sans-serif");
  assert.equal(view.text.textContent, "Manager, step 10: Noise.");
  assert.ok(view.dial.pen.points.length > strokes, "no needle");
  view.show(4);
  view.frame(light, "sans-serif");
  assert.equal(view.text.textContent, "Manager: all as usual, no decision so far.");
});

test("end labels of many curves stay apart and inside their figure", () => {
  sizeOfAll([560, 124]);
  const frame = new Element("div");
  const chart = new Chart(frame, 124);
  const ends = [0.98, 0.0, 0.0, 0.01, 0.0];
  const curves = ends.map((y) => ({ x: [0, 136], y: [0, y], mode: "lines", line: { color: "#0072B2" } }));
  const labels = { mode: "text", x: ends.map(() => 136), y: ends, text: ends.map((y, i) => `${"ABCDE"[i]} ${y}`), textfont: { color: ends.map(() => "#0072B2") } };
  chart.draw({ data: [...curves, labels], layout: { margin: { l: 34, r: 52, t: 16, b: 20 }, xaxis: { range: [0, 136], title: { text: "step" } }, yaxis: { range: [0, 1] } } }, { ...light, font: "sans-serif" });
  const found = chart.canvas.pen.texts.filter(({ text }) => /^[A-E] /.test(text)).sort((a, b) => a.y - b.y);
  assert.equal(found.length, 5);
  found.slice(1).forEach((label, i) => assert.ok(label.y - found[i].y >= 11.9, "labels overlap"));
  assert.ok(found[0].y >= 12 && found.at(-1).y <= 108, `from ${found[0].y} to ${found.at(-1).y}`);
  const steps = chart.canvas.pen.texts.filter(({ y }) => y > 109 && y < 124);
  const last = steps.find(({ text }) => text === "step");
  assert.ok(steps.every((one) => one === last || one.x < last.x - 30), "a number under the word step");
});

test("a canvas is fitted by what was measured before anything was drawn, and has no brush without room", () => {
  const canvas = sized([300, 200], () => new Element("canvas"));
  survey([canvas]);
  canvas.clientWidth = 250; // the page moves while it is being drawn
  assert.deepEqual([fit(canvas).width, canvas.width, roomOf(canvas).height], [300, 300, 200]);
  survey([]);
  assert.deepEqual([fit(canvas).width, canvas.width], [250, 250]);
  canvas.clientHeight = 0;
  assert.equal(fit(canvas), null);
});

test("the wall draws a card again when its answer changes, while it turns, and once when it has come to rest", () => {
  const canvas = sized([200, 120], () => new Element("canvas"));
  const wall = new WallView();
  const images = Array(6).fill("f".repeat(64));
  const state = { samples: { shape: [8, 8], tasks: { A: { labels: [1, 1, 1, 1, 1, 1], images } } }, tasks: ["A"], classes: [..."0123456789"], theme: light, font: "sans", still: false };
  const texts = (answers, anew) => {
    const before = canvas.getContext("2d").texts.length;
    wall.draw(canvas, { ...state, answers: { A: answers } }, anew);
    return canvas.pen.texts.slice(before).map(({ text }) => text);
  };
  assert.deepEqual(texts([1, 1, 1, 7, 8, 9], true), ["A · 3 of 6 right", "7", "8", "9"]);
  assert.ok(!wall.moving);
  assert.deepEqual(texts([1, 1, 1, 7, 8, 0], true), ["A · 3 of 6 right", "0"]); // another wrong answer does not turn its card
  texts([1, 1, 5, 7, 8, 0], true);
  assert.ok(wall.moving);
  const { at } = wall.flips.get("A:2");
  performance.now = () => at + 0.6 * 320;
  assert.deepEqual(texts([1, 1, 5, 7, 8, 0], false), ["5"]);
  performance.now = () => at + 321;
  assert.deepEqual(texts([1, 1, 5, 7, 8, 0], false), ["5"]);
  delete performance.now;
  assert.ok(!wall.moving);
  assert.deepEqual(texts([1, 1, 5, 7, 8, 0], false), []);
  texts([1, 1, 1, 7, 8, 0], true);
  canvas.clientWidth = 0; // hidden, nothing turns, and no further frame is asked for
  assert.deepEqual([wall.moving, texts([1, 1, 1, 7, 8, 0], false), wall.moving], [true, [], false]);
  canvas.clientWidth = 260; // a new size shows all of it again, whatever has changed
  assert.equal(texts([1, 1, 1, 7, 8, 0], false).length, 4);
});
