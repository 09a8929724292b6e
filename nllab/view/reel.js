// The portraits of a run as they come, and the one of any moment. A portrait brings only the levels that have changed.

export const MOST_PORTRAITS = 400;

export function bytes(text) {
  const raw = atob(text);
  const found = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) found[i] = raw.charCodeAt(i);
  return found;
}

function decoded(level) {
  const { units, incoming, outgoing, scale } = level;
  const weights = new Int8Array(bytes(level.weights).buffer);
  return { units, incoming, outgoing, scale, weights, stride: incoming + 1 + outgoing };
}

// Share of its numbers' size by which each unit differs between two states of a level.
export function changes(before, after) {
  const found = new Float32Array(after.units);
  if (!before || before.weights === after.weights) return found;
  const [one, other] = [before.scale / 127, after.scale / 127];
  for (let unit = 0; unit < after.units; unit++) {
    let difference = 0;
    let size = 0;
    for (let i = unit * after.stride; i < (unit + 1) * after.stride; i++) {
      difference += (after.weights[i] * other - before.weights[i] * one) ** 2;
      size += (after.weights[i] * other) ** 2;
    }
    found[unit] = size ? Math.sqrt(difference / size) : 0;
  }
  return found;
}

export class Reel {
  constructor() {
    this.portraits = [];
    this.samples = null;
  }

  get last() {
    return this.portraits.at(-1);
  }

  // A portrait as it was sent; earlier ones fill in the levels that it leaves out.
  add(sent) {
    const before = this.last;
    const levels = { ...before?.levels };
    for (const [name, level] of Object.entries(sent.levels ?? {})) {
      levels[name] = level.weights === undefined ? { ...levels[name] } : decoded(level);
      levels[name].retained = level.retained ? bytes(level.retained) : null;
    }
    const keep = (key) => sent[key] ?? (before?.step === sent.step ? before[key] : undefined) ?? before?.[key];
    const next = { step: sent.step, levels, seen: sent.seen ?? null, answers: keep("answers"), surface: keep("surface"), texts: keep("texts") };
    if (before?.step === sent.step) this.portraits.pop();
    this.portraits.push(next);
    if (this.portraits.length > MOST_PORTRAITS) this.portraits = this.portraits.filter((_, i, all) => i % 2 === 0 || i === all.length - 1);
    return next;
  }

  // What was on the picture at this step; the newest for null.
  at(step) {
    if (step === null || step === undefined) return this.last;
    let found = this.portraits[0];
    for (const portrait of this.portraits) {
      if (portrait.step > step) break;
      found = portrait;
    }
    return found;
  }

  before(portrait) {
    return this.portraits[this.portraits.indexOf(portrait) - 1];
  }
}
