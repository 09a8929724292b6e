// The live figures. News arrives over server-sent events and is drawn at once; no Streamlit script runs for it.

const MOST_POINTS = 2000; // per trace; beyond it every other point goes
const TABLE_ROWS = 200;
const SETTLE_MS = 500; // until the page around has been laid out anew
const SPEAK_MS = 5000;
const MOST_CARDS = 5; // tasks whose accuracies all stand in large type
const MOST_STILLS = 300; // of each view, kept for pointing back at
const STORE = "nllab.runs"; // page -> which runs this tab has there, and for which address
const CURVES = { accuracy: 270, drift: 215, raster: 215 }; // name -> height
const SIGNALS = { surprise: 190, novelty: 190, conflict: 190 };
const STILLS = { matrix: 300, where: 300, surface: 300, answers: 300, texts: 330 };
const LINES = [...Object.keys(CURVES), ...Object.keys(SIGNALS)];
const FRAME_MS = 6; // of drawing in one go; the figures that are left follow in the next frames
const FULL_MS = 1000; // between two times that Plotly draws a figure anew; in between its curves are drawn on
const reduced = matchMedia("(prefers-reduced-motion: reduce)").matches;
const coarse = matchMedia("(pointer: coarse)").matches;

let plotly;
function loadPlotly(url) {
  plotly ??= new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = url;
    script.onload = () => done(window.Plotly);
    script.onerror = () => failed(new Error("The figures could not be loaded from this server. Reload the page."));
    document.head.appendChild(script);
  });
  return plotly;
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
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

function svg(tag, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// "slow · every 16 steps" where there is little room: "slow · 16".
function shortLane(text) {
  return text.replace("every step", "1").replace(/every (\d+) steps/, "$1");
}

// A colour that reads on a dark page: a third of the way to white.
function lifted(colour) {
  if (Array.isArray(colour)) return colour.map(lifted);
  const parts = /^#(..)(..)(..)$/.exec(colour);
  return parts ? `rgb(${parts.slice(1).map((hex) => Math.round(parseInt(hex, 16) * 0.67 + 85)).join(",")})` : colour;
}

// One run: its numbers, its sentence, its figures.
class Panel {
  constructor(view, title) {
    this.view = view;
    this.root = element("section", "nl-panel");
    this.title = element("h3", "nl-title", title);
    this.title.hidden = !title;
    this.root.setAttribute("aria-label", title || "Live training");
    this.numbers = element("dl", "nl-numbers");
    this.sentence = element("p", "nl-sentence", "Getting ready …");
    this.hint = element("p", "nl-hint");
    this.queue = element("p", "nl-queue");
    this.queue.setAttribute("role", "status");
    this.hint.hidden = this.queue.hidden = true;
    this.plots = {};
    const grid = element("div", "nl-figures");
    for (const [name, height] of Object.entries(CURVES)) grid.append(this.card(name, height));
    this.more = element("details", "nl-more");
    this.more.open = !title;
    this.more.addEventListener("toggle", () => view.redrawAll());
    const rest = element("div", "nl-figures");
    this.rings = new Rings();
    rest.append(this.frame("rings", this.rings.root, () => this.rings.rows()));
    for (const [name, height] of Object.entries(STILLS)) rest.append(this.card(name, height));
    const signals = element("div", "nl-signals");
    for (const [name, height] of Object.entries(SIGNALS)) signals.append(this.card(name, height));
    rest.append(signals);
    this.log = element("ol", "nl-log");
    rest.append(this.frame("log", this.log));
    this.more.append(element("summary", "", "More views"), rest);
    this.root.append(this.title, this.numbers, this.sentence, this.queue, this.hint, grid, this.more);
    this.tasks = [];
    this.levels = [];
    this.showNumbers({ step: 0, task: "", optimizer: "", accuracy: {} });
  }

  // A figure that Plotly draws.
  card(name, height) {
    const frame = element("div", `nl-figure nl-${name}`);
    frame.setAttribute("role", "img");
    frame.style.minHeight = `${height}px`;
    this.plots[name] = { panel: this, name, frame, height, data: null, layout: null, ready: false, history: name in STILLS ? [] : null };
    const card = this.frame(name, frame, () => this.rows(name));
    card.hidden = !(name in CURVES); // until there is something to see
    this.plots[name].card = card;
    return card;
  }

  // A view with what it means and the numbers behind it, each one click away.
  frame(name, content, rows) {
    const card = element("figure", `nl-card nl-card-${name}`);
    const under = element("figcaption", "nl-under");
    const about = element("details", "nl-about");
    about.append(element("summary", "", "What is this?"), element("p", "", this.view.about(name)));
    under.append(about);
    if (rows) {
      const table = element("details", "nl-table");
      table.append(element("summary", "", "As a table"), element("div"));
      table.addEventListener("toggle", () => this.fill(table, rows));
      (this.tables ??= []).push([table, rows]);
      under.append(table);
    }
    if (this.plots[name]) for (const format of ["svg", "png"]) under.append(this.saver(this.plots[name], format));
    card.append(content, under);
    return card;
  }

  // Saved figures are for paper: dark on white, whatever the page looks like.
  saver(plot, format) {
    const button = element("button", "nl-save", format.toUpperCase());
    button.title = `Save this figure as ${format.toUpperCase()}`;
    button.addEventListener("click", () => {
      const { data, layout } = plot.history ? plot.shown.spec : plot;
      const coloured = plot.history ? data : data.map((trace, i) => ({ ...trace, ...this.inColour(trace, plot.colours[i]) }));
      const font = { ...layout.font, color: "#1B1F24", family: "Arial, sans-serif" };
      const size = { format, width: 900, height: plot.history ? 480 : 340, scale: 2, filename: `${plot.name}-step-${this.step}` };
      this.view.Plotly.downloadImage({ data: coloured, layout: { ...layout, font, paper_bgcolor: "#FFFFFF" } }, size);
    });
    return button;
  }

  inColour(trace, color) {
    return trace.line ? { line: { ...trace.line, color } } : { textfont: { ...trace.textfont, color } };
  }

  hear(news) {
    if (news.open) this.open(news.open);
    for (const name of LINES) {
      const plot = this.plots[name];
      if (!plot.data) continue;
      news.add?.[name].forEach((added, i) => this.extend(plot, plot.data[i], added));
      if (news.ends?.[name]) plot.card.hidden = false;
      if (news.ends?.[name]) Object.assign(plot.data.at(-1), news.ends[name]);
      if (news.overlay) Object.assign(plot.layout, news.overlay[name]);
      plot.full ||= Boolean(news.open || news.overlay || (news.now && news.now.step > plot.steps));
      plot.changed ||= plot.full || Boolean(news.ends?.[name]);
    }
    for (const [name, step, spec] of news.stills ?? []) {
      const { history, card } = this.plots[name];
      history.push({ step, spec });
      if (history.length > MOST_STILLS) history.splice(1, 1);
      card.hidden = false;
      this.plots[name].changed = true;
    }
    if (news.lanes) {
      const narrow = this.root.clientWidth < 480;
      if (narrow) news.lanes.ticktext = news.lanes.ticktext.map(shortLane);
      Object.assign(this.plots.raster.layout.yaxis, news.lanes);
      this.plots.raster.layout.margin.l = narrow ? 86 : 146;
    }
    if (news.periods) this.rings.arrange(news.periods, this.levels, this.colours());
    if (news.wrote) this.rings.pulse(news.wrote, news.writes);
    for (const row of news.log ?? []) this.note(row);
    if (news.now) this.showNumbers(news.now);
    if ("sentence" in news) this.say(news.sentence);
    if ("hint" in news) this.advise(news.hint);
  }

  open(opened) {
    this.tasks = opened.tasks;
    this.levels = opened.levels;
    this.rings.rings = []; // else they go on from the counts of the run before
    for (const name of LINES) {
      const plot = this.plots[name];
      plot.card.hidden = !(name in CURVES);
      plot.data = opened.figures[name].data;
      plot.layout = { ...opened.figures[name].layout, height: plot.height, autosize: true, hoverlabel: {} };
      plot.colours = plot.data.map((trace) => trace.line?.color ?? trace.textfont.color);
      plot.layout.yaxis.fixedrange = true;
      if (name === "drift") plot.layout.yaxis.autorange = true;
      plot.layout.xaxis.fixedrange = coarse; // a finger scrolls the page
      plot.layout.hoverdistance = -1;
      plot.steps = plot.layout.xaxis.range?.[1] ?? 1;
    }
    for (const name of Object.keys(STILLS)) {
      this.plots[name].history = [];
      this.plots[name].card.hidden = true;
    }
    this.log.replaceChildren(element("li", "nl-none", "No decision so far."));
  }

  colours() {
    return this.plots.drift.data.slice(0, -1).map((trace) => trace.line.color);
  }

  extend(plot, trace, added) {
    for (const key of ["x", "y"]) trace[key].push(...added[key]);
    const group = trace.meta?.group ?? 1;
    if (trace.x.length > MOST_POINTS * group) {
      plot.full = true;
      const kept = (_, i) => Math.floor(i / group) % 2 === 0;
      for (const key of ["x", "y"]) trace[key] = trace[key].filter(kept);
    }
  }

  // What a manager decided: the newest first.
  note(row) {
    this.log.querySelector(".nl-none")?.remove();
    const entry = element("li");
    entry.dataset.step = row.step;
    entry.tabIndex = 0;
    for (const come of ["pointerenter", "focus"]) entry.addEventListener(come, () => this.view.point(row.step));
    for (const go of ["pointerleave", "blur"]) entry.addEventListener(go, () => this.view.point(null));
    const saw = Object.entries(row.saw).map(([name, value]) => `${name} ${Number(value).toPrecision(2)}`);
    const did = Object.entries(row.did).map(([name, value]) => `${name} → ${typeof value === "number" ? Number(value.toPrecision(3)) : value}`);
    entry.append(element("b", "", `step ${row.step} · ${row.level}`), element("span", "", row.text));
    entry.append(element("small", "", [saw.join(", "), did.join(", ")].filter(Boolean).join(" ⇒ ")));
    this.log.prepend(entry);
    while (this.log.children.length > TABLE_ROWS) this.log.lastChild.remove();
  }

  draw(plot, dark, style) {
    if (plot.history) {
      const early = plot.drawn && this.view.hovered === null && performance.now() - plot.fullAt < FULL_MS / 2;
      plot.changed = false;
      plot.stale = early;
      if (!early) this.drawStill(plot);
      return;
    }
    if (!plot.full && (plot.name in SIGNALS ? performance.now() - plot.fullAt < FULL_MS : this.drawOn(plot))) {
      plot.changed = false;
      plot.stale = true;
      return;
    }
    plot.full = plot.stale = false;
    plot.fullAt = performance.now();
    plot.lines = null;
    const last = Number(this.step ?? 0);
    const outgrown = last > plot.steps;
    plot.changed = false;
    const { zoom, draws, ink, Plotly } = this.view;
    const { layout } = plot;
    layout.font = { ...layout.font, color: ink, family: style.fontFamily };
    layout.hoverlabel = { bgcolor: dark ? "#2A2F37" : "#FFFFFF", font: { color: ink, family: style.fontFamily }, bordercolor: "rgba(128,128,128,.4)" };
    plot.data.forEach((trace, i) => {
      const colour = dark ? lifted(plot.colours[i]) : plot.colours[i];
      if (trace.line) trace.line.color = colour;
      else trace.textfont.color = colour;
    });
    if (plot.name === "drift" && !plot.data[0].x.length) layout.yaxis.range = [-2, 0]; // for want of anything else
    if (outgrown) plot.steps = Math.ceil((last * 1.25) / 10) * 10;
    layout.xaxis.range = zoom ?? [0, plot.steps];
    layout.datarevision = draws;
    Plotly.react(plot.frame, plot.data, layout, { displayModeBar: false, responsive: true, doubleClick: false });
    if (!plot.ready) this.view.link(plot);
  }

  // Carries the curves on without Plotly, which lays a whole figure out anew; false where that does not do. Plotly follows once a second.
  drawOn(plot) {
    const whole = plot.frame._fullLayout;
    if (!plot.ready || !whole) return false;
    const { xaxis, yaxis } = whole;
    const scale = [xaxis.range, yaxis.range, xaxis._length, yaxis._length].join();
    if (plot.lines?.scale !== scale) {
      const groups = [...plot.frame.querySelectorAll(".scatterlayer .trace")];
      const of = new Map(groups.map((group) => [group.__data__?.[0]?.trace.index, group]));
      const lines = plot.data.slice(0, -1).map((_, i) => ({ path: of.get(i)?.querySelector("path.js-line"), d: "", drawn: 0 }));
      plot.lines = { scale, lines, labels: [...(of.get(plot.data.length - 1)?.querySelectorAll(".textpoint text") ?? [])] };
    }
    const { lines, labels } = plot.lines;
    const ends = plot.data.at(-1);
    const shown = ends.y.flatMap((y, i) => (y === null ? [] : [i]));
    if (shown.length !== labels.length || plot.data.some((trace, i) => trace.x.length && i < lines.length && !lines[i].path)) return false;
    const [low, high] = [...yaxis.range].sort((a, b) => a - b);
    const log = yaxis.type === "log";
    const inside = (y) => y === null || ((log ? Math.log10(y) : y) >= low && (log ? Math.log10(y) : y) <= high);
    for (const [i, line] of lines.entries()) {
      const { x, y } = plot.data[i];
      let pen = line.d && line.drawn && y[line.drawn - 1] !== null ? "L" : "M";
      for (; line.drawn < x.length; line.drawn++) {
        const value = y[line.drawn];
        if (!inside(value)) return false;
        if (value !== null) line.d += `${pen}${xaxis.d2p(x[line.drawn]).toFixed(1)},${yaxis.d2p(value).toFixed(1)}`;
        pen = value === null ? "M" : "L";
      }
      if (line.d) line.path.setAttribute("d", line.d);
    }
    for (const [place, i] of shown.entries()) {
      const label = labels[place];
      label.setAttribute("x", xaxis.d2p(ends.x[i]));
      label.setAttribute("y", yaxis.d2p(ends.y[i]));
      if (label.textContent !== ends.text[i]) label.textContent = ends.text[i];
    }
    return true;
  }

  get toDraw() {
    const seen = (plot) => (plot.name in CURVES ? plot.data : !plot.card.hidden && this.more.open);
    return Object.values(this.plots).filter((plot) => plot.changed && seen(plot));
  }

  fillTables() {
    for (const [table, rows] of this.tables) if (table.open && performance.now() - (table.filled ?? 0) > 2000) this.fill(table, rows);
  }

  // The newest picture, or the one of the step that is pointed at.
  drawStill(plot) {
    plot.changed = false;
    const at = this.view.hovered;
    const shown = (at !== null && plot.history.findLast((still) => still.step <= at)) || plot.history.at(-1);
    const layout = { ...shown.spec.layout, autosize: true };
    layout.font = { ...layout.font, color: this.view.ink, family: this.view.family };
    plot.shown = shown;
    plot.fullAt = performance.now();
    this.view.Plotly.react(plot.frame, shown.spec.data, layout, { displayModeBar: false, responsive: true, doubleClick: false });
    plot.frame.dataset.step = shown.step;
    plot.frame.setAttribute("aria-label", `${layout.title.text.replace(/<[^>]*>/g, " ")}. ${this.sentence.textContent}`);
    plot.drawn = true;
  }

  pointAt(step) {
    this.rings.show(step ?? this.step);
    for (const name of Object.keys(STILLS)) {
      const plot = this.plots[name];
      const shown = step !== null && plot.history.findLast((still) => still.step <= step);
      if ((shown || plot.history.at(-1)) === plot.shown) continue;
      plot.changed = true;
      this.view.requestDraw();
    }
    for (const entry of this.log.children) entry.classList.toggle("nl-at", Number(entry.dataset.step) === Math.round(step ?? -1));
  }

  // Of each task; of a crowd only of the one being taught and of all on average.
  accuracies(now) {
    const card = (task) => [`accuracy-${task}`, `accuracy on ${task}`, now.accuracy[task]?.toFixed(2) ?? "–", this.tasks.indexOf(task)];
    if (this.tasks.length <= MOST_CARDS) return this.tasks.map(card);
    const values = Object.values(now.accuracy);
    const mean = values.length ? (values.reduce((sum, value) => sum + value, 0) / values.length).toFixed(2) : "–";
    const taught = this.tasks.includes(now.task) ? [["accuracy-taught", "accuracy on it", now.accuracy[now.task]?.toFixed(2) ?? "–"]] : [];
    return [...taught, ["accuracy-mean", "mean of all", mean]];
  }

  showNumbers(now) {
    this.now = now;
    this.step = now.step;
    const learning = now.playing && !now.finished;
    const entries = [
      ["step", "step", now.step],
      ["task", now.finished ? "learned last" : "being taught", now.task ? (now.task === "all" ? "all tasks" : `task ${now.task}`) : "–"],
      ...this.accuracies(now),
      ["optimizer", "who writes", this.view.component.data.writers[now.optimizer] ?? now.optimizer ?? "–"],
    ];
    const key = entries.map((entry) => entry[0]).join();
    if (key !== this.numbersKey) {
      this.numbersKey = key;
      this.numbers.replaceChildren(
        ...entries.map(([name, , , task]) => {
          const card = element("div", `nl-number nl-number-${name}`);
          if (task !== undefined) card.dataset.task = task % 5;
          card.append(element("dt"), element("dd"));
          return card;
        }),
      );
    }
    entries.forEach(([, label, value], i) => {
      const [dt, dd] = this.numbers.children[i].children;
      if (dt.textContent !== label) dt.textContent = label;
      if (dd.textContent !== String(value)) dd.textContent = value;
    });
    this.root.dataset.playing = String(Boolean(learning));
    this.root.dataset.finished = String(Boolean(now.finished));
    this.root.dataset.acting = now.optimizer === "deep" ? "deep" : "plain";
    const text = now.place ? `Number ${now.place} in line: other trainings have their turn on this server. Yours goes on by itself.` : "";
    this.queue.hidden = !text;
    if (this.queue.textContent !== text) this.queue.textContent = text;
    this.rings.show(now.step);
  }

  say(sentence) {
    this.sentence.textContent = sentence;
    for (const plot of Object.values(this.plots))
      if (plot.layout) plot.frame.setAttribute("aria-label", `${plot.layout.title.text}. ${sentence}`);
    this.rings.root.setAttribute("aria-label", `The nested loops. ${this.rings.rows().slice(1).map((row) => row.join(" ")).join("; ")}.`);
  }

  // What to try next.
  advise(hint) {
    const text = this.view.component.data.hints[hint] ?? "";
    if (this.hint.innerHTML !== text) this.hint.innerHTML = text;
    this.hint.hidden = !text;
  }

  // The numbers behind a figure: a head and lines.
  rows(name) {
    const plot = this.plots[name];
    if (plot.history) return plot.shown?.spec.meta?.table ?? [];
    if (!plot.data) return [];
    const curves = plot.data.slice(0, -1);
    if (name === "raster") {
      const lanes = curves.map((trace) => [trace.name, trace.x.length / 3, trace.x.at(-1) ?? "–"]);
      return [["level", "marks shown", "last write at step"], ...lanes];
    }
    const of = { accuracy: "accuracy on" }[name] ?? `${name} of`;
    const values = curves.map((trace) => new Map(trace.x.map((step, i) => [step, trace.y[i]])));
    const steps = [...new Set(curves.flatMap((trace) => trace.x))].sort((a, b) => b - a).slice(0, TABLE_ROWS);
    return [["step", ...curves.map((trace) => `${of} ${trace.name}`)], ...steps.map((step) => [step, ...values.map((found) => found.get(step) ?? "")])];
  }

  fill(details, rows) {
    if (!details.open) return;
    details.filled = performance.now();
    const [head = [], ...lines] = rows();
    const table = element("table");
    const first = element("tr");
    for (const name of head) first.append(Object.assign(element("th", "", name), { scope: "col" }));
    table.append(first);
    for (const line of lines) {
      const row = element("tr");
      row.append(...line.map((value) => element("td", "", value)));
      table.append(row);
    }
    details.lastChild.replaceChildren(table);
  }

  close() {
    for (const plot of Object.values(this.plots)) if (plot.ready || plot.drawn) this.view.Plotly.purge(plot.frame);
  }
}

// The loops inside each other, the fastest innermost: a hand goes round once per period, and the ring lights up when its level writes.
class Rings {
  constructor() {
    this.root = svg("svg", { viewBox: "0 0 460 250", class: "nl-rings", role: "img" });
    this.rings = [];
  }

  arrange(periods, levels, colours) {
    const order = [...levels.keys()].sort((a, b) => periods[levels[a]] - periods[levels[b]] || a - b);
    const gap = Math.min(20, 96 / levels.length);
    this.root.replaceChildren();
    this.rings = order.map((i, place) => {
      const name = levels[i];
      const before = this.rings.find((ring) => ring.name === name);
      const radius = 16 + gap * (place + 0.5);
      const y = 30 + (190 / Math.max(order.length - 1, 1)) * place;
      const circle = svg("circle", { cx: 125, cy: 125, r: radius, class: "nl-ring", stroke: colours[i] });
      const hand = svg("circle", { r: 4.5, fill: colours[i], class: "nl-hand" });
      const line = svg("polyline", { points: `${125 + radius * 0.87},${125 + radius * (place < order.length / 2 ? -0.5 : 0.5)} 262,${y} 272,${y}`, class: "nl-leader" });
      const label = svg("text", { x: 278, y: y + 4, class: "nl-ring-name" }, name);
      const count = svg("text", { x: 278, y: y + 20, class: "nl-ring-count" });
      this.root.append(line, circle, hand, label, count);
      return { name, period: periods[name], radius, circle, hand, count, writes: before?.writes ?? 0 };
    });
    this.show(this.step ?? 0);
  }

  pulse(wrote, writes) {
    for (const ring of this.rings) {
      ring.writes = writes[ring.name];
      if (!wrote.includes(ring.name)) continue;
      ring.circle.classList.remove("nl-wrote");
      void ring.circle.getBoundingClientRect(); // so that the animation starts anew
      ring.circle.classList.add("nl-wrote");
    }
    this.show(this.step ?? 0);
  }

  show(step) {
    this.step = step;
    for (const { period, radius, hand, count, writes } of this.rings) {
      const angle = (2 * Math.PI * (Math.round(step) % period)) / period;
      hand.setAttribute("cx", 125 + radius * Math.sin(angle));
      hand.setAttribute("cy", 125 - radius * Math.cos(angle));
      const often = period === 1 ? "every step" : `every ${period} steps`;
      count.textContent = `${often} · ${writes} ${writes === 1 ? "write" : "writes"}`;
    }
  }

  rows() {
    return [["level", "period in steps", "writes"], ...this.rings.map(({ name, period, writes }) => [name, period, writes])];
  }
}

// All runs of a page, fed by one connection.
class View {
  constructor(parent, component) {
    this.component = component;
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
    this.root.append(this.together, this.spoken, this.lost, this.grid, this.back);
    parent.appendChild(this.root);
    this.panels = [];
    this.queued = [];
    this.zoom = this.hovered = this.source = null;
    this.draws = this.drawnAt = this.took = 0;
    this.spokeAt = -SPEAK_MS;
    this.onKey = (event) => this.key(event);
    this.onLeave = () => this.remember();
    document.addEventListener("keydown", this.onKey);
    addEventListener("pagehide", this.onLeave);
    this.watch = setInterval(() => this.look(), 1000);
    this.root.dataset.draws = 0;
  }

  about(name) {
    return this.component.data.about[name] ?? "";
  }

  get plots() {
    return this.panels.flatMap((panel) => Object.values(panel.plots));
  }

  get curves() {
    return this.plots.filter((plot) => !plot.history);
  }

  // What the page around says now.
  update(component) {
    loadPlotly(component.data.plotly).catch(() => {}); // while the runs are still being opened
    this.component = component;
    const { runs, titles, spotlight } = component.data;
    if (spotlight !== this.spotlight) {
      this.spotlight = spotlight;
      const bring = () => document.querySelector(spotlight)?.scrollIntoView({ block: "center" });
      if (spotlight) setTimeout(bring, SETTLE_MS);
    }
    if (titles.join() !== this.titles) {
      this.titles = titles.join();
      for (const panel of this.panels) panel.close();
      this.panels = titles.map((title) => new Panel(this, title));
      this.grid.replaceChildren(...this.panels.map((panel) => panel.root));
      this.grid.dataset.count = titles.length;
      this.runs = undefined;
    }
    if (!runs.length && component.data.note) for (const panel of this.panels) panel.sentence.textContent = component.data.note;
    if (!runs.length && !this.told) {
      this.told = true;
      component.setStateValue("tab", remembered());
    }
    if (runs.length && runs.join() !== this.runs) this.connect(runs);
    this.remember();
  }

  remember() {
    if (this.runs) sessionStorage.setItem(STORE, JSON.stringify({ ...store(), [location.pathname]: { runs: this.runs, query: location.search } }));
  }

  async connect(runs) {
    const wanted = (this.runs = runs.join());
    this.source?.close();
    this.together.textContent = ""; // a single run sends none
    this.together.hidden = true;
    try {
      this.Plotly = await loadPlotly(this.component.data.plotly);
    } catch (error) {
      this.complain(error.message);
      return;
    }
    if (wanted !== this.runs || this.closed) return;
    const source = (this.source = new EventSource(`live/${encodeURIComponent(wanted)}${reduced ? "?per_second=1" : ""}`));
    source.onopen = () => this.complain("");
    source.onmessage = (event) => this.hear(JSON.parse(event.data));
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) return this.complain("Connection lost. Reconnecting …");
      this.complain("This run is no longer on the server.");
      this.component.setTriggerValue("stale", "gone");
    };
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
    if (runs.some((news) => news && (news.open || news.add || news.overlay || news.stills))) this.requestDraw();
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
    const furthest = Math.max(...this.panels.map((panel) => panel.step));
    const steps = first.filter((step) => step < furthest && others.every((kept) => kept.includes(step)));
    if (steps.join() === this.offered) return;
    this.offered = steps.join();
    const buttons = steps.map((step) => {
      const button = element("button", "nl-checkpoint", step);
      button.title = `Go back to step ${step}, and on from there`;
      button.addEventListener("click", () => this.component.setTriggerValue("back", step));
      return button;
    });
    this.back.replaceChildren(...(buttons.length ? [element("span", "", "Go back to step"), ...buttons] : []));
  }

  // On a slow machine drawing takes half of the time at most, so that the page stays alive.
  requestDraw() {
    if (this.wanted) return;
    this.wanted = true;
    const rest = Math.max(0, this.drawnAt + this.took - performance.now());
    setTimeout(() => requestAnimationFrame(() => this.draw()), rest);
  }

  redrawAll() {
    for (const plot of this.plots) plot.changed = plot.full = true;
    if (this.Plotly) this.requestDraw();
  }

  draw() {
    this.wanted = false;
    if (this.closed) return;
    const begun = performance.now();
    const style = getComputedStyle(this.root);
    this.ink = style.getPropertyValue("color");
    this.family = style.fontFamily;
    const dark = (this.ink.match(/[\d.]+/g) ?? []).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) > 384;
    this.queued = [...new Set([...this.queued, ...this.panels.flatMap((panel) => panel.toDraw)])];
    while (this.queued.length && performance.now() - begun < FRAME_MS) {
      const plot = this.queued.shift();
      if (plot.panel.toDraw.includes(plot)) plot.panel.draw(plot, dark, style);
    }
    for (const panel of this.panels) panel.fillTables();
    this.drawnAt = performance.now();
    this.took = this.drawnAt - begun;
    this.root.dataset.draws = ++this.draws;
    if (this.hovered !== null) this.pointAt(this.hovered, undefined, false);
    if (this.queued.length) this.requestDraw();
  }

  // A step pointed at, or a stretch zoomed into, in one figure is so in all, of all runs.
  link(plot) {
    plot.ready = true;
    plot.frame.on("plotly_hover", (event) => {
      if (this.pointing) return;
      this.point(event.xvals?.[0] ?? event.points[0].x, plot);
    });
    plot.frame.on("plotly_unhover", () => !this.pointing && this.point(null, plot));
    plot.frame.on("plotly_relayout", (change) => {
      const range = change["xaxis.range"] ?? [change["xaxis.range[0]"], change["xaxis.range[1]"]];
      if (range[0] === undefined) return;
      this.zoom = [...range];
      this.redrawAll();
    });
    plot.frame.on("plotly_doubleclick", () => {
      this.zoom = null;
      this.redrawAll();
    });
  }

  // What is shown of this step in all views of all runs; null: of the newest. `from`: the figure that shows it already.
  point(step, from) {
    this.hovered = step;
    if (step !== null) return this.pointAt(step, from);
    this.pointing = true;
    for (const other of this.curves) if (other !== from && other.ready) this.Plotly.Fx.unhover(other.frame);
    this.pointing = false;
    for (const panel of this.panels) panel.pointAt(null);
  }

  pointAt(step, except, stills = true) {
    this.pointing = true;
    for (const other of this.curves) {
      if (other === except || !other.ready || !other.data.some((trace) => trace.x.length)) continue;
      try {
        this.Plotly.Fx.hover(other.frame, { xval: step }, "xy");
      } catch {
        // a figure that is just being drawn anew cannot be pointed at
      }
    }
    this.pointing = false;
    if (stills) for (const panel of this.panels) panel.pointAt(step);
  }

  // Buttons around the figures must say what is the case; when a run ends or fails by itself, they are asked to look again.
  compare() {
    const is = JSON.stringify(this.panels.map(({ now }) => [now.playing, now.finished, now.error, now.notice]));
    clearTimeout(this.doubt);
    const says = () => JSON.stringify(this.component.data.shown.map((run) => [run.playing, run.finished, run.error, run.notice]));
    if (is === says()) return;
    this.doubt = setTimeout(() => is !== says() && this.component.setTriggerValue("stale", is), 300);
  }

  key(event) {
    if (event.key.toLowerCase() !== "d" || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) && !/^(checkbox|range|radio)$/.test(event.target.type)) return;
    document.querySelector(".st-key-deep input")?.click();
  }

  // Once a second: let Plotly catch up with what was drawn without it, and see whether the page has changed its colours.
  look() {
    for (const plot of this.plots) if (plot.stale) plot.changed = plot.full = true;
    if (this.plots.some((plot) => plot.stale)) this.requestDraw();
    if (this.Plotly && this.ink && getComputedStyle(this.root).getPropertyValue("color") !== this.ink) this.redrawAll();
  }

  close() {
    this.closed = true;
    this.source?.close();
    clearInterval(this.watch);
    clearTimeout(this.speaking);
    document.removeEventListener("keydown", this.onKey);
    removeEventListener("pagehide", this.onLeave);
    for (const panel of this.panels) panel.close();
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
