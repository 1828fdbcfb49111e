/**
 * Answers images in the visitor's browser: no image leaves it.
 *
 * @typedef {import("./predictor.js").Options} Options
 */

/** A worker that runs the networks of an exported site. */
export class BrowserEngine {
  name = "browser";
  #worker;
  #waiting = new Map();
  #count = 0;

  /**
   * Load the networks.
   * @param {string} [base] Address of the exported site, relative to the page.
   * @returns {Promise<BrowserEngine>}
   */
  static async start(base = "./") {
    const engine = new BrowserEngine();
    engine.#worker = startWorker();
    engine.#worker.onmessage = ({ data }) => engine.#settle(data);
    engine.#worker.onerror = (event) => engine.#fail(event.message || "the worker cannot be started");
    const site = await engine.#ask("load", { base: new URL(base, document.baseURI).href });
    engine.card = site.card;
    return engine;
  }

  /**
   * Return the faces of an image in the format of `mien predict --json`.
   * @param {Blob | ImageBitmap} image A file, or a frame, which is used up.
   * @param {Partial<Options>} options
   * @returns {Promise<object>}
   */
  predict(image, options) {
    return this.#ask("predict", { image, options }, image instanceof ImageBitmap ? [image] : []);
  }

  /**
   * Return the faces of a frame of the webcam.
   * @param {HTMLVideoElement} video
   * @param {Partial<Options>} options
   * @returns {Promise<object>}
   */
  async frame(video, options) {
    return this.predict(await createImageBitmap(video, { colorSpaceConversion: "none" }), options);
  }

  /** Stop the worker. */
  close() {
    this.#worker.terminate();
    this.#fail("the browser mode was stopped");
  }

  #ask(task, message, transfer = []) {
    const id = ++this.#count;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, task, ...message }, transfer);
    });
  }

  #settle({ id, answer, error }) {
    const { resolve, reject } = this.#waiting.get(id) ?? {};
    this.#waiting.delete(id);
    if (error === undefined) resolve?.(answer);
    else reject?.(new Error(error));
  }

  #fail(reason) {
    for (const { reject } of this.#waiting.values()) reject(new Error(reason));
    this.#waiting.clear();
  }
}

/**
 * Start the worker from a blob, because such a worker inherits the content security policy of the page: any web server
 * can host the site, and the worker can still connect to no other host.
 */
function startWorker() {
  const script = new URL("engine-worker.js", import.meta.url).href;
  const blob = new Blob([`import ${JSON.stringify(script)};`], { type: "text/javascript" });
  const address = URL.createObjectURL(blob);
  const worker = new Worker(address, { type: "module" });
  worker.addEventListener("message", () => URL.revokeObjectURL(address), { once: true });
  return worker;
}
