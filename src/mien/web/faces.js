/**
 * Show the faces of an image: boxes over the picture, and bars for the emotions.
 *
 * @typedef {import("./csv.js").Prediction} Prediction
 */

import { draw, make } from "./elements.js";
import { FLAGS, STRINGS, nameOf } from "./strings.js";

/**
 * Return the number of the colour of a class, 0 to 6.
 * @param {string[]} labels
 * @param {string} label
 * @returns {number}
 */
export const colour = (labels, label) => labels.indexOf(label) % 7;

/**
 * Return a drawing of the boxes of an image, to put over the picture.
 * @param {Prediction} prediction
 * @returns {SVGElement}
 */
export function boxes({ width, height, faces }) {
  const unit = Math.max(width, height) / 100;
  const drawing = draw("svg", { viewBox: `0 0 ${width} ${height}`, class: "boxes", "aria-hidden": "true" });
  const labels = faces.map(({ box, emotion }, number) => {
    const text = `${number + 1} ${nameOf(emotion)}`;
    const [across, down] = [(text.length * 1.85 + 1.6) * unit, 4.8 * unit];
    const x = Math.max(0, Math.min(box.left, width - across));
    const y = box.top >= down ? box.top - down : box.top;
    const label = draw("text", { x: x + 0.8 * unit, y: y + 3.5 * unit, "font-size": 3.4 * unit }, text);
    label.setAttribute("textLength", across - 1.6 * unit);
    return [draw("rect", { x, y, width: across, height: down, class: "box-label" }), label];
  });
  for (const { left: x, top: y, width: across, height: down } of faces.map(({ box }) => box)) {
    const place = { x, y, width: across, height: down };
    drawing.append(draw("rect", { ...place, class: "box-back" }), draw("rect", { ...place, class: "box" }));
  }
  drawing.append(...labels.flat());
  return drawing;
}

/** Bars for the probabilities of one face, which can be updated in place. */
export class Bars {
  /** @param {string[]} labels The classes of the model. */
  constructor(labels) {
    this.rows = labels.map((label) => {
      const fill = make("span", { className: `fill tint-${colour(labels, label)}` });
      const share = make("span", { className: "share" });
      const name = make("span", { className: "name" }, nameOf(label));
      const track = make("span", { className: "track", "aria-hidden": "true" }, fill);
      return { label, fill, share, item: make("li", {}, name, track, share) };
    });
    this.element = make("ul", { className: "bars" }, ...this.rows.map(({ item }) => item));
  }

  /** @param {Record<string, number>} scores */
  show(scores) {
    const best = Math.max(...Object.values(scores));
    for (const { label, fill, share, item } of this.rows) {
      const value = scores[label] ?? 0;
      fill.style.inlineSize = `${100 * value}%`;
      share.textContent = STRINGS.share(value);
      item.classList.toggle("best", value === best);
    }
  }
}

/**
 * Return an article about an image with its picture, faces and notes.
 * @param {Prediction} prediction
 * @param {HTMLImageElement} picture
 * @param {boolean} whole Whether the image was taken as one face.
 * @returns {HTMLElement}
 */
export function describe(prediction, picture, whole) {
  const { source, faces, rotation } = prediction;
  picture.alt = STRINGS.photoAlternative(source, faces.length);
  const list = make("ol", { className: "faces" });
  faces.forEach(({ emotion, confidence, scores, flags }, number) => {
    const bars = new Bars(Object.keys(scores));
    bars.show(scores);
    const notes = flags.map((flag) => make("span", { className: "flag" }, FLAGS[flag] ?? flag));
    const title = make("h4", {}, STRINGS.faceAnswer(number + 1, nameOf(emotion), confidence));
    list.append(make("li", {}, title, ...notes, bars.element));
  });
  const frame = make("div", { className: "picture" }, picture, ...(whole ? [] : [boxes(prediction)]));
  const parts = [make("h3", {}, STRINGS.image(source, faces.length)), frame];
  if (rotation) parts.push(make("p", { className: "note" }, STRINGS.rotated(rotation)));
  if (!faces.length) parts.push(make("p", { className: "note" }, `${STRINGS.noFace} ${STRINGS.noFaceHelp}`));
  return make("article", {}, ...parts, list);
}
