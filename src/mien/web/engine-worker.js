/** The worker of `BrowserEngine`: it decodes images and runs the networks, so that the page stays responsive. */

import { decode, read } from "./decode.js";
import { loadPredictor } from "./networks.js";

let predictor;

/** What the page can ask for; each task takes the message and returns its answer. */
const tasks = {
  async load({ base }) {
    const file = async (name) => {
      const response = await fetch(new URL(name, base));
      if (!response.ok) throw new Error(`${name}: ${response.status} ${response.statusText}`);
      return response;
    };
    const runtime = new URL("ort/", base).href;
    const [site, ort] = await Promise.all([
      file("site.json").then((response) => response.json()),
      import(`${runtime}ort.wasm.min.mjs`),
    ]);
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmPaths = runtime;
    const bytes = async (name) => new Uint8Array(await (await file(name)).arrayBuffer());
    predictor = await loadPredictor(ort, site, bytes);
    return site;
  },

  async predict({ image, options }) {
    const { pixels, width, height } = image instanceof ImageBitmap ? read(image) : await decode(image);
    return predictor.predict(pixels, { ...options, width, height });
  },
};

self.onmessage = async ({ data: { id, task, ...message } }) => {
  try {
    self.postMessage({ id, answer: await tasks[task](message) });
  } catch (error) {
    self.postMessage({ id, error: error.message });
  }
};
