/** Answer the frames of the webcam, the newest one only. */

import { STRINGS } from "./strings.js";

/** Number of answers over which the rate is measured. */
const RATED = 20;

export class Camera {
  #stream;
  #running = false;
  /** Whether the video shows a frame that was not answered yet, and what waits for one. */
  #fresh = true;
  #onFrame = null;

  /** @param {HTMLVideoElement} video */
  constructor(video) {
    this.video = video;
  }

  /**
   * Open the webcam and show its picture.
   * @throws {Error} With a reason for the visitor.
   */
  async open() {
    if (!navigator.mediaDevices?.getUserMedia) throw new Error(STRINGS.problemCameraMissing);
    const wanted = { width: { ideal: 640 }, height: { ideal: 480 }, facingMode: "user" };
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
    } catch (error) {
      throw new Error(STRINGS.problemCamera(error.message), { cause: error });
    }
    this.video.srcObject = this.#stream;
    await this.video.play();
  }

  /**
   * Answer frames until `close` is called.
   * @param {(video: HTMLVideoElement) => Promise<object>} answer
   * @param {(prediction: object, seconds: number, rate: number) => void} onAnswer `rate` is in answers a second.
   */
  async run(answer, onAnswer) {
    this.#running = true;
    this.#watch();
    const begin = performance.now();
    const times = [];
    while (this.#running) {
      await this.#newFrame();
      const taken = performance.now();
      const prediction = await answer(this.video);
      if (!this.#running) return;
      times.push(performance.now());
      if (times.length > RATED) times.shift();
      const rate = times.length > 1 ? (1000 * (times.length - 1)) / (times.at(-1) - times[0]) : 0;
      if (prediction) onAnswer(prediction, (taken - begin) / 1000, rate);
    }
  }

  /** Stop the webcam. */
  close() {
    this.#running = false;
    this.#stream?.getTracks().forEach((track) => track.stop());
    if (this.video.srcObject === this.#stream) this.video.srcObject = null;
  }

  /** Note each frame that the video shows. */
  #watch() {
    const next = () => {
      if (!this.#running) return;
      this.#fresh = true;
      this.#onFrame?.();
      this.#watch();
    };
    if (this.video.requestVideoFrameCallback) this.video.requestVideoFrameCallback(next);
    else requestAnimationFrame(next);
  }

  /** Wait until the video shows a new frame, or half a second. */
  async #newFrame() {
    if (!this.#fresh) {
      await new Promise((resolve) => {
        this.#onFrame = resolve;
        setTimeout(resolve, 500);
      });
    }
    this.#fresh = false;
  }
}
