// Canvases as large as their place on the page, in the pixels of the screen.

const rooms = new Map(); // element -> its size, while one frame is drawn

// Measures these elements before anything is drawn or said. Asked one by one between changes, a browser lays out the page each time.
export function survey(elements) {
  rooms.clear();
  for (const element of elements) rooms.set(element, roomOf(element));
}

export function roomOf(element) {
  return rooms.get(element) ?? { width: element.clientWidth, height: element.clientHeight };
}

// {brush, width, height, ratio, resized} of a canvas that fits its place, in units of the page; null while it has none. A canvas that was
// resized is blank.
export function fit(canvas, { width, height } = roomOf(canvas)) {
  if (!width || !height) return null;
  const ratio = window.devicePixelRatio || 1;
  const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
  const resized = canvas.width !== wide || canvas.height !== high;
  if (resized) Object.assign(canvas, { width: wide, height: high });
  const brush = canvas.getContext("2d");
  brush.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { brush, width, height, ratio, resized };
}
