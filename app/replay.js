
// The same player as a component of the dashboard: one for each recording.
export default function ({ parentElement, data }) {
  if (parentElement.nllabFile === data.id) return;
  parentElement.nllabFile = data.id;
  parentElement.nllab?.close();
  const place = parentElement.querySelector(".player") ?? parentElement.appendChild(Object.assign(document.createElement("div"), { className: "player" }));
  parentElement.nllab = new Player(place, data.recordings);
}
