/** The page: it joins the inputs, the engine that answers, and what is shown. */

import { Camera } from "./camera.js";
import { rows, toCsv } from "./csv.js";
import { find, make } from "./elements.js";
import { BrowserEngine } from "./engine-browser.js";
import { ServerEngine, TokenNeeded } from "./engine-server.js";
import { Bars, boxes, colour, describe } from "./faces.js";
import { chosen, transferred } from "./inputs.js";
import { photoHead } from "./predictor.js";
import { COLUMNS, FLAGS, HEADS, STRINGS, nameOf } from "./strings.js";
import { Timeline } from "./timeline.js";

/** Photos and rows of the table that are shown; the csv file has all. */
const MOST_CARDS = 100;
const MOST_ROWS = 200;
/** Answers of the webcam that are kept for the csv file: an hour of 15 a second. */
const MOST_FRAMES = 54_000;
/** Milliseconds between two announcements for screen readers. */
const ANNOUNCED = 3000;
/** Photos that are sent to the server at once. */
const AT_ONCE = 2;

const { mode, browser: browserSite } = document.documentElement.dataset;

/**
 * A photo and its answer.
 *
 * @typedef {object} Item
 * @property {string} source Name of the photo.
 * @property {Blob} file
 * @property {object} [prediction]
 * @property {string} [problem] Why it cannot be read.
 * @property {HTMLElement} [card] Its element on the page.
 * @property {HTMLImageElement} [picture]
 * @property {number} version Version of the settings that the answer belongs to; 0 if there is none.
 */

/** @type {Item[]} */
let items = [];
/** Answers of the webcam. */
let frames = [];
let engine = null;
let token = "";
/** Increases when a setting changes, so that older answers are not shown. */
let version = 1;
let pasted = 0;
let camera = null;
let cardAddress = "";
let timeline = null;
let bars = null;
let active = 0;

/* ---------------------------------------------------------------- texts */

for (const element of document.querySelectorAll("[data-text]")) {
  element.textContent = STRINGS[element.dataset.text];
}
find("meaning-details").append(...STRINGS.meaningDetails.map((text) => make("li", {}, text)));
find("video").setAttribute("aria-label", STRINGS.cameraVideo);
find("browser-label").hidden = mode !== "server" || !browserSite;

/** Show a state and announce it. */
function say(text) {
  find("status").textContent = text;
}

/** Show a problem and announce it; an empty text removes it. */
function complain(text) {
  find("problem").textContent = text;
}

/* ---------------------------------------------------------------- engine */

/** Start the engine that the page or the switch asks for. */
async function start() {
  const inBrowser = mode === "browser" || find("browser").checked;
  engine?.close();
  engine = null;
  complain("");
  say(inBrowser ? STRINGS.loadingBrowser : STRINGS.loadingServer);
  find("privacy").textContent = inBrowser ? STRINGS.privacyBrowser : STRINGS.privacyServer;
  try {
    const base = mode === "browser" ? "./" : browserSite;
    const started = await (inBrowser ? BrowserEngine.start(base) : ServerEngine.start(token));
    engine = started;
  } catch (error) {
    say("");
    const refused = error instanceof TokenNeeded;
    find("token-form").hidden = !refused;
    if (refused) complain(error.message);
    else complain(inBrowser ? STRINGS.problemEngine(error.message) : STRINGS.problemServer(error.message));
    return;
  }
  find("token-form").hidden = true;
  say(STRINGS.ready);
  showSettings(engine.card);
  showModel(engine.card, inBrowser);
  repeat();
}

/** Offer the heads and the balance of a model. */
function showSettings(card) {
  const select = find("head");
  const before = select.value;
  select.replaceChildren(
    ...Object.keys(card.heads).map((name) => make("option", { value: name }, HEADS[name] ?? name)),
  );
  select.value = before in card.heads ? before : photoHead(card);
  select.disabled = select.options.length < 2;
  showHead();
}

/** Show what the chosen head answers, and set its balance. */
function showHead() {
  const head = engine.card.heads[find("head").value];
  find("head-about").textContent = head.about;
  const slider = find("balance");
  slider.disabled = head.frequencies.length === 0;
  slider.value = head.balance;
  showBalance();
}

function showBalance() {
  const { balance } = engine.card.heads[find("head").value];
  const slider = find("balance");
  find("balance-value").value = slider.value;
  find("balance-reset").hidden = slider.disabled || isOwn(balance);
  find("balance-reset").textContent = STRINGS.balanceReset(balance);
}

/** Return whether the slider is at a head's own balance, which it may show only rounded to its step. */
function isOwn(balance) {
  return Math.abs(find("balance").value - balance) < 0.026;
}

/** Return the options of a prediction that the settings choose. */
function options() {
  const name = find("head").value;
  const { balance } = engine.card.heads[name];
  return {
    head: name,
    balance: isOwn(balance) ? balance : Number(find("balance").value),
    wholeImage: find("whole").checked,
  };
}

function showModel(card, inBrowser) {
  const facts = [
    [STRINGS.modelName, card.name],
    [STRINGS.modelHeads, Object.values(card.heads).map((head) => head.about).join("; ")],
    [STRINGS.modelData, card.data?.name],
    ...Object.entries(card.metrics).map(([split, { n, values }]) => [
      ...(split.endsWith("ferplus") ? [STRINGS.modelAgreement, values.agreement] : [STRINGS.modelAccuracy, values.accuracy]),
      { split, n },
    ]),
    [STRINGS.modelPrecision, card.precision],
    [STRINGS.modelLicence, card.licence],
  ].filter(([, value]) => value);
  find("facts").replaceChildren(
    ...facts.flatMap(([name, value, measured]) => [
      make("dt", {}, name),
      make("dd", {}, measured ? STRINGS.modelMeasured(value, measured.split, measured.n) : value),
    ]),
  );
  const base = mode === "browser" ? "" : browserSite;
  // A link cannot send a token, so the card of a server is what it has sent already.
  if (cardAddress) URL.revokeObjectURL(cardAddress);
  const text = new Blob([JSON.stringify(card, null, 2)], { type: "application/json" });
  cardAddress = inBrowser ? "" : URL.createObjectURL(text);
  const cardLink = make("a", { href: cardAddress || `${base}card.json` }, STRINGS.modelCard);
  const links = [cardLink];
  if (inBrowser) links.push(" · ", make("a", { href: `${base}licences/index.html` }, STRINGS.licences));
  find("links").replaceChildren(...links);
  find("model").hidden = false;
}

/* ---------------------------------------------------------------- photos */

/** Add photos and analyse them. */
function add(sources) {
  if (!sources.length) {
    complain(STRINGS.problemNoImages);
    return;
  }
  complain("");
  items.push(...sources.map(({ name, file }) => ({ source: name, file, version: 0 })));
  items.slice(0, MOST_CARDS).forEach(showWaiting);
  find("empty").hidden = true;
  work();
}

/** Analyse photos that have no answer for the present settings. */
function work() {
  const most = engine?.name === "server" ? AT_ONCE : 1;
  while (engine && active < most) {
    const item = items.find((each) => each.version < version && !each.busy);
    if (!item) break;
    active += 1;
    item.busy = true;
    analyse(item).finally(() => {
      active -= 1;
      item.busy = false;
      work();
    });
  }
  showProgress();
}

async function analyse(item) {
  const [asked, from] = [version, engine];
  let [prediction, problem] = [null, ""];
  try {
    prediction = await from.predict(item.file, { ...options(), source: item.source });
  } catch (error) {
    problem = error.message;
  }
  if (asked !== version || from !== engine) return;
  Object.assign(item, { prediction, problem, version: asked });
  if (item.card) showItem(item);
}

/** Say how many photos are done, and show the table once all are. */
function showProgress() {
  if (!items.length) return;
  const done = items.filter((item) => item.version === version);
  if (done.length < items.length) {
    if (engine) say(STRINGS.progress(done.length, items.length));
    return;
  }
  const predicted = done.filter((item) => item.prediction);
  const faces = predicted.reduce((sum, { prediction }) => sum + prediction.faces.length, 0);
  say(STRINGS.finished(predicted.length, faces, done.length - predicted.length));
  showTable();
}

/** Analyse everything again after a change of the settings. */
function repeat() {
  version += 1;
  work();
}

function showWaiting(item) {
  if (item.card) return;
  item.picture = make("img", { src: URL.createObjectURL(item.file), decoding: "async", alt: "" });
  item.picture.onerror = () => {
    item.picture.parentElement.hidden = true;
  };
  item.card = make(
    "article",
    {},
    make("h3", {}, item.source),
    make("div", { className: "picture" }, item.picture),
    make("p", { className: "note" }, STRINGS.waiting),
  );
  find("cards").append(item.card);
}

function showItem(item) {
  const hidden = item.picture.parentElement.hidden;
  const card = item.prediction
    ? describe(item.prediction, item.picture, find("whole").checked)
    : make("article", {}, make("h3", {}, item.source), make("p", { className: "warning" }, item.problem));
  if (hidden && item.prediction) item.picture.parentElement.hidden = true;
  item.card.replaceWith(card);
  item.card = card;
}

/* ---------------------------------------------------------------- table */

/** Return all predictions, photos first. */
function predictions() {
  return [...items.map((item) => item.prediction).filter(Boolean), ...frames];
}

function showTable() {
  const all = predictions();
  find("results-buttons").hidden = !items.length && !frames.length;
  find("empty").hidden = Boolean(items.length || frames.length);
  find("cards-hidden").hidden = items.length <= MOST_CARDS;
  find("cards-hidden").textContent = STRINGS.cardsHidden(items.length - MOST_CARDS);
  find("table").hidden = !all.length;
  find("download").disabled = !all.length;
  find("table-head").replaceChildren(
    ...Object.values(COLUMNS).map((name) => make("th", { scope: "col" }, name)),
  );
  const shown = [];
  let count = 0;
  for (const prediction of all) {
    const found = rows(prediction);
    count += found.length;
    if (shown.length < MOST_ROWS) shown.push(...found.slice(0, MOST_ROWS - shown.length));
  }
  find("table-body").replaceChildren(...shown.map(tableRow));
  find("table-hidden").hidden = count <= MOST_ROWS;
  find("table-hidden").textContent = STRINGS.tableHidden(count - MOST_ROWS);
}

function tableRow({ source, face, left, top, width, height, detected, emotion, confidence, flags }) {
  const cells =
    face === undefined
      ? [source, "", "", "", "", "", ""]
      : [
          source,
          face,
          `${left}, ${top}, ${width} × ${height}`,
          detected === null ? "" : STRINGS.share(detected),
          nameOf(emotion),
          STRINGS.share(confidence),
          flags.split(" ").filter(Boolean).map((flag) => FLAGS[flag] ?? flag).join(", "),
        ];
  const [name, ...others] = cells.map(String);
  return make("tr", {}, make("th", { scope: "row" }, name), ...others.map((text) => make("td", {}, text)));
}

function download() {
  const text = toCsv(predictions(), engine.card.labels);
  const address = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  make("a", { href: address, download: STRINGS.csvName }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

function clear() {
  for (const { picture } of items) if (picture) URL.revokeObjectURL(picture.src);
  [items, frames] = [[], []];
  version += 1;
  find("cards").replaceChildren();
  complain("");
  say(STRINGS.ready);
  showTable();
  find("results").focus();
}

/* ---------------------------------------------------------------- webcam */

async function openCamera() {
  if (!engine) {
    complain(STRINGS.problemNotReady);
    return;
  }
  complain("");
  const opened = new Camera(find("video"));
  camera = opened;
  try {
    await opened.open();
  } catch (error) {
    if (camera !== opened) return;
    closeCamera();
    complain(error.message);
    return;
  }
  if (camera !== opened) {
    opened.close(); // the visitor has closed it since
    return;
  }
  const { labels } = engine.card;
  timeline = new Timeline(find("timeline"), labels);
  bars = new Bars(labels);
  find("camera-bars").replaceChildren(bars.element);
  find("legend").replaceChildren(
    ...labels.map((label) =>
      make("li", {}, make("span", { className: `fill tint-${colour(labels, label)}` }), nameOf(label)),
    ),
  );
  find("camera").hidden = false;
  find("camera-switch").textContent = STRINGS.stopCamera;
  say(STRINGS.cameraStarted);
  let announced = 0;
  const show = (prediction, seconds, rate) => {
    showFrame(prediction, seconds, rate);
    if (performance.now() - announced < ANNOUNCED) return;
    announced = performance.now();
    const [face] = prediction.faces;
    say(face ? STRINGS.cameraNow(nameOf(face.emotion)) : STRINGS.cameraNobody);
  };
  try {
    // The settings are read for each frame, so that a change counts at once.
    await opened.run((video) => engine.frame(video, { ...options(), wholeImage: false, source: "webcam" }), show);
  } catch (error) {
    if (camera !== opened) return;
    closeCamera();
    complain(error.message);
  }
}

/** Show the answer to a frame, and keep it for the csv file. */
function showFrame(prediction, seconds, rate) {
  find("camera-picture").querySelector("svg")?.remove();
  find("camera-picture").append(boxes(prediction));
  const [face] = prediction.faces;
  timeline.add(seconds, face?.scores ?? null);
  bars.show(face?.scores ?? {});
  const count = prediction.faces.length;
  find("camera-now").textContent = face
    ? STRINGS.cameraAnswer(count, nameOf(face.emotion), face.confidence)
    : STRINGS.cameraNobody;
  find("camera-rate").textContent = STRINGS.cameraRate(rate);
  if (frames.length < MOST_FRAMES) frames.push({ ...prediction, source: STRINGS.cameraSource(seconds) });
}

function closeCamera() {
  camera?.close();
  camera = null;
  engine?.rest?.();
  find("camera").hidden = true;
  find("camera-switch").textContent = STRINGS.openCamera;
  say(STRINGS.cameraStopped);
  showTable();
}

/* ---------------------------------------------------------------- events */

const later = (() => {
  let timer;
  return (action) => {
    clearTimeout(timer);
    timer = setTimeout(action, 250);
  };
})();

for (const id of ["files", "folder"]) {
  const input = find(id);
  find(id === "files" ? "choose-files" : "choose-folder").onclick = () => input.click();
  input.onchange = () => {
    add(chosen(input.files));
    input.value = "";
  };
}
find("camera-switch").onclick = () => (camera ? closeCamera() : openCamera());
find("download").onclick = download;
find("clear").onclick = clear;
find("head").onchange = () => {
  showHead();
  repeat();
};
find("balance").oninput = () => {
  showBalance();
  later(repeat);
};
find("balance-reset").onclick = () => {
  showHead();
  find("balance").focus();
  repeat();
};
find("whole").onchange = repeat;
find("browser").onchange = () => {
  if (camera) closeCamera();
  start();
};
find("token-form").onsubmit = (event) => {
  event.preventDefault();
  token = find("token").value;
  start();
};

document.ondragover = (event) => {
  event.preventDefault();
  find("drop").classList.add("over");
};
document.ondragleave = (event) => {
  if (!event.relatedTarget) find("drop").classList.remove("over");
};
document.ondrop = async (event) => {
  event.preventDefault();
  find("drop").classList.remove("over");
  add(await transferred(event.dataTransfer));
};
document.onpaste = async (event) => {
  if (event.target.closest("input")) return;
  const found = await transferred(event.clipboardData);
  if (found.length) add(found.map(({ file }) => ({ name: STRINGS.pasted((pasted += 1)), file })));
};

start();
