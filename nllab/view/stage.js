// One run to look at: the network in the middle, beside it what it answers and what each level does. It shows any moment of its reel.

import { accounts, css, themeOf } from "./colours.js";
import { changes, Reel } from "./reel.js";
import { grid, hueOf, NetworkView, paintCells, pictureOf } from "./network.js";
import { SurfaceView, WallView } from "./wall.js";

function made(tag, className, text) {
  const found = document.createElement(tag);
  if (className) found.className = className;
  if (text !== undefined) found.textContent = text;
  return found;
}

export function often(period) {
  return period === 1 ? "every step" : `every ${period} steps`;
}

// "A 59 %, B 41 %"; of more than two tasks the two largest shares.
function inWords(parts) {
  const percent = (share) => (share > 0.99 ? ">99 %" : `${Math.round(100 * share)} %`);
  const least = [...parts].sort((one, other) => other.share - one.share)[1]?.share ?? 0;
  const largest = parts.filter(({ share }) => share >= Math.max(least, 0.01)).slice(0, 2);
  return largest.map(({ task, share }) => `${task || "all"} ${percent(share)}`).join(", ");
}

export class Stage {
  // rings: {root} to show in place of a network that is too large to be drawn. point: told the step that is pointed at, or null.
  constructor({ rings = null, reduced = false } = {}) {
    this.reduced = reduced;
    this.rings = rings;
    this.root = made("div", "nl-stage");
    this.picture = made("div", "nl-network");
    this.canvas = made("canvas", "nl-network-canvas");
    this.loupe = made("div", "nl-loupe");
    this.loupe.hidden = true;
    this.picture.append(this.canvas, this.loupe);
    if (rings) this.picture.append(rings.root);
    this.side = made("div", "nl-side");
    this.wall = made("canvas", "nl-wall");
    this.words = made("div", "nl-words");
    this.words.tabIndex = 0; // it scrolls where it is narrow: with the keys, too
    this.list = made("ul", "nl-levels");
    this.side.append(this.wall, this.words, this.list);
    this.root.append(this.picture, this.side);
    for (const [canvas, name] of [[this.canvas, "The network"], [this.wall, "Test samples"]]) {
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", name);
    }
    this.canvas.addEventListener("pointermove", (event) => this.look(event));
    this.canvas.addEventListener("pointerleave", () => (this.loupe.hidden = true));
    this.wall.addEventListener("pointermove", (event) => this.name(event));
    this.open({ tasks: [], levels: [], classes: [], periods: {} });
  }

  // opened: {tasks, levels, classes, samples, given, drawn: whether portraits come, weights: how many the network has, shades}
  open(opened) {
    Object.assign(this, { told: opened, reel: new Reel(), step: null, dirty: true, shown: null, moved: false });
    this.network = new NetworkView();
    this.reel.samples = opened.samples ?? null;
    this.answers = opened.samples?.shape ? new WallView() : opened.samples && !opened.given ? new SurfaceView() : null;
    const drawn = opened.drawn ?? false;
    this.canvas.hidden = !drawn;
    if (this.rings) this.rings.root.style.display = drawn ? "none" : "";
    this.wall.hidden = !this.answers;
    this.words.hidden = !opened.given;
    this.root.classList.toggle("nl-plane", this.answers instanceof SurfaceView);
    this.arrange(opened.periods ?? {});
  }

  arrange(periods) {
    this.periods = periods;
    const line = (name, period, writes, held) => {
      const row = made("li");
      row.append(made("b", "", name), made("span", "nl-often", period), made("span", "nl-writes", writes), made("span", "nl-held", held));
      return row;
    };
    const head = line("level", "period", "writes", "held back for");
    head.className = "nl-levels-head";
    head.setAttribute("aria-hidden", "true");
    this.list.replaceChildren(
      head,
      ...this.told.levels.map((name, i) => {
        const row = line(name, String(periods[name] ?? 1), "", "");
        row.style.setProperty("--shade", this.told.shades?.[i] ?? "currentColor");
        return row;
      }),
    );
    this.dirty = true;
  }

  // A scene (scenes.py): a portrait and what stands beside it.
  add(scene) {
    const before = this.reel.last;
    const next = this.reel.add(scene);
    next.scene = { written: scene.written ?? {}, held: scene.held ?? {}, task: scene.task ?? null, earlier: scene.earlier ?? null, acting: scene.acting ?? "" };
    const now = performance.now();
    if (before && this.step === null) {
      for (const [name, level] of Object.entries(next.levels)) {
        const earlier = before.levels[name];
        if (earlier && earlier.weights !== level.weights) this.network.pulse(name, changes(earlier, level), now);
      }
    }
    this.dirty = true;
  }

  // Shows the moment of a step; null: the newest.
  show(step) {
    if (step === this.step) return;
    this.step = step;
    this.dirty = true;
  }

  get moving() {
    return !this.reduced && (this.network.moving || Boolean(this.answers?.moving));
  }

  // Draws what has changed and says so; true while something still moves. font: of the page.
  frame(theme, font) {
    const moving = this.paint(theme, font);
    this.speak();
    return moving;
  }

  // `frame` without words. Whoever draws several paints all, then lets them speak: a text drawn on a canvas after words have changed
  // makes the browser work out the style of the whole page.
  paint(theme, font) {
    const portrait = this.reel.at(this.step) ?? this.blank;
    const anew = this.dirty || portrait !== this.shown || theme.ink !== this.ink;
    if (!anew && !this.moved) return false;
    if (portrait) {
      const state = this.state(portrait, theme, font);
      if (!this.canvas.hidden && portrait !== this.nothing) this.network.draw(this.canvas, state);
      if (this.answers instanceof WallView) this.answers.draw(this.wall, state, anew);
      if (anew && this.answers instanceof SurfaceView && portrait.surface) this.answers.draw(this.wall, { ...state, surface: portrait.surface });
      if (anew) this.unsaid = [portrait, state];
    }
    Object.assign(this, { dirty: false, shown: portrait, ink: theme.ink, moved: this.moving }); // what has come to rest is drawn once more
    return this.moved;
  }

  speak() {
    if (this.unsaid) this.say(...this.unsaid);
    this.unsaid = null;
  }

  // What is shown before the first portrait: the samples, without answers.
  get blank() {
    const scene = { written: {}, held: {}, task: null, earlier: null, acting: "" };
    return this.reel.samples ? (this.nothing ??= { step: 0, levels: {}, scene }) : undefined;
  }

  state(portrait, theme, font) {
    const { tasks, classes, levels } = this.told;
    const { written, held, task, earlier } = portrait.scene;
    const index = (name) => (name === null || !tasks.includes(name) ? null : tasks.indexOf(name));
    return {
      portrait, theme, font, tasks, classes, levels, written, held, samples: this.reel.samples, answers: portrait.answers,
      shape: this.reel.samples?.shape, current: index(task) ?? 0, earlier: index(earlier), still: this.reduced || this.step !== null,
    };
  }

  // The list of levels: writes so far, and what was held back of the last one that was measured, for which task's sake.
  sayLevels(written, shares, acting, theme) {
    this.told.levels.forEach((name, i) => {
      const row = this.list.children[i + 1];
      const [, , writes, held] = row.children;
      const count = written[name] ?? 0;
      const parts = accounts(shares[name], this.told.tasks, theme);
      writes.textContent = String(count);
      held.style.backgroundImage = parts.length ? `linear-gradient(90deg, ${parts.map(({ colour, from, to }) => `${css(colour, 0.45)} ${100 * from}% ${100 * to}%`).join(", ")}, transparent 0)` : "";
      held.textContent = parts.length ? inWords(parts) : !count ? "no write yet" : acting === "deep" ? "not measured yet" : "nothing";
      const times = `${count} ${count === 1 ? "write" : "writes"}`;
      row.title = `${name}: ${often(this.periods[name] ?? 1)}, ${times}, held back for ${held.textContent}`;
      row.classList.toggle("nl-none", !parts.length);
    });
  }

  // The same in words and numbers: the list of levels, and what the pictures show for those who do not see them.
  say(portrait, state) {
    this.sayLevels(state.written, state.held, portrait.scene.acting, state.theme);
    const rights = Object.entries(state.samples?.tasks ?? {}).map(([task, { labels }]) => {
      const given = portrait.answers?.[task];
      return given ? `${labels.filter((label, i) => label === given[i]).length} of ${labels.length} shown samples of ${task} are right` : "";
    });
    this.wall.setAttribute("aria-label", rights.filter(Boolean).join("; ") || "Test samples");
    const left = Object.entries(portrait.levels).flatMap(([name, level]) => {
      const shares = level.retained;
      return shares ? [`${name} ${Math.round((100 * shares.reduce((sum, one) => sum + one, 0)) / (255 * shares.length))} %`] : [];
    });
    this.canvas.setAttribute("aria-label", `The network at step ${portrait.step}. ${left.length ? `Left of its responses to earlier tasks: ${left.join(", ")}.` : ""}`);
    if (portrait.texts) this.write(portrait.texts);
  }

  // Names as the network writes them on: the given letters bold, a tick where the name is right.
  write(texts) {
    const { samples, given, tasks } = this.told;
    this.words.replaceChildren(
      ...Object.entries(samples.tasks).map(([task, { names }]) => {
        const list = made("ul");
        list.dataset.task = tasks.indexOf(task) % 5;
        names.forEach((whole, i) => {
          const item = made("li");
          const now = texts[task]?.[i] ?? "";
          item.append(made("b", "", now.slice(0, given)), now.slice(given), made("small", "", now === whole ? " ✓" : ` (${whole})`));
          list.append(item);
        });
        return list;
      }),
    );
  }

  // A unit under the pointer, enlarged.
  look(event) {
    const { left, top } = this.canvas.getBoundingClientRect();
    const found = this.network.unitAt(event.clientX - left, event.clientY - top);
    this.loupe.hidden = !found;
    if (!found || !this.shown) return;
    const level = this.shown.levels[found.level];
    const state = this.state(this.shown, themeOf(getComputedStyle(this.root).color), "");
    const canvas = this.loupe.querySelector("canvas") ?? this.loupe.appendChild(Object.assign(made("canvas"), { width: 96, height: 96 }));
    const text = this.loupe.querySelector("span") ?? this.loupe.appendChild(made("span"));
    const hue = hueOf({ ...state, written: state.written[found.level], retained: level.retained?.[found.unit] });
    const numbers = pictureOf(level, found.unit);
    paintCells(canvas.getContext("2d"), numbers, grid(numbers.length)[0], 48, 48, 96, hue, state.theme);
    const kept = level.retained ? ` ${Math.round((100 * level.retained[found.unit]) / 255)} % of its response to earlier tasks is left.` : "";
    text.textContent = `${found.level}, unit ${found.unit + 1}: its ${numbers.length} weights.${kept}`;
    this.loupe.style.left = `${Math.min(event.clientX - left + 14, this.canvas.clientWidth - 120)}px`;
    this.loupe.style.top = `${Math.min(event.clientY - top + 14, this.canvas.clientHeight - 150)}px`;
  }

  name(event) {
    if (!(this.answers instanceof WallView) || !this.shown) return;
    const { left, top } = this.wall.getBoundingClientRect();
    const state = this.state(this.shown, themeOf(getComputedStyle(this.root).color), "");
    this.wall.title = this.answers.cardAt(event.clientX - left, event.clientY - top, state) ?? "";
  }
}
