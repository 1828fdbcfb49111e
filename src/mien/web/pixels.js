/**
 * Pixels of images, and the operations of Pillow and mien.vision.images that a prediction needs, with equal results.
 *
 * @typedef {object} Pixels
 * @property {number} width Columns.
 * @property {number} height Rows.
 * @property {1 | 3} channels 1 for grey, 3 for RGB.
 * @property {Uint8Array} data Values in 0..255, row by row, the channels of a pixel together.
 *
 * @typedef {[left: number, top: number, right: number, bottom: number]} Bounds Pixels from the left and top edge.
 */

/** A side above this is reduced to it before padding (mien.vision.images). */
const LARGEST_PADDED_SIDE = 4096;
/** Bits after the point in the weights of the resampling. */
const PRECISION = 22;

/**
 * Round half to even, as Python does.
 * @param {number} value
 * @returns {number}
 */
export function round(value) {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}

/**
 * Return the weights of a triangle filter in fixed point for each output pixel along one axis.
 * @param {number} length Pixels of the input.
 * @param {number} start First position in the input, a float32.
 * @param {number} end Last position in the input, a float32.
 * @param {number} size Pixels of the output.
 * @returns {{first: Int32Array, count: Int32Array, weights: Int32Array, most: number}} The first input pixel of each
 *     output pixel, the number of input pixels, and `most` weights for each output pixel.
 */
function filter(length, start, end, size) {
  const scale = Math.fround(end - start) / size;
  const support = Math.max(1, scale);
  const most = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(size);
  const count = new Int32Array(size);
  const weights = new Int32Array(size * most);
  const row = new Float64Array(most);
  for (let out = 0; out < size; out++) {
    const centre = start + (out + 0.5) * scale;
    const low = Math.max(0, Math.trunc(centre - support + 0.5));
    const high = Math.min(length, Math.trunc(centre + support + 0.5));
    let sum = 0;
    for (let place = 0; place < high - low; place++) {
      const distance = Math.abs((place + low - centre + 0.5) * (1 / support));
      row[place] = distance < 1 ? 1 - distance : 0;
      sum += row[place];
    }
    for (let place = 0; place < high - low; place++) {
      const weight = sum === 0 ? row[place] : row[place] / sum;
      weights[out * most + place] = Math.trunc(0.5 + weight * (1 << PRECISION));
    }
    first[out] = low;
    count[out] = high - low;
  }
  return { first, count, weights, most };
}

/**
 * Return a rectangle of an image, with a border of one colour beyond its edges.
 * @param {Pixels} image
 * @param {Bounds} bounds Whole pixels; they can be outside the image.
 * @param {number} [fill] Value of the pixels outside.
 * @returns {Pixels}
 */
export function crop(image, [left, top, right, bottom], fill = 0) {
  const { channels } = image;
  const [width, height] = [right - left, bottom - top];
  const data = new Uint8Array(width * height * channels);
  if (fill && (left < 0 || top < 0 || right > image.width || bottom > image.height)) data.fill(fill);
  const [begin, end] = [Math.max(0, left), Math.min(image.width, right)];
  for (let y = Math.max(0, top); end > begin && y < Math.min(image.height, bottom); y++) {
    const row = image.data.subarray((y * image.width + begin) * channels, (y * image.width + end) * channels);
    data.set(row, ((y - top) * width + begin - left) * channels);
  }
  return { width, height, channels, data };
}

/**
 * Resize an image, or a box of it, as `PIL.Image.resize` with `BILINEAR` does: bit by bit the same pixels.
 * @param {Pixels} image
 * @param {number} width Columns of the result.
 * @param {number} height Rows of the result.
 * @param {object} [options]
 * @param {Bounds} [options.box] The part to resize; edges can be between pixels.
 * @param {number} [options.border] Pixels that are added on each side first; `box` refers to the larger image.
 * @param {number} [options.fill] Value of the border.
 * @returns {Pixels}
 */
export function resize(image, width, height, { box, border = 0, fill = 0 } = {}) {
  const [across, down] = [image.width + 2 * border, image.height + 2 * border];
  const [left, top, right, bottom] = (box ?? [0, 0, across, down]).map(Math.fround);
  const horizontal = filter(across, left, right, width);
  const vertical = filter(down, top, bottom, height);
  const [x0, y0] = [horizontal.first[0], vertical.first[0]];
  const [x1, y1] = [
    horizontal.first[width - 1] + horizontal.count[width - 1],
    vertical.first[height - 1] + vertical.count[height - 1],
  ];
  // Both passes need only this part of the image.
  const part = border ? crop(image, [x0 - border, y0 - border, x1 - border, y1 - border], fill) : image;
  const [left0, top0] = border ? [x0, y0] : [0, 0];
  const needsRows = width !== across || left !== 0 || right !== width;
  const needsColumns = height !== down || top !== 0 || bottom !== height;
  if (!needsRows && !needsColumns) return { ...part, data: part.data.slice() };
  if (!needsColumns) return resizeRows(part, width, horizontal, left0, 0, part.height);
  if (!needsRows) return resizeColumns(part, height, vertical, top0);
  // Each pass rounds, so their order counts: it is the one of Pillow 13, found by trials.
  if (height < down && down - height > 2 * (across - width)) {
    return resizeRows(resizeColumns(part, height, vertical, top0), width, horizontal, left0, 0, height);
  }
  return resizeColumns(resizeRows(part, width, horizontal, left0, y0 - top0, y1 - y0), height, vertical, y0);
}

/** The horizontal pass of `resize`, for `rows` rows from `begin`. */
function resizeRows(image, width, { first, count, weights, most }, offset, begin, rows) {
  const { channels, data } = image;
  const out = new Uint8Array(width * rows * channels);
  const half = 1 << (PRECISION - 1);
  for (let y = 0, to = 0; y < rows; y++) {
    const row = (y + begin) * image.width - offset;
    for (let x = 0; x < width; x++, to += channels) {
      const number = count[x];
      let weight = x * most;
      let from = (row + first[x]) * channels;
      if (channels === 1) {
        let sum = half;
        for (let i = 0; i < number; i++) sum += data[from++] * weights[weight++];
        out[to] = sum >> PRECISION;
      } else {
        let red = half;
        let green = half;
        let blue = half;
        for (let i = 0; i < number; i++, from += 3) {
          const factor = weights[weight++];
          red += data[from] * factor;
          green += data[from + 1] * factor;
          blue += data[from + 2] * factor;
        }
        out[to] = red >> PRECISION;
        out[to + 1] = green >> PRECISION;
        out[to + 2] = blue >> PRECISION;
      }
    }
  }
  return { width, height: rows, channels, data: out };
}

/** The vertical pass of `resize`; the first row of `image` is row `offset` of the filter. */
function resizeColumns(image, height, { first, count, weights, most }, offset) {
  const { width, channels, data } = image;
  const stride = width * channels;
  const out = new Uint8Array(stride * height);
  const sums = new Int32Array(stride);
  for (let y = 0; y < height; y++) {
    sums.fill(1 << (PRECISION - 1));
    for (let i = 0; i < count[y]; i++) {
      const factor = weights[y * most + i];
      const from = (first[y] - offset + i) * stride;
      for (let place = 0; place < stride; place++) sums[place] += data[from + place] * factor;
    }
    for (let place = 0, to = y * stride; place < stride; place++, to++) out[to] = sums[place] >> PRECISION;
  }
  return { width, height, channels, data: out };
}

/**
 * Return an image in grey with the weights of Pillow.
 * @param {Pixels} image
 * @returns {Pixels}
 */
export function grey(image) {
  if (image.channels === 1) return image;
  const { width, height, data } = image;
  const out = new Uint8Array(width * height);
  for (let to = 0, from = 0; to < out.length; to++, from += 3) {
    out[to] = (19595 * data[from] + 38470 * data[from + 1] + 7471 * data[from + 2] + 32768) >> 16;
  }
  return { width, height, channels: 1, data: out };
}

/**
 * Add rows and columns that repeat the pixels of the edge.
 * @param {Pixels} image Grey.
 * @param {[before: number, after: number]} rows
 * @param {[before: number, after: number]} columns
 * @returns {Pixels}
 */
function repeatEdges(image, rows, columns) {
  const width = image.width + columns[0] + columns[1];
  const height = image.height + rows[0] + rows[1];
  const data = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    const from = Math.max(0, Math.min(image.height - 1, y - rows[0])) * image.width;
    for (let x = 0; x < width; x++) {
      data[y * width + x] = image.data[from + Math.max(0, Math.min(image.width - 1, x - columns[0]))];
    }
  }
  return { width, height, channels: 1, data };
}

/**
 * Return a whole image as the input of a model (`mien.vision.images.fit`).
 * @param {Pixels} image
 * @param {number} size Side of the result in pixels.
 * @returns {Pixels} Grey, `size` × `size`.
 */
export function fit(image, size) {
  let face = grey(image);
  let longer = Math.max(face.width, face.height);
  if (longer > LARGEST_PADDED_SIDE) {
    const side = (length) => Math.max(1, round((length * LARGEST_PADDED_SIDE) / longer));
    face = resize(face, side(face.width), side(face.height));
    longer = LARGEST_PADDED_SIDE;
  }
  const spare = (length) => [Math.floor((longer - length) / 2), Math.ceil((longer - length) / 2)];
  if (face.width !== face.height) face = repeatEdges(face, spare(face.height), spare(face.width));
  return longer === size ? face : resize(face, size, size);
}

/**
 * Return a square of an image as the input of a model (`mien.vision.images.cut`).
 * @param {Pixels} image
 * @param {[left: number, top: number, side: number]} square In pixels; it can extend beyond the image.
 * @param {number} size Side of the result in pixels.
 * @returns {Pixels} Grey, `size` × `size`.
 */
export function cut(image, square, size) {
  let [left, top, side] = square;
  let reach = Math.ceil(Math.max(1, side / size)) + 1;
  const span = (start, length) => [
    Math.max(0, Math.min(length - 1, Math.floor(start) - reach)),
    Math.max(1, Math.min(length, Math.ceil(start + side) + reach)),
  ];
  const [x0, x1] = span(left, image.width);
  const [y0, y1] = span(top, image.height);
  let part = grey(crop(image, [x0, y0, x1, y1]));
  [left, top] = [left - x0, top - y0];
  if (side > LARGEST_PADDED_SIDE) {
    const scale = LARGEST_PADDED_SIDE / side;
    part = resize(part, Math.max(1, round(part.width * scale)), Math.max(1, round(part.height * scale)));
    [left, top, side] = [left * scale, top * scale, LARGEST_PADDED_SIDE];
    reach = Math.ceil(Math.max(1, side / size)) + 1;
  }
  const padding = (start, length) => {
    const near = Math.max(-side - reach, Math.min(length + reach, start));
    const before = near < 0 ? Math.ceil(-near) + reach : 0;
    const after = near + side > length ? Math.ceil(near + side - length) + reach : 0;
    return [near + before, [before, after]];
  };
  const [inLeft, columns] = padding(left, part.width);
  const [inTop, rows] = padding(top, part.height);
  part = repeatEdges(part, rows, columns);
  const box = [inLeft, inTop, Math.min(inLeft + side, part.width), Math.min(inTop + side, part.height)];
  return resize(part, size, size, { box });
}

/**
 * Turn an image clockwise by quarter turns.
 * @param {Pixels} image
 * @param {number} turns 0 to 3.
 * @returns {Pixels}
 */
export function turn(image, turns) {
  if (turns === 0) return image;
  const { width, height, channels, data } = image;
  const out = new Uint8Array(data.length);
  const [across, down] = turns % 2 ? [height, width] : [width, height];
  for (let y = 0, to = 0; y < down; y++) {
    for (let x = 0; x < across; x++) {
      const from =
        turns === 1
          ? (height - 1 - x) * width + y
          : turns === 2
            ? (height - 1 - y) * width + (width - 1 - x)
            : x * width + (width - 1 - y);
      for (let channel = 0; channel < channels; channel++) out[to++] = data[from * channels + channel];
    }
  }
  return { width: across, height: down, channels, data: out };
}

/**
 * Blur an image as Pillow's `GaussianBlur` does: three box blurs in each direction.
 *
 * Source: Gwosdek et al. 2011, doi:10.1007/978-3-642-24785-9_38.
 * @param {Pixels} image
 * @param {number} deviation Standard deviation in pixels.
 * @returns {Pixels}
 */
export function blur(image, deviation) {
  const radius = boxRadius(deviation);
  if (radius === 0) return image;
  const across = turn(boxBlur(image, radius), 1);
  return turn(boxBlur(across, radius), 3);
}

/** Return the radius of three box blurs that together have a standard deviation, in float32 as Pillow computes it. */
function boxRadius(deviation) {
  const f = Math.fround;
  const variance = f(f(f(deviation) * f(deviation)) / 3);
  const length = f(Math.sqrt(12 * variance + 1));
  const whole = f(Math.floor((length - 1) / 2));
  let part = f(f(2 * whole + 1) * f(f(whole * f(whole + 1)) - f(3 * variance)));
  part = f(part / f(6 * f(variance - f(f(whole + 1) * f(whole + 1)))));
  return f(whole + part);
}

/** Blur the rows of an image three times. */
function boxBlur(image, radius) {
  const { width, height, channels } = image;
  const reach = Math.trunc(radius);
  const inner = Math.trunc(Math.fround((1 << 24) / Math.fround(Math.fround(radius * 2) + 1)));
  const outer = Math.trunc(((1 << 24) - (reach * 2 + 1) * inner) / 2);
  const data = Uint8Array.from(image.data);
  const line = new Uint8Array(width);
  const at = (x) => line[Math.max(0, Math.min(width - 1, x))];
  for (let y = 0; y < height; y++) {
    for (let channel = 0; channel < channels; channel++) {
      const start = y * width * channels + channel;
      for (let pass = 0; pass < 3; pass++) {
        for (let x = 0; x < width; x++) line[x] = data[start + x * channels];
        let sum = 0;
        for (let x = -reach; x <= reach; x++) sum += at(x);
        for (let x = 0; x < width; x++) {
          const value = sum * inner + (at(x - reach - 1) + at(x + reach + 1)) * outer + (1 << 23);
          data[start + x * channels] = value / 2 ** 24;
          sum += at(x + reach + 1) - at(x - reach);
        }
      }
    }
  }
  return { width, height, channels, data };
}
