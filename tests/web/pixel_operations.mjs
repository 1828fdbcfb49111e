/**
 * Run operations of pixels.js for tests/test_web_pixels.py.
 *
 * node pixel_operations.mjs PAGE_FOLDER TASKS: TASKS is a JSON list of {operation, image, arguments, to}; `image` has
 * width, height, channels and a file of raw bytes. The bytes of each result are written to `to`.
 */

import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, tasks] = process.argv.slice(2);
const pixels = await import(pathToFileURL(`${folder}/pixels.js`).href);
for (const { operation, image, arguments: given, to } of JSON.parse(readFileSync(tasks, "utf8"))) {
  const read = { ...image, data: new Uint8Array(readFileSync(image.file)) };
  writeFileSync(to, pixels[operation](read, ...given).data);
}
