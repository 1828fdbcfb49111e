/** A drawing of the probabilities of the largest face in the last minute. */

import { STRINGS, nameOf } from "./strings.js";

/** Seconds that are shown, and pixels of one second. */
const SECONDS = 60;
const SCALE = 12;
const HEIGHT = 140;
/** A longer pause between two answers stays empty. */
const PAUSE = 2;

export class Timeline {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {string[]} labels The classes of the model.
   */
  constructor(canvas, labels) {
    Object.assign(this, { canvas, labels, points: [] });
    canvas.width = SECONDS * SCALE;
    canvas.height = HEIGHT;
    this.render(0);
  }

  /**
   * Add an answer.
   * @param {number} seconds Time since the start.
   * @param {Record<string, number> | null} scores Of the largest face; null if there is none.
   */
  add(seconds, scores) {
    this.points.push({ seconds, scores });
    while (this.points[0].seconds < seconds - SECONDS - PAUSE) this.points.shift();
    this.render(seconds);
  }

  /** Draw the probabilities as areas on top of each other, the newest at the right. */
  render(now) {
    const context = this.canvas.getContext("2d");
    const style = getComputedStyle(this.canvas);
    context.clearRect(0, 0, this.canvas.width, HEIGHT);
    const place = (seconds) => this.canvas.width - (now - seconds) * SCALE;
    const shown = this.labels.map((_, number) => style.getPropertyValue(`--tint-${number % 7}`));
    for (let at = 1; at < this.points.length; at++) {
      const [from, to] = [this.points[at - 1], this.points[at]];
      if (!from.scores || !to.scores || to.seconds - from.seconds > PAUSE) continue;
      let [low, high] = [HEIGHT, HEIGHT];
      this.labels.forEach((label, number) => {
        const [nextLow, nextHigh] = [low - HEIGHT * from.scores[label], high - HEIGHT * to.scores[label]];
        context.fillStyle = shown[number];
        context.beginPath();
        context.moveTo(place(from.seconds), low);
        context.lineTo(place(from.seconds), nextLow);
        context.lineTo(place(to.seconds) + 0.5, nextHigh);
        context.lineTo(place(to.seconds) + 0.5, high);
        context.fill();
        [low, high] = [nextLow, nextHigh];
      });
    }
    const last = this.points.at(-1)?.scores;
    const best = last && this.labels.reduce((one, other) => (last[other] > last[one] ? other : one));
    const said = last ? STRINGS.timelineNow(nameOf(best), last[best]) : STRINGS.timelineEmpty;
    if (this.canvas.getAttribute("aria-label") !== said) this.canvas.setAttribute("aria-label", said);
  }
}
