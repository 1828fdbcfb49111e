/**
 * The face detector MTCNN: a cascade of three networks, as in mien.vision.detectors.mtcnn.
 *
 * Source: Zhang et al. 2016, arXiv:1604.02878.
 *
 * @typedef {import("./pixels.js").Pixels} Pixels
 * @typedef {[left: number, top: number, right: number, bottom: number, score: number]} Row
 * @typedef {object} Detection
 * @property {number} left Pixels from the left edge; boxes can extend beyond the image.
 * @property {number} top Pixels from the top edge.
 * @property {number} width
 * @property {number} height
 * @property {number} score Confidence in [0, 1].
 *
 * @typedef {(images: Uint8Array, shape: number[]) => Promise<{boxes: Float32Array, faces: Float32Array, shape: number[]}>}
 *     Network It takes `(n, h, w, 3)` pixels; `shape` is that of `faces`.
 */

import { blur, crop, resize, round } from "./pixels.js";

/** Minimum probability of a face in each network; the third runs twice. */
const MIN_SCORES = [0.6, 0.7, 0.6, 0.85];
/** Side of the smallest square to find, in widths of the smallest face. */
const SQUARE = 1.4;
/** Factor between the image sizes for the first network. */
const STEP = 0.709;
/** Side of the input of the first network, and its stride, in pixels. */
const CELL = 12;
const STRIDE = 2;
/** Grey level beyond the border, which the networks take as 0. */
const PADDING = 127;
/** Maximum number of squares in one run. */
const BATCH = 128;
/** For the second opinion: side of the crop divided by the radius of the blur, and sizes relative to the box. */
const BLUR = 28;
const SIZES = [1, 1.15];

/** The three networks, which exchange rows of a box and a score. */
export class Cascade {
  /**
   * @param {Network} first
   * @param {Network} second
   * @param {Network} third
   */
  constructor(first, second, third) {
    Object.assign(this, { first, second, third });
  }

  /**
   * Return the faces of an image that are at least about `smallest` pixels wide.
   * @param {Pixels} image RGB.
   * @param {number} smallest
   * @returns {Promise<Detection[]>}
   */
  async find(image, smallest) {
    let rows = await this.propose(image, Math.max(smallest * SQUARE, CELL));
    rows = await refine(this.second, 24, image, rows, MIN_SCORES[1]);
    rows = suppress(rows, 0.7);
    for (const score of MIN_SCORES.slice(2)) {
      rows = await refine(this.third, 48, image, rows, score, { mirrored: true });
      rows = suppress(rows, 0.7, { ofSmaller: true });
    }
    return rows
      .filter(([left, top, right, bottom]) => right > left && bottom > top)
      .map(([left, top, right, bottom, score]) => ({ left, top, width: right - left, height: bottom - top, score }));
  }

  /** Return the candidates of the first network, which scans the image in several sizes. */
  async propose(image, smallest) {
    const found = [];
    for (let scale = CELL / smallest; Math.min(image.width, image.height) * scale >= CELL; scale *= STEP) {
      const [width, height] = [round(image.width * scale), round(image.height * scale)];
      const { boxes, faces, shape } = await this.first(resize(image, width, height).data, [1, height, width, 3]);
      found.push(...suppress(candidates(boxes, faces, shape, image.width / width, image.height / height), 0.5));
    }
    return suppress(found, 0.7);
  }

  /**
   * Return the likelihood in [0, 1] that a box shows a face, to verify the box of another detector or orientation.
   *
   * The third network sees the box blurred, because noise hides faces from it, and in two sizes.
   * @param {Pixels} image RGB.
   * @param {Detection} face
   * @returns {Promise<number>}
   */
  async likelihood(image, face) {
    const side = Math.max(face.width, face.height);
    const [left, top] = [Math.trunc(face.left - side), Math.trunc(face.top - side)];
    const [right, bottom] = [
      Math.trunc(face.left + face.width + side),
      Math.trunc(face.top + face.height + side),
    ];
    const soft = blur(crop(image, [left, top, right, bottom]), side / BLUR);
    const [x, y] = [face.left + face.width / 2 - left, face.top + face.height / 2 - top];
    const [halfWidth, halfHeight] = [face.width / 2, face.height / 2];
    const rows = SIZES.map((size) => [
      x - halfWidth * size,
      y - halfHeight * size,
      x + halfWidth * size,
      y + halfHeight * size,
      0,
    ]);
    const scores = (await refine(this.third, 48, soft, rows, -1, { mirrored: true })).map((row) => row[4]);
    return scores.length ? Math.max(...scores) : 0;
  }
}

/** Return the cells of the first network with a face, as rows in pixels of the image. */
function candidates(boxes, faces, shape, across, down) {
  const [, height, width] = shape;
  const rows = [];
  for (let y = 0, cell = 0; y < height; y++) {
    for (let x = 0; x < width; x++, cell++) {
      const score = faces[cell * 2 + 1];
      if (score <= Math.fround(MIN_SCORES[0])) continue;
      const [left, top] = [x * STRIDE, y * STRIDE];
      const offset = (corner) => Math.fround(boxes[cell * 4 + corner] * CELL);
      rows.push([
        (left + offset(0)) * across,
        (top + offset(1)) * down,
        (left + CELL + offset(2)) * across,
        (top + CELL + offset(3)) * down,
        score,
      ]);
    }
  }
  return rows;
}

/**
 * Return a network's boxes with a score above `score`; `mirrored`, the mean with the mirror image.
 * @param {Network} network
 * @param {number} side Side of its input in pixels.
 * @param {Pixels} image
 * @param {Row[]} rows
 * @param {number} score
 * @param {{mirrored?: boolean}} [options]
 * @returns {Promise<Row[]>}
 */
async function refine(network, side, image, rows, score, { mirrored = false } = {}) {
  const kept = [];
  const squares = toSquares(rows);
  for (let start = 0; start < squares.length; start += BATCH) {
    const batch = squares.slice(start, start + BATCH);
    const patches = cutPatches(image, batch, side);
    const { boxes, faces } = await network(patches, [batch.length, side, side, 3]);
    const offsets = Float64Array.from(boxes);
    const scores = batch.map((_, number) => faces[number * 2 + 1]);
    if (mirrored) {
      const other = await network(mirror(patches, side), [batch.length, side, side, 3]);
      for (let number = 0; number < batch.length; number++) {
        const at = number * 4;
        [2, 1, 0, 3].forEach((corner, place) => {
          const sign = place % 2 ? 1 : -1;
          offsets[at + place] = (boxes[at + place] + other.boxes[at + corner] * sign) / 2;
        });
        scores[number] = Math.fround(Math.fround(scores[number] + other.faces[number * 2 + 1]) / 2);
      }
    }
    batch.forEach((square, number) => {
      if (scores[number] <= Math.fround(score)) return;
      const width = square[2] - square[0];
      const moved = square.map((edge, place) => edge + offsets[number * 4 + place] * width);
      kept.push([...moved, scores[number]]);
    });
  }
  return kept;
}

/** Return squares with the centre and the longer side of each box. */
function toSquares(rows) {
  const squares = [];
  for (const [left, top, right, bottom] of rows) {
    const [x, y] = [(left + right) / 2, (top + bottom) / 2];
    const half = Math.max(right - left, bottom - top) / 2;
    if (half >= 0.5) squares.push([x - half, y - half, x + half, y + half]);
  }
  return squares;
}

/** Return the squares of an image, resized: `(n, side, side, 3)`. */
function cutPatches(image, squares, side) {
  let beyond = 0;
  for (const [left, top, right, bottom] of squares) {
    beyond = Math.max(beyond, -left, -top, right - image.width, bottom - image.height);
  }
  const border = Math.ceil(beyond) + 1;
  const patches = new Uint8Array(squares.length * side * side * 3);
  squares.forEach((square, number) => {
    const box = square.map((edge) => edge + border);
    const patch = resize(image, side, side, { box, border, fill: PADDING });
    patches.set(patch.data, number * side * side * 3);
  });
  return patches;
}

/** Return patches with their columns in reverse order. */
function mirror(patches, side) {
  const out = new Uint8Array(patches.length);
  for (let row = 0; row < patches.length; row += side * 3) {
    for (let x = 0; x < side; x++) {
      const from = row + (side - 1 - x) * 3;
      out.set(patches.subarray(from, from + 3), row + x * 3);
    }
  }
  return out;
}

/**
 * Return the best box of those that overlap by more than `most` of their union, or of the smaller box.
 * @param {Row[]} rows
 * @param {number} most
 * @param {{ofSmaller?: boolean}} [options]
 * @returns {Row[]}
 */
function suppress(rows, most, { ofSmaller = false } = {}) {
  const area = (row) => (row[2] - row[0]) * (row[3] - row[1]);
  let left = [...rows].sort((one, other) => other[4] - one[4]);
  const kept = [];
  while (left.length) {
    const [best, ...others] = left;
    kept.push(best);
    left = others.filter((row) => {
      const width = Math.max(Math.min(best[2], row[2]) - Math.max(best[0], row[0]), 0);
      const height = Math.max(Math.min(best[3], row[3]) - Math.max(best[1], row[1]), 0);
      const shared = width * height;
      const whole = ofSmaller ? Math.min(area(best), area(row)) : area(best) + area(row) - shared;
      return shared <= most * whole;
    });
  }
  return kept;
}
