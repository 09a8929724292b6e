// A screen that nobody sits at: a presentation shows the figures alone, in large type; a slide is a page in a frame. Both begin again by
// themselves when a training is over.

const AGAIN_MS = 6000; // of standing still before it begins again

class Screen {
  constructor(view) {
    this.view = view;
    const asked = new URLSearchParams(location.search);
    if (asked.get("embed") === "true") document.documentElement.dataset.slide = "on";
    if (asked.has("present")) this.present(true);
  }

  get presents() {
    return Boolean(document.documentElement.dataset.present);
  }

  get loops() {
    return this.presents || Boolean(document.documentElement.dataset.slide);
  }

  // By how much figures on a canvas grow with the type of the page.
  get scale() {
    return this.loops ? parseFloat(getComputedStyle(document.documentElement).fontSize) / (this.presents ? 12 : 16) : 1;
  }

  present(on) {
    if (on) document.documentElement.dataset.present = "on";
    else delete document.documentElement.dataset.present;
    if (on) document.documentElement.requestFullscreen?.().catch(() => {}); // a browser may want a key or a click for it
    else if (document.fullscreenElement) document.exitFullscreen();
    this.view.ink = "";
    this.view.redrawAll();
    if (on) this.goOn();
  }

  // Whether a training has to begin: nothing has, or all are over. One that was paused by hand stands.
  get due() {
    const { panels } = this.view;
    const still = panels.length > 0 && !panels.some(({ now }) => now.playing);
    return this.loops && still && (panels.every(({ now }) => now.finished) || !panels.some(({ now }) => now.step));
  }

  goOn() {
    if (this.again || !this.due) return;
    const begun = this.view.panels.some(({ now }) => now.step);
    this.again = setTimeout(() => {
      this.again = undefined;
      if (this.due && !this.view.closed) document.querySelector(".st-key-play button")?.click();
    }, begun ? AGAIN_MS : AGAIN_MS / 3);
  }

  close() {
    clearTimeout(this.again);
  }
}
