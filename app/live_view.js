// All runs of a page, fed by one connection: news arrives over server-sent events and is drawn at once; no Streamlit script runs for it.

const SETTLE_MS = 500; // until the page around has been laid out anew
const SPEAK_MS = 5000;
const STORE = "nllab.runs"; // page -> which runs this tab has there, and for which address
const FRAME_MS = 8; // of drawing in one go; the figures that are left follow in the next frames
const SLOW_FRAME_MS = 28; // thirty frames a second, of sixty
const LIVELY = 1000; // between two looks at the colours of the page

let plotly;
function loadPlotly(url) {
  plotly ??= new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = url;
    script.onload = () => done(window.Plotly);
    script.onerror = () => failed(new Error("The script that saves figures could not be loaded from this server. Reload the page."));
    document.head.appendChild(script);
  });
  return plotly;
}

function store() {
  try {
    return JSON.parse(sessionStorage.getItem(STORE)) ?? {};
  } catch {
    return {};
  }
}

function remembered() {
  const kept = store()[location.pathname];
  return kept?.query === location.search ? kept.runs : ""; // another address means other settings: other runs
}

// Whether a graphics card paints this page; browsers draw WebGL by software where there is none, and its name says so.
function drawsOnACard() {
  const gl = document.createElement("canvas").getContext("webgl");
  const named = gl?.getExtension("WEBGL_debug_renderer_info")?.UNMASKED_RENDERER_WEBGL ?? gl?.RENDERER;
  const found = Boolean(gl) && !/swiftshader|llvmpipe|software|basic render/i.test(gl.getParameter(named));
  gl?.getExtension("WEBGL_lose_context")?.loseContext();
  return found;
}

class View {
  constructor(parent, component) {
    this.component = component;
    this.reduced = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.root = element("section", "nl");
    this.root.setAttribute("aria-label", "Live training");
    this.together = element("p", "nl-together");
    this.spoken = element("p", "nl-spoken"); // the same for screen readers, at a pace at which it can be read out
    this.spoken.setAttribute("aria-live", "polite");
    this.lost = element("p", "nl-lost");
    this.lost.setAttribute("role", "status");
    this.lost.hidden = this.together.hidden = true;
    this.back = element("div", "nl-back");
    this.back.setAttribute("role", "group");
    this.back.setAttribute("aria-label", "Go back to a checkpoint");
    this.grid = element("div", "nl-panels");
    this.phases = this.phaseBar();
    this.root.append(this.together, this.spoken, this.lost, this.phases, this.grid, this.back);
    parent.appendChild(this.root);
    this.panels = [];
    this.queued = [];
    this.zoom = this.hovered = this.source = null;
    this.draws = 0;
    // Between two frames, in ms: without a graphics card the processor paints them, and the training on it waits.
    this.rest = drawsOnACard() ? 0 : SLOW_FRAME_MS;
    this.drawnAt = -Infinity;
    this.spokeAt = -SPEAK_MS;
    this.onKey = (event) => this.key(event);
    this.onLeave = () => this.remember();
    document.addEventListener("keydown", this.onKey);
    addEventListener("pagehide", this.onLeave);
    this.onSize = new ResizeObserver(() => {
      this.ink = ""; // the type of a slide grows with its screen
      this.redrawAll();
    });
    this.onSize.observe(this.root);
    this.watch = setInterval(() => this.look(), LIVELY);
    this.root.dataset.draws = 0;
    this.screen = new Screen(this);
  }

  about(name) {
    return this.component.data.about[name] ?? "";
  }

  get single() {
    return this.component.data.titles.length === 1;
  }

  get plots() {
    return this.panels.flatMap((panel) => Object.values(panel.plots));
  }

  // What the page around says now.
  update(component) {
    this.component = component;
    const { runs, titles, spotlight } = component.data;
    if (spotlight !== this.spotlight) {
      this.spotlight = spotlight;
      const bring = () => document.querySelector(spotlight)?.scrollIntoView({ block: "center" });
      if (spotlight) setTimeout(bring, SETTLE_MS);
    }
    if (titles.join() !== this.titles) {
      this.titles = titles.join();
      this.panels = titles.map((title) => new Panel(this, title));
      this.grid.replaceChildren(...this.panels.map((panel) => panel.root));
      this.grid.dataset.count = titles.length;
      this.runs = undefined;
    }
    if (!runs.length && component.data.note) for (const panel of this.panels) panel.sentence.textContent = component.data.note;
    if (!runs.length && !this.asked) {
      this.asked = true;
      component.setStateValue("tab", remembered());
    }
    if (runs.length && runs.join() !== this.runs) this.connect(runs);
    this.remember();
    this.openWrites();
  }

  remember() {
    if (this.runs) sessionStorage.setItem(STORE, JSON.stringify({ ...store(), [location.pathname]: { runs: this.runs, query: location.search } }));
  }

  connect(runs) {
    this.runs = runs.join();
    this.source?.close();
    this.together.textContent = ""; // a single run sends none
    this.together.hidden = true;
    const source = (this.source = new EventSource(`live/${encodeURIComponent(this.runs)}${this.reduced ? "?per_second=1" : ""}`));
    source.onopen = () => this.complain("");
    source.onmessage = (event) => this.hear(JSON.parse(event.data));
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) return this.complain("Connection lost. Reconnecting …");
      this.complain("This run is no longer on the server.");
      this.component.setTriggerValue("stale", "gone");
    };
  }

  // Slow motion of one write: its phases, the level whose write it is, and the way back to the network.
  phaseBar() {
    const bar = element("div", "nl-phasebar");
    bar.setAttribute("role", "group");
    bar.setAttribute("aria-label", "One write, phase by phase");
    bar.hidden = true;
    this.level = element("select", "nl-phase-level");
    this.level.setAttribute("aria-label", "Level whose next write is opened");
    this.level.addEventListener("change", () => this.component.setTriggerValue("open", this.level.value));
    const button = (text, act, name = text) => {
      const made = element("button", "nl-phase", text);
      made.type = "button";
      made.setAttribute("aria-label", name);
      made.addEventListener("click", act);
      return made;
    };
    this.phaseButtons = PHASES.map((name, i) => button(name, () => this.goTo(i)));
    bar.append(element("span", "", "One write of"), this.level, ...this.phaseButtons, button("Back to the networks", () => this.closeWrites()));
    return bar;
  }

  // Opens what the server has found of the writes that were asked for; once.
  openWrites() {
    const opened = this.component.data.opened ?? [];
    if (!opened.length || opened.some((one) => !one) || opened.length !== this.panels.length) return;
    const key = opened.map(({ step, level }) => `${level}@${step}`).join() + this.runs;
    if (key === this.openedKey) return;
    this.openedKey = key;
    this.open = opened;
    const { levels } = this.panels[0];
    if (this.level.children.length !== levels.length) this.level.replaceChildren(...levels.map((name) => element("option", "", name)));
    this.level.value = opened[0].level;
    this.phases.hidden = false;
    this.panels.forEach((panel, i) => panel.openWrite(opened[i]));
    this.goTo(0, true);
  }

  closeWrites() {
    if (!this.open) return;
    this.open = null;
    clearTimeout(this.slow);
    this.phases.hidden = true;
    for (const panel of this.panels) panel.openWrite(null);
    this.requestDraw();
  }

  goTo(phase, plays = false) {
    clearTimeout(this.slow);
    this.phaseButtons.forEach((button, i) => button.setAttribute("aria-pressed", String(i === phase)));
    for (const panel of this.panels) panel.opened.go(phase);
    this.requestDraw();
    if (plays && phase + 1 < PHASES.length && !this.reduced) this.slow = setTimeout(() => this.goTo(phase + 1, true), PHASE_MS);
  }

  get phase() {
    return this.panels[0]?.opened.phase ?? 0;
  }

  complain(text) {
    this.lost.textContent = text;
    this.lost.hidden = !text;
  }

  hear({ runs, together }) {
    if (runs.some((news) => news?.open)) this.zoom = null;
    runs.forEach((news, i) => news && this.panels[i]?.hear(news));
    if (together !== undefined) {
      this.together.textContent = together;
      this.together.hidden = !together;
    }
    this.speak(runs.some((news) => news?.open) || this.panels.every((panel) => panel.root.dataset.playing !== "true"));
    if (this.open && this.panels.some(({ now }, i) => now.step !== this.open[i]?.step || now.playing)) this.closeWrites();
    this.requestDraw();
    this.screen.goOn();
    if (runs.some((news) => news?.now)) {
      this.offerCheckpoints();
      this.compare();
    }
  }

  // At once where another run begins or all stand still, so that what is said last is how it ended.
  speak(atOnce) {
    const text = this.together.textContent || this.panels[0].sentence.textContent;
    clearTimeout(this.speaking);
    if (text === this.spoken.textContent) return;
    const rest = this.spokeAt + SPEAK_MS - performance.now();
    if (rest > 0 && !atOnce) {
      this.speaking = setTimeout(() => this.speak(), rest);
      return;
    }
    this.spokeAt = performance.now();
    this.spoken.textContent = text;
  }

  // The steps to which all runs of the page can return.
  offerCheckpoints() {
    const [first, ...others] = this.panels.map((panel) => panel.now.checkpoints ?? []);
    const furthest = Math.max(...this.panels.map((panel) => panel.now.step));
    const steps = first.filter((step) => step < furthest && others.every((kept) => kept.includes(step)));
    if (steps.join() === this.offered) return;
    this.offered = steps.join();
    const buttons = steps.map((step) => {
      const button = element("button", "nl-checkpoint", step);
      button.type = "button";
      button.title = `Go back to step ${step}, and on from there`;
      button.addEventListener("click", () => this.component.setTriggerValue("back", step));
      return button;
    });
    this.back.replaceChildren(...(buttons.length ? [element("span", "", "Go back to step"), ...buttons] : []));
  }

  requestDraw() {
    if (this.wanted || this.closed) return;
    this.wanted = true;
    requestAnimationFrame(() => this.draw());
  }

  redrawAll() {
    for (const plot of this.plots) plot.changed = Boolean(plot.data || plot.history?.length);
    for (const panel of this.panels) panel.stage.dirty = panel.manager.dirty = panel.opened.dirty = true;
    this.requestDraw();
  }

  get theme() {
    const style = getComputedStyle(this.root);
    if (style.color !== this.ink) {
      this.ink = style.color;
      this.colours = { ...themeOf(style.color), font: style.fontFamily, scale: this.screen.scale };
    }
    return this.colours;
  }

  draw() {
    this.wanted = false;
    if (this.closed) return;
    if (performance.now() - this.drawnAt < this.rest) return this.requestDraw();
    this.drawnAt = performance.now();
    const { theme } = this;
    let moving = false;
    survey(this.root.querySelectorAll("canvas, .nl-figure"));
    for (const panel of this.panels) {
      moving = panel.stage.paint(theme, theme.font) || moving;
      moving = panel.opened.frame(theme, theme.font) || moving;
    }
    const begun = performance.now();
    this.queued = [...new Set([...this.queued, ...this.panels.flatMap((panel) => panel.toDraw)])];
    const drawn = this.queued.length > 0;
    while (this.queued.length && performance.now() - begun < FRAME_MS) {
      const plot = this.queued.shift();
      if (plot.panel.toDraw.includes(plot)) plot.panel.draw(plot, theme);
    }
    for (const panel of this.panels) panel.manager.frame(theme, theme.font);
    for (const panel of this.panels) panel.stage.speak();
    survey([]);
    for (const panel of this.panels) panel.fillTables();
    if (drawn) this.root.dataset.draws = ++this.draws;
    if (moving || this.queued.length) this.requestDraw();
  }

  // A curve is the scrubber of everything: pointing at it, dragging along it or the arrow keys show the network of that moment.
  scrub(plot) {
    const { frame, chart } = plot;
    frame.tabIndex = 0;
    frame.setAttribute("role", "slider");
    frame.setAttribute("aria-valuemin", 0);
    frame.setAttribute("aria-valuenow", 0);
    frame.setAttribute("aria-label", "The time of this run, before its first step");
    const step = (event) => chart.stepAt(event.clientX - frame.getBoundingClientRect().left);
    frame.addEventListener("pointermove", (event) => this.point(step(event)));
    frame.addEventListener("pointerdown", (event) => {
      if (event.shiftKey) this.from = step(event);
      else this.point(step(event));
    });
    frame.addEventListener("pointerup", (event) => {
      const [from, to] = [this.from, step(event)];
      this.from = undefined;
      if (from === undefined || Math.abs(to - from) < 1) return;
      this.zoom = [Math.min(from, to), Math.max(from, to)];
      this.redrawAll();
    });
    frame.addEventListener("pointerleave", () => this.point(null));
    frame.addEventListener("blur", () => this.point(null));
    frame.addEventListener("dblclick", () => {
      this.zoom = null;
      this.redrawAll();
    });
    frame.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: -1, ArrowRight: 1, PageDown: -10, PageUp: 10 }[event.key];
      const last = plot.panel.now.step;
      if (way) this.point(Math.min(last, Math.max(0, (this.hovered ?? last) + way)));
      else if (event.key === "Home") this.point(0);
      else if (event.key === "End" || event.key === "Escape") this.point(null);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
  }

  // What is shown of this step in all views of all runs; null: of the newest.
  point(step) {
    if (step === this.hovered) return;
    this.hovered = step;
    for (const panel of this.panels) panel.pointAt(step);
    this.requestDraw();
  }

  // Buttons around the figures must say what is the case; when a run ends or fails by itself, they are asked to look again.
  compare() {
    const says = () => JSON.stringify(this.component.data.shown.map(Object.values));
    const keys = Object.keys(this.component.data.shown[0] ?? {}); // of a run, what the page around shows
    const is = JSON.stringify(this.panels.map(({ now }) => keys.map((key) => now[key])));
    clearTimeout(this.doubt);
    if (is === says()) return;
    this.doubt = setTimeout(() => is !== says() && this.component.setTriggerValue("stale", is), 300);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) && !/^(checkbox|range|radio)$/.test(event.target.type)) return;
    const key = event.key.toLowerCase();
    if (key === "d") document.querySelector(".st-key-deep input")?.click();
    if (key === "f") this.screen.present(!this.screen.presents);
    if (this.open && key === "escape") this.closeWrites();
    else if (this.open && /^arrow(left|right)$/.test(key)) this.goTo(Math.min(PHASES.length - 1, Math.max(0, this.phase + (key === "arrowleft" ? -1 : 1))));
    else if (key === "escape" && this.screen.presents) this.screen.present(false);
  }

  // See whether the page has changed its colours.
  look() {
    if (this.ink && getComputedStyle(this.root).color !== this.ink) this.redrawAll();
  }

  close() {
    this.closed = true;
    this.screen.close();
    clearTimeout(this.slow);
    this.source?.close();
    this.onSize.disconnect();
    clearInterval(this.watch);
    clearTimeout(this.speaking);
    document.removeEventListener("keydown", this.onKey);
    removeEventListener("pagehide", this.onLeave);
  }
}

export default function (component) {
  const parent = component.parentElement;
  const view = (parent.nllab ??= new View(parent, component));
  view.update(component);
  return () =>
    setTimeout(() => {
      if (view.root.isConnected) return;
      view.close();
      parent.nllab = undefined;
    });
}
