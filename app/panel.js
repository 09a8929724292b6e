// One run on the page: its numbers, its stage, its figures.

const MOST_POINTS = 2000; // per trace; beyond it every other point goes
const TABLE_ROWS = 200;
const MOST_CARDS = 5; // tasks whose accuracies all stand in large type
const MOST_CURVES = 8; // tasks that are still curves; more are a map over time
const NARROW = 300; // pixels of a figure, in which tasks go by their letters
const CROWD_STEPS = 40; // shown at least, of the map of a crowd
const MAP_HEIGHT = 210; // of the accuracies of a crowd of tasks
const MOST_STILLS = 300; // of each picture, kept for pointing back at
const CURVES = { accuracy: 190, drift: 200, raster: 200 }; // name -> height
const SIGNALS = { surprise: 150, novelty: 150, conflict: 150 };
const STILLS = { matrix: 270 };
const LINES = [...Object.keys(CURVES), ...Object.keys(SIGNALS)];
const PAIR_HEIGHT = 124; // of the accuracies, where two networks stand side by side

function element(tag, className, text) {
  const found = document.createElement(tag);
  if (className) found.className = className;
  if (text !== undefined) found.textContent = text;
  return found;
}

// "slow · every 16 steps" where there is little room: "slow · 16".
function shortLane(text) {
  return text.replace("every step", "1").replace(/every (\d+) steps/, "$1");
}

class Panel {
  constructor(view, title) {
    this.view = view;
    this.root = element("section", "nl-panel");
    this.root.setAttribute("aria-label", title || "Live training");
    this.title = element("h2", "nl-title", title);
    this.title.hidden = !title;
    this.numbers = element("dl", "nl-numbers");
    const head = element("div", "nl-head");
    head.append(this.title, this.numbers);
    this.sentence = element("p", "nl-sentence", "Getting ready …");
    this.queue = element("p", "nl-queue");
    this.queue.setAttribute("role", "status");
    this.hint = element("p", "nl-hint");
    this.hint.hidden = this.queue.hidden = true;
    this.plots = {};
    this.rings = new Rings({ reduced: view.reduced });
    this.stage = new Stage({ rings: this.rings, reduced: view.reduced });
    this.manager = new ManagerView();
    this.opened = new WriteView({ reduced: view.reduced });
    this.front = element("div", "nl-front");
    this.front.append(head, this.stage.root, this.opened.root, this.manager.root, this.card("accuracy", view.single ? CURVES.accuracy : PAIR_HEIGHT), this.sentence, this.queue, this.hint);
    this.more = element("details", "nl-more");
    this.more.addEventListener("toggle", () => view.redrawAll());
    const rest = element("div", "nl-figures");
    for (const name of ["drift", "raster"]) rest.append(this.card(name, CURVES[name]));
    for (const [name, height] of Object.entries(STILLS)) rest.append(this.card(name, height));
    const signals = element("div", "nl-signals");
    for (const [name, height] of Object.entries(SIGNALS)) signals.append(this.card(name, height));
    this.log = element("ol", "nl-log");
    rest.append(signals, this.frame("log", this.log));
    this.more.append(element("summary", "", "More views"), rest);
    this.root.append(this.front, this.more);
    this.tasks = [];
    this.levels = [];
    this.showNumbers({ step: 0, task: "", optimizer: "", accuracy: {} });
  }

  // A figure on a canvas of its own.
  card(name, height) {
    const frame = element("div", `nl-figure nl-${name}`);
    frame.style.minHeight = `${height}px`;
    const plot = { panel: this, name, frame, height, data: null, layout: null, history: name in STILLS ? [] : null };
    plot.chart = new Chart(frame, height);
    this.plots[name] = plot;
    const card = this.frame(name, frame, () => this.rows(name));
    card.hidden = !(name in CURVES); // until there is something to see
    plot.card = card;
    if (plot.history) frame.setAttribute("role", "img");
    else this.view.scrub(plot);
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

  // Saved figures are for paper: dark on white, made by Plotly, which is loaded for it.
  saver(plot, format) {
    const button = element("button", "nl-save", format.toUpperCase());
    button.type = "button";
    button.title = `Save this figure as ${format.toUpperCase()}`;
    button.addEventListener("click", async () => {
      const { data, layout } = plot.history ? plot.shown.spec : plot;
      const font = { ...layout.font, color: "#1B1F24", family: "Arial, sans-serif" };
      const size = { format, width: 900, height: plot.history ? 480 : 340, scale: 2, filename: `${plot.name}-step-${this.step}` };
      try {
        const plotly = await loadPlotly(this.view.component.data.plotly);
        await plotly.downloadImage({ data, layout: { ...layout, font, paper_bgcolor: "#FFFFFF" } }, size);
      } catch (error) {
        this.view.complain(error.message);
      }
    });
    return button;
  }

  hear(news) {
    if (news.open) this.open(news.open);
    for (const name of LINES) {
      const plot = this.plots[name];
      if (!plot.data) continue;
      news.add?.[name].forEach((added, i) => this.extend(plot.data[i], added));
      if (news.ends?.[name]) plot.card.hidden = false;
      if (news.ends?.[name]) Object.assign(plot.data.at(-1), news.ends[name]);
      if (news.overlay) Object.assign(plot.layout, news.overlay[name]);
      plot.changed ||= Boolean(news.open || news.overlay || news.add || news.now);
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
    if (news.periods) {
      this.rings.arrange(news.periods, this.levels, this.colours());
      this.stage.arrange(news.periods);
    }
    if (news.wrote) this.rings.pulse(news.wrote, news.writes);
    for (const scene of news.scenes ?? []) this.stage.add(scene);
    if (news.writes && !this.stage.told.drawn) this.stage.sayLevels(news.writes, news.held, news.now?.optimizer ?? this.now.optimizer, this.view.theme);
    for (const row of news.log ?? []) this.note(row);
    if (news.now) this.showNumbers(news.now);
    if (news.add || news.now || news.open) this.manage();
    if ("sentence" in news) this.say(news.sentence);
    if ("hint" in news) this.advise(news.hint, news.became);
  }

  open(opened) {
    this.tasks = opened.tasks;
    this.levels = opened.levels;
    this.rings.rings = []; // else they go on from the counts of the run before
    for (const name of LINES) {
      const plot = this.plots[name];
      plot.card.hidden = !(name in CURVES);
      plot.data = opened.figures[name].data;
      plot.layout = { ...opened.figures[name].layout };
      if (!this.view.single && name === "accuracy") {
        plot.layout.title = undefined; // the numbers above say it
        plot.layout.margin = { l: 34, r: 52, t: 16, b: 20 };
      }
      Object.assign(plot.frame, { data: plot.data, layout: plot.layout });
      plot.steps = plot.layout.xaxis.range?.[1] ?? 1;
    }
    const { accuracy } = this.plots;
    const crowd = this.tasks.length > MOST_CURVES;
    accuracy.chart.height = crowd ? MAP_HEIGHT : this.view.single ? CURVES.accuracy : PAIR_HEIGHT;
    accuracy.frame.style.minHeight = `${accuracy.chart.height}px`;
    this.root.classList.toggle("nl-crowd", crowd);
    for (const name of Object.keys(STILLS)) {
      this.plots[name].history = [];
      this.plots[name].card.hidden = true;
    }
    this.stage.open({ ...opened.stage, tasks: opened.tasks, levels: opened.levels });
    this.log.replaceChildren(element("li", "nl-none", "No decision so far."));
    const note = opened.stage.drawn ? "" : `Drawn level by level, not unit by unit: ${opened.stage.weights.toLocaleString("en")} weights.`;
    this.manager.open({ note, shades: opened.stage.shades });
  }

  // Shows a write in place of the network; null: the network again.
  openWrite(opened) {
    const { tasks, levels, classes, samples } = this.stage.told;
    const writer = this.view.component.data.writers[opened?.acting] ?? opened?.acting ?? "";
    this.opened.show(opened, { tasks, levels, classes, shape: samples?.shape, writer: writer[0]?.toUpperCase() + writer.slice(1) });
    this.stage.root.hidden = Boolean(opened);
    this.stage.dirty = true;
  }

  colours() {
    return this.plots.drift.data.slice(0, -1).map((trace) => trace.line.color);
  }

  extend(trace, added) {
    const group = trace.meta?.group ?? 1;
    for (const key of ["x", "y"]) trace[key].push(...added[key]);
    if (trace.x.length <= MOST_POINTS * group) return;
    const kept = (_, i) => Math.floor(i / group) % 2 === 0;
    for (const key of ["x", "y"]) trace[key] = trace[key].filter(kept);
  }

  // What the manager decided, in the order in which it did; the newest also stands beside the network.
  note(row) {
    this.log.querySelector(".nl-none")?.remove();
    const entry = element("li");
    entry.dataset.step = row.step;
    entry.tabIndex = 0;
    for (const come of ["pointerenter", "focus"]) entry.addEventListener(come, () => this.view.point(row.step));
    for (const go of ["pointerleave", "blur"]) entry.addEventListener(go, () => this.view.point(null));
    const saw = Object.entries(row.saw).map(([name, value]) => `${name} ${Number(value).toPrecision(2)}`);
    const did = Object.entries(row.did).map(([name, value]) => `${name} → ${typeof value === "number" ? Number(value.toPrecision(3)) : value}`);
    entry.append(element("b", "", `step ${row.step}`), element("span", "", row.text));
    entry.append(element("small", "", [saw.join(", "), did.join(", ")].filter(Boolean).join(" ⇒ ")));
    this.log.append(entry);
    while (this.log.children.length > TABLE_ROWS) this.log.firstChild.remove();
    this.manager.tell(row);
  }

  // What the manager sees and does, beside the network.
  manage() {
    const { now } = this;
    const signals = Object.fromEntries(Object.keys(SIGNALS).map((name) => [name, this.plots[name].data?.slice(0, -1) ?? []]));
    const writer = this.view.component.data.writers[now.optimizer] ?? now.optimizer ?? "";
    this.manager.update({ signals, acting: now.optimizer === "deep", writer, last: now.step });
  }

  draw(plot, theme) {
    plot.changed = false;
    if (plot.history) return this.drawStill(plot, theme);
    const last = Number(this.step ?? 0);
    if (last > plot.steps) plot.steps = Math.ceil((last * 1.25) / 10) * 10;
    const { layout } = plot;
    const crowd = plot.name === "accuracy" && this.tasks.length > MOST_CURVES;
    const reach = crowd ? Math.min(plot.steps, Math.max(CROWD_STEPS, last * 1.15)) : plot.steps; // a map of long plans grows
    layout.xaxis.range = this.view.zoom ?? [0, reach];
    if (plot.name === "drift" && !plot.data.some((trace) => trace.x.length)) layout.yaxis.range = [-2, 0];
    else if (plot.name === "drift") delete layout.yaxis.range;
    plot.chart.cursor = this.view.hovered;
    if (!this.view.single && plot.name === "accuracy") layout.annotations = layout.annotations.filter((note) => note.xref !== "paper"); // no room
    if (roomOf(plot.frame).width < NARROW) layout.annotations = layout.annotations.map((note) => ({ ...note, text: note.text.replace(/^task /, "") }));
    plot.chart.draw(crowd ? accuracyMap(plot.data, layout, this.tasks) : plot, theme);
  }

  get toDraw() {
    const seen = (plot) => (plot.name === "accuracy" ? plot.data : !plot.card.hidden && this.more.open);
    return Object.values(this.plots).filter((plot) => plot.changed && seen(plot));
  }

  fillTables() {
    for (const [table, rows] of this.tables) if (table.open && performance.now() - (table.filled ?? 0) > 2000) this.fill(table, rows);
  }

  // The newest picture, or the one of the step that is pointed at.
  drawStill(plot, theme) {
    const at = this.view.hovered;
    plot.shown = (at !== null && plot.history.findLast((still) => still.step <= at)) || plot.history.at(-1);
    if (!plot.shown) return;
    plot.chart.draw({ ...plot.shown.spec, layout: { ...plot.shown.spec.layout, height: plot.height } }, theme);
    plot.frame.dataset.step = plot.shown.step;
    plot.frame.setAttribute("aria-label", `${plain(plot.shown.spec.layout.title.text).map(({ text }) => text).join(". ")}. ${this.sentence.textContent}`);
  }

  pointAt(step) {
    this.rings.show(step ?? this.step);
    this.stage.show(step);
    this.manager.show(step);
    for (const plot of Object.values(this.plots)) plot.changed = Boolean(plot.data || plot.history?.length);
    for (const entry of this.log.children) entry.classList.toggle("nl-at", Number(entry.dataset.step) === Math.round(step ?? -1));
    this.showNumbers(this.now);
  }

  // The accuracies of a moment: those measured last before the step that is pointed at.
  accuracyAt(step) {
    const found = {};
    this.plots.accuracy.data?.slice(0, -1).forEach((trace, i) => {
      const place = trace.x.findLastIndex((x) => x <= step);
      if (place >= 0) found[this.tasks[i]] = trace.y[place];
    });
    return found;
  }

  // Of each task; of a crowd only of the one being taught and of all that have been taught on average.
  accuracies(now, accuracy) {
    const of = !this.view.single && this.tasks.length > 2 ? "on" : "accuracy on"; // where there is little room
    const card = (task) => [`accuracy-${task}`, `${of} ${task}`, accuracy[task]?.toFixed(2) ?? "–", this.tasks.indexOf(task)];
    if (this.tasks.length <= MOST_CARDS) return this.tasks.map(card);
    const values = Object.entries(accuracy).filter(([task]) => (now.taught ?? []).includes(task)).map(([, value]) => value);
    const mean = values.length ? (values.reduce((sum, value) => sum + value, 0) / values.length).toFixed(2) : "–";
    const taught = this.tasks.includes(now.task) ? [["accuracy-taught", "accuracy on it", accuracy[now.task]?.toFixed(2) ?? "–"]] : [];
    return [...taught, ["accuracy-mean", `mean of the ${values.length || ""} taught`, mean]];
  }

  showNumbers(now) {
    this.now = now;
    this.step = now.step;
    const back = this.view.hovered;
    const learning = now.playing && !now.finished;
    const accuracy = back === null ? now.accuracy : this.accuracyAt(back);
    const task = back === null ? now.task : (this.stage.reel.at(back)?.scene.task ?? now.task);
    const entries = [
      ["step", "step", back === null ? now.step : Math.round(back)],
      ["task", now.finished && back === null ? "learned last" : "being taught", task ? (task === "all" ? "all tasks" : `task ${task}`) : "–"],
      ...this.accuracies({ ...now, task }, accuracy),
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
    this.rings.show(back ?? now.step);
  }

  say(sentence) {
    this.sentence.textContent = sentence;
    for (const plot of Object.values(this.plots)) {
      if (!plot.layout) continue;
      plot.frame.setAttribute("aria-label", `${plot.layout.title?.text ?? "Accuracy on each task"}: the time of this run. ${sentence}`);
      plot.frame.setAttribute("aria-valuemax", Math.max(this.step, 1));
      plot.frame.setAttribute("aria-valuenow", Math.round(this.view.hovered ?? this.step));
    }
    this.rings.root.setAttribute("aria-label", `The nested loops. ${this.rings.rows().slice(1).map((row) => row.join(" ")).join("; ")}.`);
  }

  // What became of the first task, from the figures of the run, and what to try next.
  advise(hint, became) {
    const next = this.view.component.data.hints[hint] ?? "";
    this.hint.hidden = !next;
    const told = element("span", "nl-next");
    told.innerHTML = next;
    if (this.hint.textContent !== `${became ?? ""} ${told.textContent}`) this.hint.replaceChildren(`${became ?? ""} `, told);
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
}
