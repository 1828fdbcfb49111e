/**
 * Find the faces of an image and classify their emotions, as mien.inference.predictor does.
 *
 * @typedef {import("./pixels.js").Pixels} Pixels
 * @typedef {object} Head
 * @property {string} output Name of the output of the model.
 * @property {number[]} frequencies Of each class in the training data; empty if unknown.
 * @property {number} balance The balance for photos.
 * @property {number | null} threshold Confidence below which an answer is uncertain, at balance 0.
 * @property {Record<string, number>} thresholds The same at other balances.
 * @property {boolean} at_chance Whether all answers are uncertain.
 *
 * @typedef {object} Options
 * @property {string} source Name of the image.
 * @property {number} width Width of the original in pixels.
 * @property {number} height Height of the original in pixels.
 * @property {string} [head] Which head answers; by default the one for photos.
 * @property {number | null} [balance] In [0, 1]; by default the head's own.
 * @property {number | null} [minFace] Width of the smallest face in pixels.
 * @property {number} [minConfidence] Ignore faces with a lower confidence.
 * @property {boolean} [autoRotate] Try other orientations if no upright face is found.
 * @property {boolean} [wholeImage] Treat the image as one cropped face.
 */

import { turned } from "./detector.js";
import { cut, fit } from "./pixels.js";

/** Sharpness below which a crop is blurred, and share of its side beyond the image from which a face is cut. */
const BLURRED = 0.2;
const CUT = 0.05;
/** Faces in one batch. */
const BATCH = 32;
/** The smallest normal number of float32, in the place of a probability of 0. */
const FLOOR = 2 ** -126;

/** A model and a detector. */
export class Predictor {
  /**
   * @param {import("./detector.js").Detector} detector
   * @param {(crops: Uint8Array, shape: number[], output: string) => Promise<Float32Array>} model It takes
   *     `(n, size, size, 1)` pixels and returns `(n, labels)` probabilities.
   * @param {{labels: string[], size: number, heads: Record<string, Head>}} card
   */
  constructor(detector, model, card) {
    Object.assign(this, { detector, model, card });
  }

  /**
   * Return the faces of an image in the format of `mien predict --json`.
   * @param {Pixels} image RGB, upright.
   * @param {Options} options
   * @returns {Promise<object>}
   */
  async predict(image, options) {
    const { width, height, source } = options;
    const seen = options.wholeImage ? this.seeWhole(image, options) : await this.see(image, options);
    const name = options.head ?? photoHead(this.card);
    const head = this.card.heads[name];
    if (!head) throw new Error(`the model has no head ${JSON.stringify(name)}`);
    const balance = options.balance ?? head.balance;
    const chances = await this.classify(seen.crops, head);
    const { labels } = this.card;
    const limit = threshold(head, balance);
    const faces = seen.found.map(({ box, detected, square }, number) => {
      const own = chances.subarray(number * labels.length, (number + 1) * labels.length);
      const scores = adjust(own, head.frequencies, balance);
      const best = scores.indexOf(Math.max(...scores));
      return {
        box,
        detected,
        emotion: labels[best],
        confidence: scores[best],
        scores: Object.fromEntries(labels.map((label, place) => [label, scores[place]])),
        flags: flags(scores[best], seen.crops[number], square, image, limit),
      };
    });
    return { schema: 1, source, width, height, rotation: seen.rotation, faces };
  }

  /** Find the faces of an image and crop them. */
  async see(image, options) {
    const { width, height } = options;
    const { pixels, faces, turns } = await this.detector.detect(image, {
      width,
      height,
      smallest: options.minFace ?? null,
      minConfidence: options.minConfidence ?? 0,
      autoRotate: options.autoRotate ?? true,
    });
    const crops = faces.map(({ face }) => cut(pixels, this.detector.square(face), this.card.size).data);
    const found = faces.map(({ box, face }) => {
      const [left, top, side] = this.detector.square(face);
      const back = turned({ left, top, width: side, height: side, score: 0 }, -turns, [pixels.width, pixels.height]);
      return { box, detected: face.score, square: [back.left, back.top, side] };
    });
    return { crops, found, rotation: turns * 90 };
  }

  /** Take the whole image as one face. */
  seeWhole(image, { width, height }) {
    const square = [0, 0, Math.min(image.width, image.height)];
    const found = [{ box: { left: 0, top: 0, width, height }, detected: null, square }];
    return { crops: [fit(image, this.card.size).data], found, rotation: 0 };
  }

  /** Return the probabilities `(n, labels)` of crops. */
  async classify(crops, head) {
    const { labels, size } = this.card;
    const answers = new Float32Array(crops.length * labels.length);
    for (let start = 0; start < crops.length; start += BATCH) {
      const batch = crops.slice(start, start + BATCH);
      const pixels = new Uint8Array(batch.length * size * size);
      batch.forEach((crop, number) => pixels.set(crop, number * size * size));
      answers.set(await this.model(pixels, [batch.length, size, size, 1], head.output), start * labels.length);
    }
    return answers;
  }
}

/**
 * Return which head answers photos: `ferplus`, what people see, or else the first.
 * @param {{heads: Record<string, Head>}} card
 * @returns {string}
 */
export function photoHead(card) {
  return "ferplus" in card.heads ? "ferplus" : Object.keys(card.heads)[0];
}

/**
 * Return probabilities for images in which the emotions are more equally frequent than in training.
 *
 * Source: Saerens et al. 2002, doi:10.1162/089976602753284446, equation 2.4.
 * @param {Float32Array} chances
 * @param {number[]} frequencies
 * @param {number} balance From 0 to 1.
 * @returns {number[]}
 */
export function adjust(chances, frequencies, balance) {
  if (!balance) return [...chances];
  if (frequencies.length !== chances.length) throw new Error("the model has no frequencies, which a balance needs");
  const logits = frequencies.map((share, place) =>
    share > 0 ? Math.log(Math.max(chances[place], FLOOR)) + Math.log(share ** -balance) : -Infinity,
  );
  const highest = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - highest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => Math.fround(power / sum));
}

/**
 * Return the threshold of the balance nearest to this one for which the head has one; of two, the lower balance.
 * @param {Head} head
 * @param {number} balance
 * @returns {number | null}
 */
export function threshold(head, balance) {
  if (head.at_chance) return Infinity;
  const known = [[0, head.threshold], ...Object.entries(head.thresholds)].map(([at, value]) => [Number(at), value]);
  known.sort(([one], [other]) => Math.abs(one - balance) - Math.abs(other - balance) || one - other);
  return known[0][1];
}

/** Return the reasons to trust a prediction less, in the order of mien.types.FLAGS. */
function flags(confidence, crop, [left, top, side], image, limit) {
  const size = Math.sqrt(crop.length);
  const beyond = Math.max(-left, -top, left + side - image.width, top + side - image.height);
  const holds = {
    uncertain: limit !== null && confidence < limit,
    small: side < size,
    blurred: sharpness(crop, size) < BLURRED,
    cut: beyond > CUT * side,
  };
  return Object.keys(holds).filter((flag) => holds[flag]);
}

/** Return the deviation of the Laplacian of a crop divided by that of its pixels. */
function sharpness(crop, size) {
  const rough = [];
  for (let y = 1; y < size - 1; y++) {
    for (let at = y * size + 1; at < (y + 1) * size - 1; at++) {
      rough.push(4 * crop[at] - crop[at - size] - crop[at + size] - crop[at - 1] - crop[at + 1]);
    }
  }
  return deviation(rough) / Math.max(deviation(crop), 1);
}

function deviation(values) {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
}
