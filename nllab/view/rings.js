// The loops inside each other, the fastest innermost: a hand goes round once per period, and the ring lights up when its level writes.
function svgElement(tag, attributes, text) {
  const found = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
  if (text !== undefined) found.textContent = text;
  return found;
}

const RING_MS = 600;

export class Rings {
  constructor({ reduced = false } = {}) {
    this.reduced = reduced;
    this.root = svgElement("svg", { viewBox: "0 0 460 250", class: "nl-rings", role: "img", "aria-label": "The nested loops" });
    this.rings = [];
  }

  arrange(periods, levels, colours) {
    const order = [...levels.keys()].sort((a, b) => periods[levels[a]] - periods[levels[b]] || a - b);
    const gap = Math.min(20, 96 / levels.length);
    this.root.replaceChildren();
    this.rings = order.map((i, place) => {
      const name = levels[i];
      const before = this.rings.find((ring) => ring.name === name);
      const radius = 16 + gap * (place + 0.5);
      const y = 30 + (190 / Math.max(order.length - 1, 1)) * place;
      const circle = svgElement("circle", { cx: 125, cy: 125, r: radius, class: "nl-ring", stroke: colours[i] });
      const hand = svgElement("circle", { r: 4.5, fill: colours[i], class: "nl-hand" });
      const line = svgElement("polyline", { points: `${125 + radius * 0.87},${125 + radius * (place < order.length / 2 ? -0.5 : 0.5)} 262,${y} 272,${y}`, class: "nl-leader" });
      const label = svgElement("text", { x: 278, y: y + 4, class: "nl-ring-name" }, name);
      const count = svgElement("text", { x: 278, y: y + 20, class: "nl-ring-count" });
      this.root.append(line, circle, hand, label, count);
      return { name, period: periods[name], radius, circle, hand, count, writes: before?.writes ?? 0 };
    });
    this.show(this.step ?? 0);
  }

  pulse(wrote, writes) {
    for (const ring of this.rings) {
      ring.writes = writes[ring.name];
      const now = wrote.includes(ring.name);
      if (this.reduced) ring.circle.classList.toggle("nl-wrote", now);
      else if (now && this.root.style.display !== "none") ring.circle.animate([{ strokeWidth: "10px", opacity: 1 }, {}], { duration: RING_MS, easing: "ease-out" });
    }
    this.show(this.step ?? 0);
  }

  show(step) {
    this.step = step;
    for (const { period, radius, hand, count, writes } of this.rings) {
      const angle = (2 * Math.PI * (Math.round(step) % period)) / period;
      hand.setAttribute("cx", 125 + radius * Math.sin(angle));
      hand.setAttribute("cy", 125 - radius * Math.cos(angle));
      const often = period === 1 ? "every step" : `every ${period} steps`;
      count.textContent = `${often} · ${writes} ${writes === 1 ? "write" : "writes"}`;
    }
  }

  rows() {
    return [["level", "period in steps", "writes"], ...this.rings.map(({ name, period, writes }) => [name, period, writes])];
  }
}

