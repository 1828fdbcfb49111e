/**
 * Answers images on the server of `mien serve`.
 *
 * @typedef {{head?: string, balance?: number, wholeImage?: boolean, source?: string}} Options
 */

import { STRINGS } from "./strings.js";

/** Quality of the JPEG of a webcam frame, and milliseconds that its answer may take. */
const QUALITY = 0.9;
const PATIENCE = 10_000;
/** Times that a photo is sent again if the server is busy. */
const TRIES = 5;

/** The server refuses requests without an access token. */
export class TokenNeeded extends Error {}

export class ServerEngine {
  name = "server";
  #socket = null;
  #query = "";
  /** Ends the wait for an answer. */
  #abandon = () => {};
  #token = "";
  /** Frames that were sent on the socket. */
  #sent = 0;

  /**
   * Connect to the server.
   * @param {string} token Access token; empty if none is needed.
   * @returns {Promise<ServerEngine>}
   * @throws {TokenNeeded} If the server refuses the token.
   */
  static async start(token = "") {
    const engine = new ServerEngine();
    engine.#token = token;
    engine.card = await (await engine.#fetch("v1/model")).json();
    return engine;
  }

  /**
   * Return the faces of an image in the format of `mien predict --json`.
   * @param {Blob} image
   * @param {Options} options
   * @returns {Promise<object>}
   */
  async predict(image, options) {
    const form = new FormData();
    form.append("image", image, options.source);
    const response = await this.#fetch(`v1/predict?${toQuery(options)}`, { method: "POST", body: form });
    const [prediction] = await response.json();
    if (prediction.problem) throw new Error(prediction.problem);
    return { ...prediction, source: options.source };
  }

  /**
   * Return the faces of a frame of the webcam; null if the server was too slow, or `rest` was called.
   * @param {HTMLVideoElement} video
   * @param {Options} options
   * @returns {Promise<object | null>}
   */
  async frame(video, options) {
    const socket = await this.#open(toQuery(options));
    const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    canvas.getContext("2d").drawImage(video, 0, 0);
    const frame = await canvas.convertToBlob({ type: "image/jpeg", quality: QUALITY });
    if (socket !== this.#socket) return null;
    const number = this.#sent++;
    return new Promise((resolve, reject) => {
      this.#abandon = () => resolve(null);
      const late = setTimeout(() => resolve(null), PATIENCE);
      socket.onmessage = ({ data }) => {
        const answer = JSON.parse(data);
        if (answer.frame < number) return; // it was too late
        clearTimeout(late);
        if (answer.error) reject(new Error(answer.error));
        else resolve(answer);
      };
      socket.onclose = () => {
        clearTimeout(late);
        this.#socket = null;
        reject(new Error(STRINGS.problemStream));
      };
      socket.send(frame);
    });
  }

  /** Close the connection for frames. */
  rest() {
    if (!this.#socket) return;
    this.#socket.onclose = null;
    this.#socket.close();
    this.#socket = null;
    this.#abandon();
  }

  /** Close all connections. */
  close() {
    this.rest();
  }

  /** Return an open WebSocket for these options. */
  async #open(query) {
    if (this.#socket && this.#query !== query) this.rest();
    if (this.#socket) return this.#socket;
    const address = new URL(`v1/stream?${query}`, document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    const socket = new WebSocket(address, this.#token ? ["mien", `bearer.${this.#token}`] : []);
    await new Promise((resolve, reject) => {
      socket.onopen = resolve;
      socket.onclose = () => reject(new Error(STRINGS.problemStream));
    });
    [this.#socket, this.#query, this.#sent] = [socket, query, 0];
    return socket;
  }

  /** Send a request, again if the server is busy, and return its response. */
  async #fetch(path, options = {}) {
    const headers = this.#token ? { Authorization: `Bearer ${this.#token}` } : {};
    for (let left = TRIES; ; left--) {
      const response = await fetch(new URL(path, document.baseURI), { ...options, headers }).catch((error) => {
        throw new Error(STRINGS.problemUnreachable, { cause: error });
      });
      if (response.ok) return response;
      if (response.status === 401) throw new TokenNeeded(this.#token ? STRINGS.problemTokenWrong : STRINGS.problemToken);
      if (response.status === 503 && left > 1) {
        const seconds = Number(response.headers.get("Retry-After")) || 1;
        await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
        continue;
      }
      const said = await response.json().catch(() => ({}));
      throw new Error(said.error ?? said.problem ?? `${response.status} ${response.statusText}`);
    }
  }
}

/** Return options as the query of a request. */
function toQuery({ head, balance, wholeImage }) {
  const query = new URLSearchParams();
  if (head !== undefined) query.set("head", head);
  if (balance !== undefined) query.set("balance", String(balance));
  if (wholeImage) query.set("whole_image", "true");
  return query.toString();
}
