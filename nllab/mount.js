// Shows a widget inside the placeholder of a cell's HTML output. The file of the notebook then holds the placeholder,
// with its last picture, and no reference to a widget that only a running kernel knows.
const attach = (widget) => {
  for (const type of ["before-attach", "after-attach"])
    widget?.processMessage({ type, isConflatable: false, conflate: () => false });
};

export default {
  async initialize({ model }) {
    const name = model.get("place");
    const child = await model.widget_manager.get_model(model.get("child").slice("IPY_MODEL_".length));
    const views = []; // {place, holder}: what is shown, and where
    let ended = false, waiting = false, asked = false;

    const mark = (place, live) => {
      place.querySelector(".nllab-still").style.display = live ? "none" : "";
      place.querySelector(".nllab-live").style.display = live ? "" : "none";
    };
    // One view for each place, once: Plotly's goes on listening when it has been removed, and fails there before the
    // next one hears of anything.
    const make = async (holder) => {
      const made = await model.widget_manager.create_view(child);
      holder.replaceChildren(made.el);
      attach(made.luminoWidget ?? made.pWidget);
      // Messages that came while scripts were loading were lost: ask once for all of it, when everything is drawn.
      if (asked) return;
      asked = true;
      for (let i = 0; i < 600 && [...made.el.querySelectorAll(".js-plotly-plot")].some((e) => !e.data); i++)
        await new Promise((done) => setTimeout(done, 100));
      model.send({ ready: true });
    };
    const show = async (place) => {
      let view = views.find((one) => !one.place.isConnected);
      if (view) view.place = place;
      else views.push((view = { place, holder: document.createElement("div") }));
      place.querySelector(".nllab-live").replaceChildren(view.holder);
      view.made ??= make(view.holder);
      await view.made;
      mark(place, !ended);
      window.dispatchEvent(new Event("resize"));
    };
    const look = () => {
      waiting = false;
      for (const place of document.querySelectorAll(`[id="${name}"]`)) {
        const here = views.find((one) => one.place === place);
        if (ended) mark(place, false);
        else if (!here || !place.contains(here.holder)) show(place);
      }
    };
    const observer = new MutationObserver(() => {
      if (!waiting) { waiting = true; setTimeout(look, 50); }
    });
    const end = () => {
      ended = true;
      observer.disconnect();
      look();
    };
    observer.observe(document.body, { childList: true, subtree: true });
    // The kernel has gone or was started anew: the last picture stands there again, and says how to go on.
    child.on("comm_live_update", () => { if (!child.comm_live) end(); });
    model.on("change:ended", () => { if (model.get("ended")) end(); });
    if (model.get("ended")) end(); else look();
    return end;
  },
};
