
// The same player as a component of the dashboard: one for each file.
let playerPlotly;

export default function ({ parentElement, data }) {
  playerPlotly ??= new Promise((done, failed) => {
    if (window.Plotly) return done(window.Plotly);
    const script = Object.assign(document.createElement("script"), { src: data.plotly, onerror: failed });
    script.onload = () => done(window.Plotly);
    document.head.append(script);
  });
  if (parentElement.nllabFile !== data.id) {
    parentElement.nllabFile = data.id;
    parentElement.nllab?.close();
    const place = parentElement.querySelector(".player") ?? parentElement.appendChild(Object.assign(document.createElement("div"), { className: "player" }));
    playerPlotly.then((Plotly) => {
      if (parentElement.nllabFile === data.id) parentElement.nllab = new Player(place, data.recording, Plotly);
    });
  }
}
