// Plays recordings: the network, its numbers and its curves at the moment at which the slider stands; several runs side by side.

const PLAYER_HEIGHTS = { accuracy: 190, drift: 210, raster: 210, surprise: 170, novelty: 170, conflict: 170 };
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

// One run of a recording.
class Recorded {
  constructor(player, told) {
    Object.assign(this, { player, told, step: -1 });
    this.root = playerElement("section", "pl-run");
    if (told.heading) this.root.append(playerElement("h2", "pl-heading", told.heading));
    this.stage = new Stage({ reduced: player.reduced.matches });
    this.stage.open({ ...told.stage, tasks: told.tasks, levels: told.levels, periods: told.periods });
    for (const scene of told.scenes) this.stage.add(scene);
    if (!told.scenes.length) this.stage.root.hidden = true;
    this.manager = new ManagerView();
    this.manager.open({ shades: told.stage.shades });
    for (const decision of told.decisions ?? []) this.manager.tell(decision);
    this.root.append(this.numbers(), this.stage.root, this.manager.root, this.figures(), this.more());
  }

  numbers() {
    const { tasks } = this.told;
    const list = playerElement("dl", "pl-numbers");
    const shown = tasks.length <= 5 ? tasks : [];
    this.cards = [["task", "being taught"], ...shown.map((task) => [task, `accuracy on ${task}`]), ["optimizer", "who writes"]];
    this.values = this.cards.map(([, label], i) => {
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
      const height = PLAYER_HEIGHTS[name] ?? 270;
      frame.style.minHeight = `${height}px`;
      const plot = { name, spec, history, frame, card, chart: new Chart(frame, height) };
      if (!history) {
        const step = (event) => plot.chart.stepAt(event.clientX - frame.getBoundingClientRect().left);
        frame.addEventListener("pointermove", (event) => event.buttons && this.player.to(step(event)));
        frame.addEventListener("pointerdown", (event) => this.player.to(step(event)));
      }
      const table = playerDetails("As a table", playerElement("div", "pl-table"));
      table.addEventListener("toggle", () => table.open && table.lastChild.replaceChildren(this.table(plot)));
      const save = playerElement("button", "pl-save", "PNG");
      save.type = "button";
      save.title = "Save this figure as PNG";
      save.addEventListener("click", () => this.save(plot));
      const under = playerElement("figcaption", "pl-under");
      under.append(playerDetails("What is this?", playerElement("p", "", this.told.about[name])), table, save);
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
      if (row?.rowIndex) this.player.to(events[row.rowIndex - 1][0]);
    });
    rest.append(
      playerDetails("What happened when", changes),
      playerDetails("Scores at the end", playerTable(null, scores)),
      playerDetails("Settings", playerTable(["setting", "value", "what it is"], settings)),
      playerDetails("Repeat this run exactly", playerElement("p", "", "In Python"), code(snippet), playerElement("p", "", "Or on the command line"), code(command)),
    );
    return rest;
  }

  get moment() {
    const { moments } = this.told;
    return moments[Math.max(0, moments.findLastIndex((moment) => moment.step <= this.step))];
  }

  table(plot) {
    if (plot.history) {
      const [head, ...lines] = this.pictured(plot).meta.table;
      return playerTable(head, lines);
    }
    const curves = this.upTo(plot).filter((trace) => !trace.meta?.ends);
    if (plot.name === "raster") return playerTable(["level", "writes shown", "last at step"], curves.map((t) => [t.name, t.x.length / 3, t.x.at(-1) ?? "–"]));
    const values = curves.map((trace) => new Map(trace.x.map((x, i) => [x, trace.y[i]])));
    const steps = [...new Set(curves.flatMap((trace) => trace.x))].sort((a, b) => b - a).slice(0, 200);
    return playerTable(["step", ...curves.map((trace) => trace.name)], steps.map((x) => [x, ...values.map((of) => of.get(x) ?? "")]));
  }

  show(step) {
    this.step = step;
    const { moment, told } = this;
    const texts = { task: moment.task === "all" ? "all tasks" : `task ${moment.task}`, optimizer: told.writers[moment.optimizer] ?? moment.optimizer };
    this.cards.forEach(([name], i) => {
      const isTask = i && i < this.cards.length - 1;
      this.values[i].textContent = isTask ? moment.accuracy[name]?.toFixed(2) ?? "–" : texts[name];
    });
    this.sentence.textContent = moment.sentence;
    this.stage.show(step);
    const signals = Object.fromEntries(Object.keys(SIGNAL_NAMES).map((name) => [name, told.figures[name]?.data.filter((trace) => !trace.meta?.ends) ?? []]));
    this.manager.update({ signals, acting: moment.optimizer === "deep", writer: told.writers[moment.optimizer] ?? moment.optimizer ?? "", last: told.moments.at(-1).step });
    this.manager.show(step);
    return moment;
  }

  // The figure as it was at this step.
  upTo(plot) {
    const { ends, step } = this.moment;
    return plot.spec.data.map((trace) => {
      if (trace.meta?.ends) return { ...trace, ...(ends[plot.name] ?? { x: [], y: [], text: [] }) };
      let count = trace.x.length;
      while (count && trace.x[count - 1] > step) count--;
      return { ...trace, x: trace.x.slice(0, count), y: trace.y.slice(0, count) };
    });
  }

  // The last picture that had been taken by now; before the first one, none.
  pictured({ history }) {
    return (history.findLast(([at]) => at <= this.moment.step) ?? history[0])[1];
  }

  drawn(plot) {
    const { step } = this.moment;
    if (plot.history) return this.pictured(plot);
    const past = (part) => part.xref === "paper" || (part.x0 ?? part.x) <= step;
    const { shapes, annotations } = plot.spec.layout;
    const layout = { ...plot.spec.layout, shapes: shapes.filter(past), annotations: annotations.filter(past), yaxis: { ...plot.spec.layout.yaxis } };
    if (plot.name === "raster") {
      const narrow = this.root.clientWidth < 480;
      const { lanes } = this.told.moments.findLast((moment) => moment.lanes && moment.step <= step) ?? this.told.moments[0];
      layout.yaxis.ticktext = narrow ? lanes.map((text) => text.replace("every step", "1").replace(/every (\d+) steps/, "$1")) : lanes;
      layout.margin = { ...layout.margin, r: 88, l: narrow ? 86 : layout.margin.l };
    }
    return { data: this.upTo(plot), layout };
  }

  draw(theme) {
    for (const plot of this.plots) {
      plot.card.hidden = Boolean(plot.history) && plot.history[0][0] > this.moment.step;
      if (plot.card.hidden) continue;
      const figure = this.drawn(plot);
      plot.frame.data = figure.data;
      plot.chart.draw(figure, theme);
      plot.frame.setAttribute("aria-label", `${plain(figure.layout.title.text).map(({ text }) => text).join(". ")}. ${this.sentence.textContent}`);
    }
    this.manager.frame(theme, theme.font);
    return this.stage.frame(theme, theme.font);
  }

  save(plot) {
    const link = playerElement("a");
    link.href = plot.chart.canvas.toDataURL("image/png");
    link.download = `${plot.name}-step-${this.moment.step}.png`;
    link.click();
  }
}

class Player {
  constructor(parent, recordings) {
    this.reduced = matchMedia("(prefers-reduced-motion: reduce)");
    this.steps = [...new Set(recordings.flatMap(({ moments }) => moments.map(({ step }) => step)))].sort((a, b) => a - b);
    Object.assign(this, { at: this.steps.length - 1, playing: false });
    this.root = playerElement("article", "pl");
    const heading = document.querySelector("h1") ? "h2" : "h1";
    const titles = [...new Set(recordings.map(({ title }) => title))];
    this.runs = recordings.map((told) => new Recorded(this, told));
    const grid = playerElement("div", "pl-runs");
    grid.dataset.count = this.runs.length;
    grid.append(...this.runs.map((run) => run.root));
    this.root.append(playerElement(heading, "pl-title", titles.join(" · ")), this.transport(), grid);
    parent.replaceChildren(this.root);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.request());
    this.onSize = new ResizeObserver(() => this.request());
    this.onSize.observe(this.root);
    this.root.addEventListener("keydown", (event) => this.key(event));
    this.show(this.at);
  }

  transport() {
    const bar = playerElement("div", "pl-bar");
    this.button = playerElement("button", "pl-play", "Play");
    this.button.type = "button";
    this.button.addEventListener("click", () => (this.playing ? this.pause() : this.play()));
    this.slider = playerElement("input", "pl-slider");
    Object.assign(this.slider, { type: "range", min: 0, max: this.steps.length - 1, step: 1, value: this.at });
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

  // The moment of a step, or the last one before it.
  to(step) {
    this.pause();
    this.show(Math.max(0, this.steps.findLastIndex((at) => at <= step)));
  }

  play() {
    if (this.at === this.steps.length - 1) this.show(0);
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
        const last = this.steps.length - 1;
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
    const step = this.steps[at];
    this.slider.value = at;
    this.clock.textContent = `step ${step}`;
    const [first] = this.runs.map((run) => run.show(step));
    this.slider.setAttribute("aria-valuetext", `step ${step}, task ${first.task}`);
    this.root.dataset.step = step;
    this.request();
  }

  request() {
    this.wanted ??= requestAnimationFrame(() => {
      this.wanted = undefined;
      if (!this.root.isConnected) return;
      const style = getComputedStyle(this.root);
      const theme = { ...themeOf(style.color), font: style.fontFamily };
      if (this.runs.map((run) => run.draw(theme)).some(Boolean)) this.request();
    });
  }

  close() {
    this.pause();
    this.onSize.disconnect();
  }
}
