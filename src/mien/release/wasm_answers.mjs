/**
 * Write what onnxruntime-web answers to images, so that an export can compare it with Python.
 *
 * node wasm_answers.mjs RUNTIME_FOLDER MODEL IMAGES SIZE OUTPUTS ANSWERS
 *
 * IMAGES holds uint8 pixels of `(n, SIZE, SIZE, 1)`; ANSWERS gets the float32 answers of each output of the
 * comma-separated OUTPUTS, `(n, labels)` one after the other. Each run takes 32 images, as in the browser.
 */

import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const BATCH = 32;

const [runtime, model, images, side, outputs, answers] = process.argv.slice(2);
const folder = pathToFileURL(`${runtime}/`).href;
const ort = await import(`${folder}ort.wasm.min.mjs`);
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = folder;
const session = await ort.InferenceSession.create(new Uint8Array(readFileSync(model)));
const pixels = new Uint8Array(readFileSync(images));
const [size, names] = [Number(side), outputs.split(",")];
const found = new Map(names.map((name) => [name, []]));
for (let start = 0; start < pixels.length; start += BATCH * size * size) {
  const batch = pixels.subarray(start, start + BATCH * size * size);
  const shape = [batch.length / (size * size), size, size, 1];
  const answer = await session.run({ images: new ort.Tensor("uint8", batch, shape) }, names);
  for (const name of names) found.get(name).push(Buffer.from(new Float32Array(answer[name].data).buffer));
}
writeFileSync(answers, Buffer.concat(names.flatMap((name) => found.get(name))));
