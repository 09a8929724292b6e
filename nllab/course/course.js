// Sliders over pictures that were drawn beforehand, and recorded runs that are played.
for (const box of document.querySelectorAll(".sliders")) {
  const pictures = JSON.parse(box.querySelector("script").textContent);
  const inputs = [...box.querySelectorAll("input")];
  const image = box.querySelector("img");
  const show = () => {
    let at = 0;
    for (const input of inputs) {
      const values = JSON.parse(input.dataset.values);
      at = at * values.length + Number(input.value);
      input.nextElementSibling.textContent = values[input.value];
    }
    image.src = `data:image/png;base64,${pictures[at]}`;
  };
  for (const input of inputs) input.addEventListener("input", show);
}
for (const box of document.querySelectorAll(".recording")) {
  new Player(box.firstElementChild, JSON.parse(box.querySelector("script").textContent));
}
