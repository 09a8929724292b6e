// The rings: the fastest innermost, a hand at the top when its level writes, a count of writes that outlives a new arrangement.
import assert from "node:assert/strict";
import { test } from "node:test";
import { page } from "./canvas.mjs";

page();
const { Rings } = await import("../../nllab/view/rings.js");

const hand = (ring) => [ring.hand.attributes.cx, ring.hand.attributes.cy].map(Number);

test("rings lie from the fastest to the slowest, and hands go round once in a period", () => {
  const rings = new Rings();
  rings.arrange({ slow: 16, fast: 1, medium: 4 }, ["slow", "fast", "medium"], ["#111111", "#222222", "#333333"]);
  assert.deepEqual(rings.rings.map(({ name }) => name), ["fast", "medium", "slow"]);
  assert.ok(rings.rings[0].radius < rings.rings[1].radius && rings.rings[1].radius < rings.rings[2].radius);
  const [fast, medium, slow] = rings.rings;
  rings.show(4);
  for (const ring of [fast, medium]) assert.deepEqual(hand(ring), [125, 125 - ring.radius]);
  const [x, y] = hand(slow); // a quarter of its period
  assert.ok(Math.abs(x - 125 - slow.radius) < 1e-9 && Math.abs(y - 125) < 1e-9);
});

test("a write is counted on its level, and counts stay when periods change", () => {
  const rings = new Rings();
  rings.arrange({ fast: 1, slow: 8 }, ["fast", "slow"], ["#111111", "#222222"]);
  rings.pulse(["fast"], { fast: 1, slow: 0 });
  assert.deepEqual(rings.rows().slice(1), [["fast", 1, 1], ["slow", 8, 0]]);
  assert.equal(rings.rings[0].count.textContent, "every step · 1 write");
  assert.deepEqual(rings.rings.map(({ circle }) => circle.animated ?? 0), [1, 0]);
  rings.root.style.display = "none"; // the network is drawn instead
  rings.pulse(["fast", "slow"], { fast: 1, slow: 0 });
  assert.deepEqual(rings.rings.map(({ circle }) => circle.animated ?? 0), [1, 0]);
  rings.root.style.display = "";
  rings.arrange({ fast: 1, slow: 2 }, ["fast", "slow"], ["#111111", "#222222"]);
  assert.equal(rings.rings[0].writes, 1);
  assert.equal(rings.rings[1].count.textContent, "every 2 steps · 0 writes");
});
