// The live figures. News arrives over server-sent events and is drawn at once; no Streamlit script runs for it.

const MOST_POINTS = 2000; // per trace; beyond it every other point goes
const TABLE_ROWS = 200;
const SPEAK_MS = 5000;
const MOST_CARDS = 5; // tasks whose accuracies all stand in large type
const STORE = "nllab.run"; // which run this tab has, and for which address
const HEIGHTS = { accuracy: 270, drift: 215, raster: 215 };
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

function remembered() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(STORE));
    return kept && kept.query === location.search ? kept.run : ""; // another address means other settings: another run
  } catch {
    return "";
  }
}

// A colour that reads on a dark page: a third of the way to white.
function lifted(colour) {
  if (Array.isArray(colour)) return colour.map(lifted);
  const parts = /^#(..)(..)(..)$/.exec(colour);
  return parts ? `rgb(${parts.slice(1).map((hex) => Math.round(parseInt(hex, 16) * 0.67 + 85)).join(",")})` : colour;
}

class View {
  constructor(parent) {
    this.root = element("section", "nl");
    this.root.setAttribute("aria-label", "Live training");
    this.numbers = element("dl", "nl-numbers");
    this.sentence = element("p", "nl-sentence", "Getting ready …");
    this.spoken = element("p", "nl-spoken"); // the same for screen readers, at a pace at which it can be read out
    this.spoken.setAttribute("aria-live", "polite");
    this.hint = element("p", "nl-hint");
    this.lost = element("p", "nl-lost");
    this.lost.setAttribute("role", "status");
    this.hint.hidden = this.lost.hidden = true;
    const grid = element("div", "nl-figures");
    this.plots = {};
    for (const name of Object.keys(HEIGHTS)) {
      const frame = element("div", `nl-figure nl-${name}`);
      frame.setAttribute("role", "img");
      frame.style.minHeight = `${HEIGHTS[name]}px`;
      this.plots[name] = { frame, data: null, layout: null, ready: false };
      grid.appendChild(frame);
    }
    this.table = element("details", "nl-table");
    this.table.append(element("summary", "", "The numbers behind the figures"), element("div"));
    this.table.addEventListener("toggle", () => this.fillTable());
    this.root.append(this.numbers, this.sentence, this.spoken, this.hint, this.lost, grid, this.table);
    parent.appendChild(this.root);
    this.zoom = this.hovered = this.source = null;
    this.tasks = [];
    this.draws = this.filled = this.drawnAt = this.took = 0;
    this.spokeAt = -SPEAK_MS;
    this.onKey = (event) => this.key(event);
    this.onLeave = () => this.remember();
    document.addEventListener("keydown", this.onKey);
    addEventListener("pagehide", this.onLeave);
    this.watch = setInterval(() => this.look(), 1000);
    this.root.dataset.draws = 0;
    this.showNumbers({ step: 0, task: "", optimizer: "", accuracy: {} });
  }

  // What the page around says now.
  update(component) {
    loadPlotly(component.data.plotly).catch(() => {}); // while the run is still being opened
    this.component = component;
    this.shown = component.data.shown;
    const run = component.data.run;
    if (!run && !this.told) {
      this.told = true;
      component.setStateValue("tab", remembered());
    }
    if (run && run !== this.run) this.connect(run);
    this.remember();
  }

  remember() {
    if (this.run) sessionStorage.setItem(STORE, JSON.stringify({ run: this.run, query: location.search }));
  }

  async connect(run) {
    this.run = run;
    this.source?.close();
    try {
      this.Plotly = await loadPlotly(this.component.data.plotly);
    } catch (error) {
      this.complain(error.message);
      return;
    }
    if (run !== this.run || this.closed) return;
    const source = (this.source = new EventSource(`/live/${encodeURIComponent(run)}${reduced ? "?per_second=1" : ""}`));
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

  hear(news) {
    if (news.open) this.open(news.open);
    for (const [name, plot] of Object.entries(this.plots)) {
      if (!plot.data) continue;
      news.add?.[name].forEach((added, i) => this.extend(plot.data[i], added));
      if (news.ends?.[name]) Object.assign(plot.data.at(-1), news.ends[name]);
      if (news.overlay) Object.assign(plot.layout, news.overlay[name]);
      plot.changed ||= Boolean(news.open || news.ends?.[name] || news.overlay);
    }
    if (news.lanes) {
      const narrow = this.root.clientWidth < 480;
      if (narrow) news.lanes.ticktext = news.lanes.ticktext.map((text) => text.replace(" · ", "<br>"));
      Object.assign(this.plots.raster.layout.yaxis, news.lanes);
      this.plots.raster.layout.margin.l = narrow ? 92 : 146;
    }
    if (news.now) this.showNumbers(news.now);
    if ("sentence" in news) this.say(news.sentence, news.hint);
    if (news.open || news.add || news.overlay) this.requestDraw();
    if (news.now) this.compare(news.now);
  }

  open(opened) {
    this.tasks = opened.tasks;
    this.levels = opened.levels;
    this.zoom = null;
    for (const [name, plot] of Object.entries(this.plots)) {
      plot.data = opened.figures[name].data;
      plot.layout = { ...opened.figures[name].layout, height: HEIGHTS[name], autosize: true, hoverlabel: {} };
      plot.colours = plot.data.map((trace) => trace.line?.color ?? trace.textfont.color);
      plot.layout.yaxis.fixedrange = true;
      plot.layout.xaxis.fixedrange = coarse; // a finger scrolls the page
      plot.layout.hoverdistance = -1;
      plot.steps = plot.layout.xaxis.range?.[1] ?? 1;
    }
  }

  extend(trace, added) {
    for (const key of ["x", "y"]) trace[key].push(...added[key]);
    const group = trace.meta?.group ?? 1;
    if (trace.x.length > MOST_POINTS * group) {
      const kept = (_, i) => Math.floor(i / group) % 2 === 0;
      for (const key of ["x", "y"]) trace[key] = trace[key].filter(kept);
    }
  }

  // On a slow machine drawing takes half of the time at most, so that the page stays alive.
  requestDraw() {
    if (this.wanted) return;
    this.wanted = true;
    const rest = Math.max(0, this.drawnAt + this.took - performance.now());
    setTimeout(() => requestAnimationFrame(() => this.draw()), rest);
  }

  redrawAll() {
    for (const plot of Object.values(this.plots)) plot.changed = true;
    this.requestDraw();
  }

  draw() {
    this.wanted = false;
    if (this.closed) return;
    const begun = performance.now();
    const style = getComputedStyle(this.root);
    this.ink = style.getPropertyValue("color");
    const light = (this.ink.match(/[\d.]+/g) ?? []).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) > 384;
    const last = Number(this.step ?? 0);
    for (const [name, plot] of Object.entries(this.plots)) {
      const outgrown = last > plot.steps;
      if (!plot.data || !(plot.changed || outgrown)) continue;
      plot.changed = false;
      const { layout } = plot;
      layout.font = { ...layout.font, color: this.ink, family: style.fontFamily };
      layout.hoverlabel = { bgcolor: light ? "#2A2F37" : "#FFFFFF", font: { color: this.ink, family: style.fontFamily }, bordercolor: "rgba(128,128,128,.4)" };
      plot.data.forEach((trace, i) => {
        const colour = light ? lifted(plot.colours[i]) : plot.colours[i];
        if (trace.line) trace.line.color = colour;
        else trace.textfont.color = colour;
      });
      if (outgrown) plot.steps = Math.ceil((last * 1.25) / 10) * 10;
      layout.xaxis.range = this.zoom ?? [0, plot.steps];
      layout.datarevision = this.draws;
      this.Plotly.react(plot.frame, plot.data, layout, { displayModeBar: false, responsive: true, doubleClick: false });
      if (!plot.ready) this.link(plot);
    }
    this.drawnAt = performance.now();
    this.took = this.drawnAt - begun;
    this.root.dataset.draws = ++this.draws;
    if (this.hovered !== null) this.pointAt(this.hovered);
    if (performance.now() - this.filled > 2000) this.fillTable();
  }

  // A step pointed at, or a stretch zoomed into, in one figure is so in all.
  link(plot) {
    plot.ready = true;
    plot.frame.on("plotly_hover", (event) => {
      if (this.pointing) return;
      this.hovered = event.xvals?.[0] ?? event.points[0].x;
      this.pointAt(this.hovered, plot);
    });
    plot.frame.on("plotly_unhover", () => {
      if (this.pointing) return;
      this.hovered = null;
      for (const other of Object.values(this.plots)) if (other !== plot && other.ready) this.Plotly.Fx.unhover(other.frame);
    });
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

  pointAt(step, except) {
    this.pointing = true;
    for (const other of Object.values(this.plots)) {
      if (other === except || !other.ready || !other.data.some((trace) => trace.x.length)) continue;
      try {
        this.Plotly.Fx.hover(other.frame, { xval: step }, "xy");
      } catch {
        // a figure that is just being drawn anew cannot be pointed at
      }
    }
    this.pointing = false;
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
    this.step = now.step;
    const names = { adam: "Adam", adamw: "AdamW", sgd: "SGD", dgd: "DGD", m3: "M3", muon: "Muon", deep: "deep optimizer" };
    const learning = now.playing && !now.finished;
    const entries = [
      ["step", "step", now.step],
      ["task", now.finished ? "learned last" : "being taught", now.task ? (now.task === "all" ? "all tasks" : `task ${now.task}`) : "–"],
      ...this.accuracies(now),
      ["optimizer", "who writes", names[now.optimizer] ?? now.optimizer ?? "–"],
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
    this.root.dataset.acting = now.optimizer === "deep" ? "deep" : "plain";
  }

  say(sentence, hint) {
    this.sentence.textContent = sentence;
    if (performance.now() - this.spokeAt < SPEAK_MS) {
      clearTimeout(this.speaking);
      this.speaking = setTimeout(() => this.say(this.sentence.textContent, hint), SPEAK_MS);
      return this.hintAt(hint);
    }
    this.spokeAt = performance.now();
    this.spoken.textContent = sentence;
    for (const plot of Object.values(this.plots))
      if (plot.layout) plot.frame.setAttribute("aria-label", `${plot.layout.title.text}. ${sentence}`);
    this.hintAt(hint);
  }

  hintAt(hint) {
    const text = this.component.data.hints[hint] ?? "";
    if (this.hint.innerHTML !== text) this.hint.innerHTML = text;
    this.hint.hidden = !text;
  }

  // Buttons around the figures must say what is the case; when a run ends or fails by itself, they are asked to look again.
  compare(now) {
    const is = JSON.stringify([now.playing, now.finished, now.error]);
    clearTimeout(this.doubt);
    const says = () => JSON.stringify([this.shown.playing, this.shown.finished, this.shown.error]);
    if (is === says()) return;
    this.doubt = setTimeout(() => is !== says() && this.component.setTriggerValue("stale", is), 300);
  }

  fillTable() {
    if (!this.table.open || !this.plots.drift.data) return;
    this.filled = performance.now();
    const drift = this.plots.drift.data.slice(0, -1);
    const rows = this.plots.accuracy.data[0].x.map((step, i) => [
      step,
      ...this.tasks.map((_, k) => this.plots.accuracy.data[k].y[i]),
      ...drift.map((trace) => trace.y[trace.x.indexOf(step)] ?? ""),
    ]);
    const table = element("table");
    const head = element("tr");
    for (const name of ["step", ...this.tasks.map((t) => `accuracy on ${t}`), ...this.levels.map((l) => `drift of ${l}`)])
      head.appendChild(Object.assign(element("th", "", name), { scope: "col" }));
    table.append(head);
    for (const row of rows.slice(-TABLE_ROWS).reverse()) {
      const line = element("tr");
      line.append(...row.map((value) => element("td", "", value)));
      table.append(line);
    }
    this.table.lastChild.replaceChildren(table);
  }

  key(event) {
    if (event.key.toLowerCase() !== "d" || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) && !/^(checkbox|range|radio)$/.test(event.target.type)) return;
    document.querySelector(".st-key-deep input")?.click();
  }

  // Once a second: whether the page has changed its colours.
  look() {
    if (this.Plotly && this.ink && getComputedStyle(this.root).getPropertyValue("color") !== this.ink) this.redrawAll();
  }

  close() {
    this.closed = true;
    this.source?.close();
    clearInterval(this.watch);
    document.removeEventListener("keydown", this.onKey);
    removeEventListener("pagehide", this.onLeave);
    for (const plot of Object.values(this.plots)) if (plot.ready) this.Plotly.purge(plot.frame);
  }
}

export default function (component) {
  const parent = component.parentElement;
  const view = (parent.nllab ??= new View(parent));
  view.update(component);
  return () =>
    setTimeout(() => {
      if (view.root.isConnected) return;
      view.close();
      parent.nllab = undefined;
    });
}
