/**
 * Predict raw images with the modules and networks of an exported site, for tests/test_web_predictor.py.
 *
 * node predict_pixels.mjs SITE TASKS: TASKS is a JSON list of {image, options}; `image` has width, height and a file of
 * raw RGB bytes. The predictions are printed as a JSON list, each with the boxes of the detector before rounding.
 */

import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, tasks] = process.argv.slice(2);
const base = pathToFileURL(`${folder}/`).href;
const [ort, { loadPredictor }] = await Promise.all([
  import(`${base}ort/ort.wasm.min.mjs`),
  import(`${base}assets/networks.js`),
]);
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = `${base}ort/`;
const read = async (name) => new Uint8Array(readFileSync(`${folder}/${name}`));
const site = JSON.parse(readFileSync(`${folder}/site.json`, "utf8"));
const predictor = await loadPredictor(ort, site, read);
const answers = [];
for (const { image, options } of JSON.parse(readFileSync(tasks, "utf8"))) {
  const { width, height } = image;
  const pixels = { width, height, channels: 3, data: new Uint8Array(readFileSync(image.file)) };
  const begin = performance.now();
  const found = await predictor.detector.detect(pixels, {
    width,
    height,
    smallest: options.minFace ?? null,
    minConfidence: 0,
    autoRotate: true,
  });
  const between = performance.now();
  const prediction = await predictor.predict(pixels, { source: "image", width, height, ...options });
  const milliseconds = [between - begin, performance.now() - between];
  answers.push({ prediction, detections: found.faces.map(({ face }) => face), milliseconds });
}
console.log(JSON.stringify(answers));
