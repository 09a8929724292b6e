// Plays the recording of a run: curves up to the moment at which the slider stands.

const PLAYER_HEIGHTS = { accuracy: 270, drift: 230, raster: 230, surprise: 200, novelty: 200, conflict: 200 };
const PLAYER_MS = 60; // between two moments at normal speed
const PLAYER_REDUCED_MS = 1000; // for those who asked for less motion: larger strides, seldom
const PLAYER_STRIDE = 12;

function playerElement(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function playerTable(head, lines) {
  const table = playerElement("table");
  const row = (cells, tag) => {
    const made = playerElement("tr");
    made.append(...cells.map((cell) => playerElement(tag, "", cell)));
    return made;
  };
  if (head) table.append(row(head, "th"));
  table.append(...lines.map((line) => row(line, "td")));
  return table;
}

function playerDetails(title, ...content) {
  const made = playerElement("details");
  made.append(playerElement("summary", "", title), ...content);
  return made;
}

class Player {
  constructor(parent, told, Plotly) {
    Object.assign(this, { told, Plotly, at: told.moments.length - 1, playing: false });
    this.root = playerElement("article", "pl");
    this.root.append(playerElement(document.querySelector("h1") ? "h2" : "h1", "pl-title", told.title), this.transport(), this.numbers(), this.figures(), this.more());
    parent.replaceChildren(this.root);
    this.reduced = matchMedia("(prefers-reduced-motion: reduce)");
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.request());
    this.root.addEventListener("keydown", (event) => this.key(event));
    this.show(this.at);
  }

  transport() {
    const bar = playerElement("div", "pl-bar");
    this.button = playerElement("button", "pl-play", "Play");
    this.button.type = "button";
    this.button.addEventListener("click", () => (this.playing ? this.pause() : this.play()));
    this.slider = playerElement("input", "pl-slider");
    Object.assign(this.slider, { type: "range", min: 0, max: this.told.moments.length - 1, step: 1, value: this.at });
    this.slider.setAttribute("aria-label", "Moment of the run");
    this.slider.addEventListener("input", () => {
      this.pause();
      this.show(Number(this.slider.value));
    });
    this.clock = playerElement("output", "pl-clock");
    this.pace = playerElement("select", "pl-pace");
    this.pace.setAttribute("aria-label", "Speed");
    for (const times of [0.5, 1, 2, 4]) this.pace.append(new Option(`${times}×`, times, times === 1, times === 1));
    bar.append(this.button, this.slider, this.clock, this.pace);
    return bar;
  }

  numbers() {
    const list = playerElement("dl", "pl-numbers");
    const shown = this.told.tasks.length <= 5 ? this.told.tasks : [];
    this.cards = [["task", "being taught"], ...shown.map((task) => [task, `accuracy on ${task}`]), ["optimizer", "who writes"]];
    this.values = this.cards.map(([name, label], i) => {
      const card = playerElement("div", "pl-number");
      if (i && i <= shown.length) card.dataset.task = (i - 1) % 5;
      const value = playerElement("dd", "", "–");
      card.append(playerElement("dt", "", label), value);
      list.append(card);
      return value;
    });
    this.sentence = playerElement("p", "pl-sentence");
    const both = playerElement("div");
    both.append(list, this.sentence);
    return both;
  }

  figures() {
    const grid = playerElement("div", "pl-figures");
    const stills = Object.entries(this.told.stills).map(([name, history]) => [name, history[0][1], history]);
    this.plots = [...Object.entries(this.told.figures), ...stills].map(([name, spec, history]) => {
      const card = playerElement("figure", `pl-card pl-card-${name}`);
      const frame = playerElement("div", `pl-figure pl-${name}`);
      frame.setAttribute("role", "img");
      const height = PLAYER_HEIGHTS[name] ?? 300;
      frame.style.minHeight = `${height}px`;
      const plot = { name, spec, history, frame, height, card };
      const table = playerDetails("As a table", playerElement("div", "pl-table"));
      table.addEventListener("toggle", () => table.open && table.lastChild.replaceChildren(this.table(plot)));
      const under = playerElement("figcaption", "pl-under");
      under.append(playerDetails("What is this?", playerElement("p", "", this.told.about[name])), table);
      for (const format of ["svg", "png"]) {
        const save = playerElement("button", "pl-save", format.toUpperCase());
        save.type = "button";
        save.title = `Save this figure as ${format.toUpperCase()}`;
        save.addEventListener("click", () => this.save(plot, format));
        under.append(save);
      }
      card.append(frame, under);
      grid.append(card);
      return plot;
    });
    return grid;
  }

  more() {
    const rest = playerElement("div", "pl-more");
    const code = (text) => playerElement("pre", "", text);
    const { events, settings, scores, snippet, command } = this.told;
    const changes = playerTable(["from step", "what"], events);
    changes.addEventListener("click", (event) => {
      const row = event.target.closest("tr");
      if (row?.rowIndex) this.to(events[row.rowIndex - 1][0]);
    });
    rest.append(
      playerDetails("What happened when", changes),
      playerDetails("Scores at the end", playerTable(null, scores)),
      playerDetails("Settings", playerTable(["setting", "value", "what it is"], settings)),
      playerDetails("Repeat this run exactly", playerElement("p", "", "In Python"), code(snippet), playerElement("p", "", "Or on the command line"), code(command)),
    );
    return rest;
  }

  table(plot) {
    const { name, spec } = plot;
    if (plot.history) {
      const [head, ...lines] = this.pictured(plot).meta.table;
      return playerTable(head, lines);
    }
    const { step } = this.told.moments[this.at];
    const curves = this.upTo(spec, step).filter((trace) => !trace.meta.ends);
    if (name === "raster") return playerTable(["level", "writes shown", "last at step"], curves.map((t) => [t.name, t.x.length / 3, t.x.at(-1) ?? "–"]));
    const values = curves.map((trace) => new Map(trace.x.map((x, i) => [x, trace.y[i]])));
    const steps = [...new Set(curves.flatMap((trace) => trace.x))].sort((a, b) => b - a).slice(0, 200);
    return playerTable(["step", ...curves.map((trace) => trace.name)], steps.map((x) => [x, ...values.map((of) => of.get(x) ?? "")]));
  }

  // The moment of a step, or the last one before it.
  to(step) {
    const { moments } = this.told;
    this.pause();
    this.show(Math.max(0, moments.findLastIndex((moment) => moment.step <= step)));
  }

  play() {
    if (this.at === this.told.moments.length - 1) this.show(0);
    this.playing = true;
    this.button.textContent = "Pause";
    this.tick();
  }

  pause() {
    this.playing = false;
    clearTimeout(this.timer);
    this.button.textContent = "Play";
  }

  tick() {
    const quiet = this.reduced.matches;
    this.timer = setTimeout(
      () => {
        const last = this.told.moments.length - 1;
        if (!this.root.isConnected) return this.pause();
        this.show(Math.min(this.at + (quiet ? PLAYER_STRIDE : 1), last));
        if (this.at === last) this.pause();
        else this.tick();
      },
      (quiet ? PLAYER_REDUCED_MS : PLAYER_MS) / Number(this.pace.value),
    );
  }

  key(event) {
    if (event.key !== " " || /^(BUTTON|SELECT|SUMMARY)$/.test(event.target.tagName)) return;
    event.preventDefault();
    this.button.click();
  }

  show(at) {
    this.at = at;
    const moment = this.told.moments[at];
    this.slider.value = at;
    this.clock.textContent = `step ${moment.step}`;
    this.slider.setAttribute("aria-valuetext", `step ${moment.step}, task ${moment.task}`);
    const texts = { task: moment.task === "all" ? "all tasks" : `task ${moment.task}`, optimizer: this.told.writers[moment.optimizer] ?? moment.optimizer };
    this.cards.forEach(([name], i) => {
      const isTask = i && i < this.cards.length - 1;
      this.values[i].textContent = isTask ? moment.accuracy[name]?.toFixed(2) ?? "–" : texts[name];
    });
    this.sentence.textContent = moment.sentence;
    this.root.dataset.step = moment.step;
    this.request();
  }

  request() {
    this.wanted ??= requestAnimationFrame(() => {
      this.wanted = undefined;
      if (this.root.isConnected) this.draw();
    });
  }

  // The figure as it was at this step.
  upTo(spec, step) {
    const { ends } = this.told.moments[this.at];
    const name = this.plots.find((plot) => plot.spec === spec).name;
    return spec.data.map((trace) => {
      if (trace.meta.ends) return { ...trace, ...(ends[name] ?? { x: [], y: [], text: [] }) };
      let count = trace.x.length;
      while (count && trace.x[count - 1] > step) count--;
      return { ...trace, x: trace.x.slice(0, count), y: trace.y.slice(0, count) };
    });
  }

  // The last picture that had been taken by now; before the first one, none.
  pictured({ history }) {
    const { step } = this.told.moments[this.at];
    return (history.findLast(([at]) => at <= step) ?? history[0])[1];
  }

  drawn(plot, dark, ink) {
    const { step } = this.told.moments[this.at];
    if (plot.history) {
      const { data, layout } = this.pictured(plot);
      const font = { ...layout.font, color: ink, family: getComputedStyle(this.root).fontFamily };
      return { data, layout: { ...layout, font, height: plot.height, autosize: true } };
    }
    const past = (part) => part.xref === "paper" || (part.x0 ?? part.x) <= step;
    const { shapes, annotations } = plot.spec.layout;
    const layout = { ...plot.spec.layout, shapes: shapes.filter(past), annotations: annotations.filter(past), height: plot.height, autosize: true };
    layout.font = { ...layout.font, color: ink, family: getComputedStyle(this.root).fontFamily };
    layout.xaxis = { ...layout.xaxis, fixedrange: true };
    layout.yaxis = { ...layout.yaxis, fixedrange: true };
    if (plot.name === "raster") {
      const narrow = this.root.clientWidth < 480;
      const { lanes } = this.told.moments.findLast((moment, i) => i <= this.at && moment.lanes);
      layout.yaxis.ticktext = narrow ? lanes.map((text) => text.replace("every step", "1").replace(/every (\d+) steps/, "$1")) : lanes;
      layout.margin = { ...layout.margin, r: 88, l: narrow ? 86 : layout.margin.l };
    }
    const data = this.upTo(plot.spec, step).map((trace) => {
      const color = dark ? trace.meta.dark : trace.meta.light;
      return trace.line ? { ...trace, line: { ...trace.line, color } } : { ...trace, textfont: { ...trace.textfont, color } };
    });
    return { data, layout };
  }

  draw() {
    const ink = getComputedStyle(this.root).color;
    const dark = (ink.match(/[\d.]+/g) ?? []).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) > 384;
    const { step } = this.told.moments[this.at];
    for (const plot of this.plots) {
      plot.card.hidden = Boolean(plot.history) && plot.history[0][0] > step;
      if (plot.card.hidden || (plot.history && plot.seen === this.pictured(plot) && plot.ink === ink)) continue;
      if (plot.history) Object.assign(plot, { seen: this.pictured(plot), ink });
      const { data, layout } = this.drawn(plot, dark, ink);
      this.Plotly.react(plot.frame, data, layout, { displayModeBar: false, responsive: true, doubleClick: false });
      plot.frame.setAttribute("aria-label", `${layout.title.text.replace(/<[^>]*>/g, " ")}. ${this.sentence.textContent}`);
    }
  }

  // Saved figures are for paper: dark on white, whatever the page looks like.
  save(plot, format) {
    const figure = this.drawn(plot, false, "#1B1F24");
    Object.assign(figure.layout, { paper_bgcolor: "#FFFFFF", font: { ...figure.layout.font, family: "Arial, sans-serif" } });
    const { step } = this.told.moments[this.at];
    return this.Plotly.downloadImage(figure, { format, width: 900, height: plot.history ? 480 : 340, scale: 2, filename: `${plot.name}-step-${step}` });
  }

  close() {
    this.pause();
    for (const plot of this.plots) this.Plotly.purge(plot.frame);
  }
}
