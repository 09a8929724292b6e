// What hosts take as one text is a whole program.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

const root = new URL("../../", import.meta.url).pathname;
const modules = [...readFileSync(`${root}nllab/view/__init__.py`, "utf8").match(/MODULES = \(([^)]*)\)/)[1].matchAll(/"(\w+)"/g)].map((found) => found[1]);
const joined = () => modules.map((name) => readFileSync(`${root}nllab/view/${name}.js`, "utf8").replace(/^import .*\n/gm, "").replace(/^export /gm, "")).join("\n");
const whole = (host) => {
  const path = join(mkdtempSync(join(tmpdir(), "view-")), "whole.mjs");
  writeFileSync(path, joined() + host.map((name) => readFileSync(`${root}${name}`, "utf8")).join("\n"));
  execFileSync(process.execPath, ["--check", path]);
};

test("every module is in the bundle, after those that it imports", () => {
  const files = readdirSync(`${root}nllab/view`).filter((name) => name.endsWith(".js")).map((name) => name.slice(0, -3));
  assert.deepEqual([...modules].sort(), files.sort());
  for (const [place, name] of modules.entries()) {
    for (const [, from] of readFileSync(`${root}nllab/view/${name}.js`, "utf8").matchAll(/from "\.\/(\w+)\.js"/g)) {
      assert.ok(modules.indexOf(from) < place && modules.includes(from), `${name} imports ${from}`);
    }
  }
});

test("every module is imported by a test of its own", () => {
  const tests = readdirSync(`${root}tests/view`).filter((name) => name.endsWith(".test.mjs")).map((name) => readFileSync(`${root}tests/view/${name}`, "utf8")).join("\n");
  for (const name of modules) assert.ok(tests.includes(`nllab/view/${name}.js"`), name);
});

test("the bundle with each of its hosts is a program", () => {
  whole(["app/panel.js", "app/live_view.js"]);
  whole(["nllab/player.js", "app/replay.js"]);
  whole(["app/fan.js"]);
});
