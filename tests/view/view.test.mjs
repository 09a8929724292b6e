// The view modules without a browser: what is laid out where, what a reel shows of a moment, what a colour says.
import assert from "node:assert/strict";
import { test } from "node:test";
import { classShades, bricks } from "../../nllab/view/wall.js";
import { plain, scaleOf, ticks } from "../../nllab/view/chart.js";
import { mix, onScale, taskColour, themeOf, weightColour } from "../../nllab/view/colours.js";
import { along, arrangement, grid, hueOf, pictureOf } from "../../nllab/view/network.js";
import { bytes, changes, MOST_PORTRAITS, Reel } from "../../nllab/view/reel.js";
import { endOf, nearest, places, sentenceOf } from "../../nllab/view/fan.js";
import { balance, decisionAt } from "../../nllab/view/manager.js";
import { accounts, themeOf as themeFor } from "../../nllab/view/colours.js";
import { heldShare, PHASES, sentences } from "../../nllab/view/write.js";
import { often } from "../../nllab/view/stage.js";

const light = themeOf("rgb(27, 31, 36)");
const pack = (values) => Buffer.from(Int8Array.from(values)).toString("base64");
const level = (values, extra = {}) => ({ units: 2, incoming: 2, outgoing: 1, scale: 1, weights: pack(values), ...extra });

test("a portrait that leaves out a level shows it as it was", () => {
  const reel = new Reel();
  reel.add({ step: 0, levels: { fast: level([1, 2, 3, 4, 5, 6, 7, -8]), slow: level([9, 9, 9, 9, 9, 9, 9, 9]) } });
  reel.add({ step: 5, levels: { fast: level([2, 2, 3, 4, 5, 6, 7, -8]), slow: { retained: Buffer.from([255, 0]).toString("base64") } } });
  assert.deepEqual([...reel.last.levels.slow.weights], Array(8).fill(9));
  assert.deepEqual([...reel.last.levels.slow.retained], [255, 0]);
  assert.equal(reel.at(0).levels.slow.retained, null);
  assert.equal(reel.at(4).step, 0);
  assert.equal(reel.at(null).step, 5);
  assert.equal(reel.last.levels.fast.weights[7], -8);
});

test("of two portraits of one step the later stays, with the answers of the first", () => {
  const reel = new Reel();
  reel.add({ step: 3, levels: {}, answers: { A: [1] } });
  reel.add({ step: 3, levels: {} });
  assert.equal(reel.portraits.length, 1);
  assert.deepEqual(reel.last.answers, { A: [1] });
});

test("a long reel is thinned and keeps its first and its newest portrait", () => {
  const reel = new Reel();
  for (let step = 0; step <= 3 * MOST_PORTRAITS; step++) reel.add({ step, levels: {} });
  assert.ok(reel.portraits.length <= MOST_PORTRAITS + 1);
  assert.equal(reel.portraits[0].step, 0);
  assert.equal(reel.last.step, 3 * MOST_PORTRAITS);
});

test("changes are told unit by unit, and a level that was not sent again has none", () => {
  const reel = new Reel();
  const before = reel.add({ step: 0, levels: { fast: level([1, 2, 3, 4, 5, 6, 7, 8]) } }).levels.fast;
  const after = reel.add({ step: 1, levels: { fast: level([1, 2, 3, 4, 0, 6, 7, 8]) } }).levels.fast;
  const found = changes(before, after);
  assert.equal(found[0], 0);
  assert.ok(Math.abs(found[1] - Math.sqrt(25 / (36 + 49 + 64))) < 1e-6);
  assert.ok(changes(after, after).every((value) => value === 0));
});

test("a unit is drawn with its incoming, then its outgoing weights, without the bias", () => {
  const reel = new Reel();
  const { fast } = reel.add({ step: 0, levels: { fast: level([1, 2, 99, 4, 5, 6, 99, 8]) } }).levels;
  assert.deepEqual([...pictureOf(fast, 1)], [5, 6, 8]);
  assert.deepEqual(grid(64), [8, 8]);
});

test("tiles lie on their frame, evenly, and frames inside each other with room for their tiles", () => {
  for (const count of [1, 2, 3, 4, 5, 30, 32, 33, 64]) {
    const { tiles, spacing } = along(0, 0, 100, 50, count);
    assert.equal(tiles.length, count);
    for (const [x, y] of tiles) assert.ok(Math.abs(Math.abs(x) - 100) < 1e-9 || Math.abs(Math.abs(y) - 50) < 1e-9);
    if (count < 30) continue;
    assert.ok([-100, 100].every((x) => [-50, 50].every((y) => tiles.some((tile) => tile[0] === x && tile[1] === y))), "no tile in a corner");
    const gaps = tiles.map(([x, y], i) => Math.hypot(x - tiles[(i + 1) % count][0], y - tiles[(i + 1) % count][1]));
    assert.ok(Math.abs(Math.min(...gaps) - spacing) < 1e-9 && Math.max(...gaps) < 1.5 * spacing);
  }
  for (const [width, height] of [[400, 340], [185, 180], [700, 640], [360, 240]]) {
    const levels = ["input", "fast", "medium", "slow"].map((name) => ({ name, units: 32 })).concat({ name: "head", units: 10 });
    const { frames, centre, answers } = arrangement(width, height, levels);
    frames.slice(1).forEach((frame, i) => {
      const inner = frames[i];
      assert.ok(frame.halfHeight - frame.tile / 2 >= inner.halfHeight + inner.tile / 2, "frames overlap");
      assert.ok(frame.tile >= inner.tile);
    });
    for (const { tile, tiles } of frames) {
      tiles.forEach(([x, y], i) => tiles.slice(i + 1).forEach(([a, b]) => assert.ok(tile <= 3 || Math.max(Math.abs(x - a), Math.abs(y - b)) > tile, "tiles overlap")));
    }
    const outer = frames.at(-1);
    assert.ok(outer.y + outer.halfHeight + outer.tile / 2 <= answers.y && outer.x + outer.halfWidth + outer.tile / 2 <= width);
    assert.ok(centre.h > 0 && centre.w > 0);
  }
});

test("a level of few units leaves the middle its room, on a narrow canvas, too", () => {
  const levels = [32, 32, 10, 10].map((units, i) => ({ name: String(i), units }));
  for (const [width, height] of [[165, 270], [375, 275], [172, 130]]) {
    const { centre, frames } = arrangement(width, height, levels);
    assert.ok(Math.min(centre.w, centre.h) > 0.1 * Math.min(width, height) && frames.at(-1).tile < 0.15 * Math.min(width, height), `${width} x ${height}`);
  }
});

test("images on the wall stay inside it and are square whatever its shape", () => {
  for (const [width, height] of [[240, 160], [180, 400], [90, 90], [600, 200]]) {
    const { cell, cards } = bricks(width, height, { A: 40, B: 40 });
    assert.equal(cards.length, 80);
    for (const { x, y } of cards) assert.ok(x >= 0 && x + cell <= width + 1e-6 && y + cell <= height + 1e-6);
  }
});

test("a unit is grey until its level has written, then of its task, then of the newer task by what it lost", () => {
  const at = (extra) => hueOf({ written: 3, retained: undefined, earlier: null, current: 0, theme: light, ...extra });
  assert.deepEqual(at({ written: 0 }), light.untouched);
  assert.deepEqual(at({}), taskColour(0, light));
  assert.deepEqual(at({ earlier: 0, current: 1, retained: 255 }), taskColour(0, light));
  assert.deepEqual(at({ earlier: 0, current: 1, retained: 0 }), taskColour(1, light));
});

test("a weight of nothing is the ground, and signs go apart", () => {
  const hue = taskColour(0, light);
  assert.deepEqual(weightColour(0, hue, light), [...light.ground, 255]);
  assert.deepEqual(weightColour(1, hue, light), [...hue, 255]);
  assert.deepEqual(weightColour(-1, hue, light), [...light.contrast, 255]);
  assert.ok(themeOf("rgb(232, 234, 237)").dark);
  assert.deepEqual(mix([0, 0, 0], [10, 20, 30], 0.5), [5, 10, 15]);
  assert.deepEqual(onScale("Greys", 0), [0, 0, 0]);
  assert.deepEqual(onScale("Greys", 0, true), [255, 255, 255]);
});

test("classes of a task share its hue", () => {
  const shades = classShades({ A: { labels: [0, 1, 1] }, B: { labels: [3, 2] } }, light);
  assert.deepEqual(shades[0], taskColour(0, light));
  assert.deepEqual(shades[2], taskColour(1, light));
  assert.notDeepEqual(shades[1], shades[0]);
});

test("axes: round ticks, steps under a pixel, decades, reversed rows", () => {
  assert.deepEqual(ticks(0, 136, 7), [0, 20, 40, 60, 80, 100, 120]);
  const x = scaleOf({ range: [0, 200] }, [], [40, 240]);
  assert.equal(x.place(100), 140);
  assert.equal(x.at(140), 100);
  const y = scaleOf({ type: "log" }, [0.001, 1], [100, 0]);
  assert.ok(y.place(0.001) <= 100 && y.place(1) >= 0 && y.place(0.001) > y.place(1));
  const rows = scaleOf({ autorange: "reversed" }, [], [100, 0], ["a", "b"]);
  assert.ok(rows.place("a") < rows.place("b"));
});

test("Plotly's small markup becomes lines of plain text", () => {
  assert.deepEqual(plain("<b>A</b> &amp; B<br>c"), [{ bold: true, text: "A & B" }, { bold: false, text: "c" }]);
  assert.equal(often(1), "every step");
  assert.deepEqual([...bytes(pack([1, -1]))], [1, 255]);
});

test("the dial leans to plasticity where contexts forget, to stability where rates fall", () => {
  const did = (rate, head, others = 1) => ({ "error weight": 0, rate, "retention of the head": head, "retention of the others": others });
  assert.equal(balance(null), 0);
  assert.equal(balance(did(1, 1)), 0);
  assert.equal(balance(did(0.1, 1)), -1);
  assert.equal(balance(did(0.001, 1)), -1);
  assert.ok(Math.abs(balance(did(1, 0.9)) - 1) < 1e-9);
  assert.ok(Math.abs(balance(did(1, 1, 0.99)) - 0.5) < 1e-9);
  assert.ok(balance(did(1, 0.9999)) === 0);
  assert.ok(Math.abs(balance({ ...did(1, 1), "inputs remembered for each direction": 100 }) - 0.5) < 1e-9);
});

test("the decision of a moment is the last one before it", () => {
  const decisions = [{ step: 5 }, { step: 9 }];
  assert.equal(decisionAt(decisions, 4), null);
  assert.equal(decisionAt(decisions, 8).step, 5);
  assert.equal(decisionAt(decisions, null).step, 9);
  assert.equal(decisionAt([], null), null);
});

const opened = (acting, extra = {}) => ({
  step: 70, level: "input", acting, task: "B", earlier: ["A"], period: 1, scores_after: [0, 1], seen: { label: 1, scores: [0.7, 0.2] },
  spill: { A: { gradient: 0.76, bent: 0.26, written: acting === "deep" ? 0.26 : 0.84 } },
  plane: { gradient: [0.8, 0.6], passed: [0.2, 0.6], ellipse: [1, 0.5], written: [0.3, 0.9], outside: 0, share: 0.84 }, ...extra,
});

test("the sentences of a write hold its own numbers, and say who held back", () => {
  const deep = sentences(opened("deep"), ["zero", "one"], "The deep optimizer");
  assert.equal(deep.length, PHASES.length);
  assert.match(deep[0], /Answer: zero; right is one/);
  assert.match(deep[2], /84 % of it/);
  assert.ok(Math.abs(heldShare(opened("deep").plane) - 0.6) < 1e-9);
  assert.match(deep[3], /60 % of the arrow/); // 0.6 of its length of 1
  const kept = opened("deep", { held_by: { A: 0.43, B: 0.56 } });
  assert.match(sentences(kept, [], "")[3], /is held back; of the whole step 43 % for the sake of A[.]$/);
  const nearly = opened("deep", { plane: { ...opened("deep").plane, passed: [0.004, 0.003] } });
  assert.match(sentences(nearly, [], "")[3], /plane[.] Over 99 % of the arrow/);
  assert.match(deep[5], /A move by 0.26; the gradient alone would move them by 0.76/);
  const plain = sentences(opened("adam"), [], "Adam");
  assert.match(plain[3], /^Adam knows nothing of earlier inputs: nothing is held back/);
  assert.match(plain[5], /A move by 0.84; had the memory written, by 0.26/);
  assert.match(sentences(opened("deep", { earlier: [] }), [], "")[5], /no earlier task yet/);
  assert.match(sentences({ step: 1, level: "fast" }, [], "")[2], /it stands still, or the memory does not see/);
  assert.match(sentences(opened("deep", { plane: null }), [], "")[4], /No error reached the level input/);
});

test("a fan lays moments out by their step, other knobs evenly, and says where a future ends", () => {
  const future = (value, a) => ({ value, at: value, curve: [[value, { A: 0.9, B: 0 }], [136, { A: a, B: 0.9 }]] });
  const futures = [future(1, 0.96), future(69, 0.95), future(136, 0.1)];
  assert.deepEqual(places(futures, "toggle", 136), [1 / 136, 69 / 136, 1]);
  assert.deepEqual(places(futures, "retention", 136), [0, 0.5, 1]);
  assert.equal(nearest(places(futures, "toggle", 136), 0.6), 1);
  assert.equal(nearest([0, 0.5, 1], -3), 0);
  assert.equal(endOf(futures[2], "A"), 0.1);
  assert.equal(sentenceOf(futures[1], "toggle", ["A", "B"]), "Switched on at step 69: A ends at 0.95 and B ends at 0.90.");
});

test("what is held back is told by task, in their order and colours, and never more than all", () => {
  const theme = themeFor("rgb(27, 31, 36)");
  const parts = accounts({ B: 0.7, "": 0.2, A: 0.3, C: 0 }, ["A", "B", "C"], theme);
  assert.deepEqual(parts.map(({ task, from, to }) => [task, from, to]), [["A", 0, 0.3], ["B", 0.3, 1], ["", 1, 1]]);
  assert.equal(new Set(parts.map(({ colour }) => colour.join())).size, 3);
  assert.deepEqual(accounts(undefined, ["A"], theme), []);
});
