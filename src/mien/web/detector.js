/**
 * Find the faces of images of any size, as mien.vision.detectors, mien.vision.detectors.orientation and
 * mien.vision.faces do.
 *
 * @typedef {import("./pixels.js").Pixels} Pixels
 * @typedef {import("./mtcnn.js").Detection} Detection
 * @typedef {{left: number, top: number, width: number, height: number}} Box Whole pixels inside the image.
 * @typedef {{right: number, down: number, scale: number}} CropTransform From a box to the square that a model takes.
 */

import { crop, resize, round, turn } from "./pixels.js";

/** Length in pixels that the longer side is reduced to, if that suffices for the smallest face. */
const REDUCED_SIDE = 512;
/** Length in pixels of the longer side above which the image is split into tiles, and their minimum overlap. */
const TILE_SIDE = 960;
const TILE_OVERLAP = 192;
/** Maximum factor by which an image is enlarged for small faces. */
const MAX_ENLARGEMENT = 2;
/** Width in pixels of the smallest face that the networks find reliably. */
const MIN_WIDTH = 12;
/** Two boxes show the same face above this intersection over union, or over the smaller box. */
const MAX_IOU = 0.4;
const MAX_CONTAINMENT = 0.75;
/** Default width of the smallest face: in pixels, or as a share of the longer side. */
const SMALLEST = 30;
const SHARE = 1 / 40;
/** Score from which a face counts as upright, and what another orientation needs. */
const UPRIGHT_SCORE = 0.9;
const MARGIN = 0.05;
const SCORE_MARGIN = 0.02;
const MIN_EVIDENCE = 0.65;

/** Finds faces in images of any size, based on a cascade for images of up to `TILE_SIDE` pixels. */
export class Detector {
  /**
   * @param {import("./mtcnn.js").Cascade} cascade
   * @param {CropTransform} transform
   */
  constructor(cascade, transform) {
    Object.assign(this, { cascade, transform });
  }

  /**
   * Return left, top and side of the square that shows a face as in the training data.
   * @param {Detection} face
   * @returns {[number, number, number]}
   */
  square(face) {
    const { right, down, scale } = this.transform;
    const side = scale * Math.sqrt(face.width * face.height);
    const x = face.left + face.width * (0.5 + right);
    const y = face.top + face.height * (0.5 + down);
    return [x - side / 2, y - side / 2, side];
  }

  /**
   * Return the faces of an image in the order of a prediction.
   * @param {Pixels} image RGB; it can be smaller than the original.
   * @param {object} options
   * @param {number} options.width Width of the original in pixels.
   * @param {number} options.height Height of the original in pixels.
   * @param {number | null} options.smallest Width of the smallest face in pixels of the original; null for 30, or
   *     1/40 of the longer side if that is more.
   * @param {number} options.minConfidence Ignore faces with a lower confidence.
   * @param {boolean} options.autoRotate If no upright face is found, try other orientations.
   * @returns {Promise<{pixels: Pixels, faces: {box: Box, face: Detection}[], turns: number}>} The faces, and the
   *     image after the clockwise quarter turns that make them upright.
   */
  async detect(image, { width, height, smallest, minConfidence, autoRotate }) {
    const scale = [width / image.width, height / image.height];
    const wanted = smallest || Math.max(SMALLEST, Math.ceil(SHARE * Math.max(width, height)));
    const narrowest = Math.max(1, Math.floor(wanted / Math.max(...scale)));
    let pixels = image;
    let found = await this.find(pixels, narrowest);
    const turns = autoRotate ? await this.quarterTurns(pixels, found, narrowest) : 0;
    if (turns) {
      pixels = turn(pixels, turns);
      found = await this.find(pixels, narrowest);
    }
    const faces = found
      .filter((face) => face.score >= minConfidence)
      .map((face) => ({ face, box: inside(turned(face, -turns, [pixels.width, pixels.height]), [width, height], scale) }))
      .filter(({ box }) => box !== null)
      .sort((one, other) => other.box.width * other.box.height - one.box.width * one.box.height);
    return { pixels, faces, turns };
  }

  /**
   * Return the faces of an upright image, the largest first.
   * @param {Pixels} image
   * @param {number} smallest Width in pixels of the smallest face to find.
   * @returns {Promise<Detection[]>}
   */
  async find(image, smallest) {
    const longer = Math.max(image.width, image.height);
    const whole = Math.min(1, REDUCED_SIDE / longer);
    const fine = Math.min(MAX_ENLARGEMENT, MIN_WIDTH / smallest);
    if (longer * fine <= TILE_SIDE) return merge(await this.findAt(image, Math.max(whole, fine), smallest));
    const faces = await this.findAt(image, whole, smallest);
    if (Math.min(image.width, image.height) < smallest / 2) return merge(faces);
    for (const [left, right] of spans(image.width, TILE_SIDE / fine, TILE_OVERLAP / fine)) {
      for (const [top, bottom] of spans(image.height, TILE_SIDE / fine, TILE_OVERLAP / fine)) {
        const found = await this.findAt(crop(image, [left, top, right, bottom]), fine, smallest);
        faces.push(...complete(found, [left, top, right, bottom], image));
      }
    }
    return merge(faces);
  }

  /** Return the faces of an image that is resized by `scale`, in pixels of the image. */
  async findAt(image, scale, smallest) {
    const [width, height] = [image.width, image.height].map((side) => Math.max(1, round(side * scale)));
    const same = width === image.width && height === image.height;
    const [across, down] = [image.width / width, image.height / height];
    const faces = await this.cascade.find(same ? image : resize(image, width, height), smallest * scale);
    return faces.map((face) => ({
      left: face.left * across,
      top: face.top * down,
      width: face.width * across,
      height: face.height * down,
      score: face.score,
    }));
  }

  /**
   * Return the number of clockwise quarter turns that make the faces of an image upright.
   * @param {Pixels} image
   * @param {Detection[]} faces The faces in the image as it is.
   * @param {number} smallest Width of the smallest face in pixels.
   * @returns {Promise<number>} 0 to 3.
   */
  async quarterTurns(image, faces, smallest) {
    const best = surest(faces);
    if (best && best.score >= UPRIGHT_SCORE) return 0;
    const confidence = [0, 0, 0, 0];
    const evidence = [0, 0, 0, 0];
    if (best) {
      const likely = [];
      for (const turns of [0, 1, 2, 3]) likely.push(await this.likelihood(image, best, turns));
      if (likely[0] === Math.max(...likely)) return 0;
      confidence[0] = best.score;
      evidence[0] = (best.score + likely[0]) / 2;
    }
    const width = Math.max(smallest, Math.ceil(SHARE * Math.max(image.width, image.height)));
    for (const turns of [1, 2, 3]) {
      const rotated = turn(image, turns);
      const other = surest(await this.find(rotated, width));
      if (!other) continue;
      confidence[turns] = other.score;
      evidence[turns] = (other.score + (await this.likelihood(rotated, other, 0))) / 2;
    }
    const most = evidence.indexOf(Math.max(...evidence));
    const better =
      evidence[most] >= Math.max(MIN_EVIDENCE, evidence[0] + MARGIN) &&
      confidence[most] >= confidence[0] + SCORE_MARGIN;
    return better ? most : 0;
  }

  /** Return the likelihood in [0, 1] that a box shows an upright face after clockwise quarter turns. */
  likelihood(image, face, turns) {
    const side = Math.max(face.width, face.height);
    const [left, top] = [Math.trunc(face.left - side), Math.trunc(face.top - side)];
    const [right, bottom] = [
      Math.trunc(face.left + face.width + side),
      Math.trunc(face.top + face.height + side),
    ];
    const patch = crop(image, [left, top, right, bottom]);
    const inPatch = { ...face, left: face.left - left, top: face.top - top };
    return this.cascade.likelihood(turn(patch, turns), turned(inPatch, turns, [right - left, bottom - top]));
  }
}

/** Return the first face with the highest score; undefined if there is none. */
function surest(faces) {
  return faces.reduce((best, face) => (best && best.score >= face.score ? best : face), undefined);
}

/**
 * Return the box of a face after a turn of the image.
 * @param {Detection} face
 * @param {number} turns Quarter turns clockwise; a negative number turns counterclockwise.
 * @param {[number, number]} size Width and height of the image before the turn.
 * @returns {Detection}
 */
export function turned(face, turns, size) {
  let { left, top, width, height } = face;
  let [across, down] = size;
  for (let count = ((turns % 4) + 4) % 4; count > 0; count--) {
    [left, top, width, height] = [down - top - height, left, height, width];
    [across, down] = [down, across];
  }
  return { left, top, width, height, score: face.score };
}

/** Return the part of a detection inside the image, in whole pixels of the original; null if there is none. */
function inside(face, [width, height], [across, down]) {
  const [left, top] = [Math.max(0, round(face.left * across)), Math.max(0, round(face.top * down))];
  const right = Math.min(width, round((face.left + face.width) * across));
  const bottom = Math.min(height, round((face.top + face.height) * down));
  return right <= left || bottom <= top ? null : { left, top, width: right - left, height: bottom - top };
}

/** Return the detection with the highest score of each face, the largest face first. */
function merge(faces) {
  const kept = [];
  const compare = (one, other) =>
    other.score - one.score ||
    one.left - other.left ||
    one.top - other.top ||
    one.width - other.width ||
    one.height - other.height;
  for (const face of [...faces].sort(compare)) {
    if (!kept.some((other) => isSame(face, other))) kept.push(face);
  }
  return kept.sort(
    (one, other) =>
      other.width * other.height - one.width * one.height || one.left - other.left || one.top - other.top,
  );
}

function isSame(one, other) {
  const width = Math.min(one.left + one.width, other.left + other.width) - Math.max(one.left, other.left);
  const height = Math.min(one.top + one.height, other.top + other.height) - Math.max(one.top, other.top);
  if (width <= 0 || height <= 0) return false;
  const shared = width * height;
  const areas = [one.width * one.height, other.width * other.height];
  return shared > MAX_IOU * (areas[0] + areas[1] - shared) || shared > MAX_CONTAINMENT * Math.min(...areas);
}

/** Return the faces of a tile in pixels of the image, without those that an inner edge of the tile cuts. */
function complete(faces, [left, top, right, bottom], image) {
  return faces
    .filter(
      (face) =>
        (left === 0 || face.left > 0.1 * face.width) &&
        (top === 0 || face.top > 0.1 * face.height) &&
        (right === image.width || face.left + 1.1 * face.width < right - left) &&
        (bottom === image.height || face.top + 1.1 * face.height < bottom - top),
    )
    .map((face) => ({ ...face, left: face.left + left, top: face.top + top }));
}

/** Return spans of equal size that cover `length` pixels and overlap by at least `shared`. */
function spans(length, span, shared) {
  if (length <= span) return [[0, length]];
  const count = Math.ceil((length - shared) / (span - shared));
  return Array.from({ length: count }, (_, number) => {
    const start = round((number * (length - span)) / (count - 1));
    return [start, Math.min(length, start + Math.ceil(span))];
  });
}
