/**
 * Read the pixels of image files and video frames, as mien.vision.images does.
 *
 * @typedef {import("./pixels.js").Pixels} Pixels
 * @typedef {{pixels: Pixels, width: number, height: number}} Picture The pixels, and the size of the original.
 */

import { STRINGS } from "./strings.js";

/** Maximum number of pixels at full size; larger images are reduced by an integer. */
const MAX_PIXELS = 40_000_000;
/** Target for the longer side of a reduced image, and the largest factor. */
const LONGER = 4000;
const MOST = 16;

/**
 * Decode an image file, upright, without a conversion of colours; transparent pixels are on white.
 * @param {Blob} file
 * @returns {Promise<Picture>}
 */
export async function decode(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", imageOrientation: "from-image" });
  } catch (error) {
    throw new Error(STRINGS.problemDecode, { cause: error });
  }
  return read(bitmap);
}

/**
 * Read the pixels of a bitmap, and close it.
 * @param {ImageBitmap} bitmap
 * @returns {Picture}
 */
export function read(bitmap) {
  const { width, height } = bitmap;
  const large = width * height > MAX_PIXELS;
  const by = large ? Math.min(MOST, Math.max(2, Math.floor(Math.max(width, height) / LONGER))) : 1;
  const [across, down] = [Math.ceil(width / by), Math.ceil(height / by)];
  const canvas = new OffscreenCanvas(across, down);
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, across, down);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, across, down);
  bitmap.close();
  return { pixels: toRgb(context.getImageData(0, 0, across, down)), width, height };
}

/**
 * Drop the fourth channel.
 * @param {{width: number, height: number, data: Uint8ClampedArray}} image
 * @returns {Pixels}
 */
function toRgb({ width, height, data }) {
  const rgb = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; from < data.length; from += 4, to += 3) {
    rgb[to] = data[from];
    rgb[to + 1] = data[from + 1];
    rgb[to + 2] = data[from + 2];
  }
  return { width, height, channels: 3, data: rgb };
}
