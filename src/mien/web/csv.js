/**
 * Predictions as csv, with the columns and number formats of `mien predict --csv`.
 *
 * @typedef {object} Prediction The JSON of an image that `mien predict --json` prints.
 */

/**
 * Return the names of the columns.
 * @param {string[]} labels The classes of the model.
 * @returns {string[]}
 */
export function columns(labels) {
  const fixed = ["source", "face", "left", "top", "width", "height", "detected", "emotion", "confidence"];
  return [...fixed, ...labels, "flags"];
}

/**
 * Return a row for each face; an image without a face has one row that holds only its name.
 * @param {Prediction} prediction
 * @returns {Record<string, string | number | null>[]}
 */
export function rows({ source, faces }) {
  if (!faces.length) return [{ source }];
  return faces.map(({ box, detected, emotion, confidence, scores, flags }, number) => ({
    source,
    face: number + 1,
    ...box,
    detected,
    emotion,
    confidence,
    ...scores,
    flags: flags.join(" "),
  }));
}

/**
 * Return predictions as the text of a csv file.
 * @param {Prediction[]} predictions
 * @param {string[]} labels
 * @returns {string}
 */
export function toCsv(predictions, labels) {
  const names = columns(labels);
  const lines = [names.map(cell), ...predictions.flatMap(rows).map((row) => names.map((name) => cell(row[name])))];
  return lines.map((line) => `${line.join(",")}\n`).join("");
}

/** Return a value as a cell, quoted if needed. */
function cell(value) {
  if (value === undefined || value === null) return "";
  const text = typeof value === "number" ? short(value) : harmless(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Return text with a quote before what a spreadsheet would run as a formula. */
function harmless(text) {
  if (text === "-") return text;
  return /^\s*[=+\-@]|^[\t\r]/.test(text) ? `'${text}` : text;
}

/**
 * Return a number with at most 6 significant digits, as `%.6g` writes it; whole numbers stay as they are.
 * @param {number} value
 * @returns {string}
 */
export function short(value) {
  if (Number.isInteger(value)) return String(value);
  const [digits, exponent] = value.toExponential(5).split("e");
  const power = Number(exponent);
  if (power >= -4 && power < 6) return String(Number(value.toPrecision(6)));
  const sign = power < 0 ? "-" : "+";
  return `${Number(digits)}e${sign}${String(Math.abs(power)).padStart(2, "0")}`;
}
