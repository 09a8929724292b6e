// The fan of futures as a component of the page: drawn anew when another future has come to its end, or the page changes.
export default function ({ parentElement, data }) {
  const view = (parentElement.nllabFan ??= new FanView());
  if (!view.root.isConnected) {
    parentElement.append(view.root);
    parentElement.nllabFanSize?.disconnect();
    parentElement.nllabFanSize = new ResizeObserver(() => view.draw(themeOf(getComputedStyle(view.root).color), getComputedStyle(view.root).fontFamily));
    parentElement.nllabFanSize.observe(view.root);
  }
  view.show(data);
  view.draw(themeOf(getComputedStyle(view.root).color), getComputedStyle(view.root).fontFamily);
}
