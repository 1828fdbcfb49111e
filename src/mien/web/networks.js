/**
 * Load the networks of an exported site into onnxruntime-web, and make a predictor of them.
 *
 * onnxruntime-web computes in WebAssembly on one thread, so that the site needs no cross-origin isolation. It does not
 * use WebGPU, which answers int8 files wrongly (onnxruntime issue 32578).
 */

import { Detector } from "./detector.js";
import { Cascade } from "./mtcnn.js";
import { Predictor } from "./predictor.js";

/**
 * @param {object} ort The module of onnxruntime-web.
 * @param {object} site The content of `site.json`.
 * @param {(file: string) => Promise<Uint8Array>} read Returns a file of the site.
 * @returns {Promise<Predictor>}
 */
export async function loadPredictor(ort, site, read) {
  const open = async (file) => {
    const content = await read(file);
    return ort.InferenceSession.create(content, { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
  };
  const files = [...site.detector.files, site.model.file];
  const [first, second, third, model] = await Promise.all(files.map(open));
  const tensor = (pixels, shape) => new ort.Tensor("uint8", pixels, shape);
  const detect = (session) => async (images, shape) => {
    const { boxes, faces } = await session.run({ images: tensor(images, shape) }, ["boxes", "faces"]);
    return { boxes: boxes.data, faces: faces.data, shape: faces.dims };
  };
  const classify = async (crops, shape, output) => {
    const answer = await model.run({ images: tensor(crops, shape) }, [output]);
    return answer[output].data;
  };
  const cascade = new Cascade(detect(first), detect(second), detect(third));
  return new Predictor(new Detector(cascade, site.detector.crop), classify, site.card);
}
