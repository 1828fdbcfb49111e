/** All texts of the page. To translate the page, translate this file. */

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const percent = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 0 });

const count = (value, one, many) => `${number.format(value)} ${value === 1 ? one : many}`;

/** Names of emotions; other classes are shown as the model names them. */
export const EMOTIONS = {
  angry: "angry",
  disgust: "disgust",
  fear: "fear",
  happy: "happy",
  sad: "sad",
  surprise: "surprise",
  neutral: "neutral",
};

/** Reasons to trust an answer less. */
export const FLAGS = {
  uncertain: "uncertain",
  small: "small face",
  blurred: "blurred",
  cut: "cut by the edge",
};

/** Names of the heads that models of mien have; others are shown by their own name. */
export const HEADS = {
  ferplus: "What people see (FER+)",
  fer2013: "Label of FER2013",
};

export const STRINGS = {
  title: "mien",
  subtitle: "Which expression do people see on a face?",
  skip: "Skip to the results",

  meaningTitle: "What the answer means",
  meaning:
    "The answer is the expression that people would name on a face. It is not what a person feels: expressions vary " +
    "by culture, situation and person. The model makes errors, and more of them for some groups of people.",
  meaningMore: "Law and limits",
  meaningDetails: [
    "Do not decide about a person by these answers.",
    "In the EU, inferring emotions at the workplace and in education is prohibited since 2 February 2025, except for " +
      "medical or safety reasons (Regulation 2024/1689, Article 5(1)(f)).",
    "Inform people if their face is analysed (Article 50(3)).",
    "The answers depend on the images that the model was trained on; its card describes them.",
  ],

  privacyServer: "Photos are sent to this server, which does not store them.",
  privacyBrowser: "Photos stay in this browser: faces are found and classified on this device.",

  inputTitle: "Photos and webcam",
  dropHint: "Drop photos or a folder here, or paste a photo.",
  chooseFiles: "Choose photos",
  chooseFolder: "Choose a folder",
  openCamera: "Open the webcam",
  stopCamera: "Stop the webcam",
  pasted: (place) => `pasted ${place}.png`,

  settingsTitle: "Settings",
  head: "Answer",
  balance: "Balance",
  balanceHelp: "0: emotions as frequent as in the training data. 1: all equally frequent.",
  balanceReset: (value) => `Use the model's value (${number.format(value)})`,
  wholeImage: "Each photo is one cropped face",
  browserMode: "Analyse in this browser, without the server",
  token: "Access token of the server",
  tokenUse: "Use the token",

  cameraTitle: "Webcam",
  cameraVideo: "Picture of the webcam",
  cameraRate: (rate) => `${number.format(rate)} answers a second`,
  cameraNobody: "No face",
  cameraAnswer: (faces, emotion, share) =>
    faces === 1
      ? `${emotion}, ${percent.format(share)}`
      : `${count(faces, "face", "faces")}; the largest: ${emotion}, ${percent.format(share)}`,
  timeline: "Probabilities of the largest face in the last 60 seconds",
  timelineNow: (emotion, share) => `Time line of the largest face; now ${emotion}, ${percent.format(share)}`,
  timelineEmpty: "Time line of the largest face; no face yet",
  cameraSource: (seconds) => `webcam ${seconds.toFixed(2)} s`,

  resultsTitle: "Results",
  resultsEmpty: "Results appear here.",
  clear: "Remove all results",
  download: "Download as csv",
  tableCaption: "One row for each face, with the columns of mien predict --csv",
  tableHidden: (rows) => `${count(rows, "more row is", "more rows are")} not shown; the csv file has all of them.`,
  cardsHidden: (images) => `${count(images, "more photo is", "more photos are")} not shown; the table has them.`,
  csvName: "faces.csv",

  image: (source, faces) => `${source}: ${faces === 0 ? "no face" : count(faces, "face", "faces")}`,
  noFace: "No face found.",
  noFaceHelp: "If the photo is a cropped face, use the setting for cropped faces.",
  rotated: (degrees) => `Turned by ${degrees}° because the faces were not upright.`,
  faceAnswer: (place, emotion, share) => `Face ${place}: ${emotion}, ${percent.format(share)}`,
  share: (value) => percent.format(value),
  photoAlternative: (source, faces) => `${source} with ${faces === 0 ? "no face" : count(faces, "face", "faces")} marked`,
  waiting: "Waiting …",

  loadingBrowser: "Loading the model into this browser (19 MB) …",
  loadingServer: "Connecting to the server …",
  ready: "Ready.",
  progress: (done, all) => `${done} of ${all} photos analysed.`,
  finished: (images, faces, unread) =>
    (unread ? `${count(unread, "file", "files")} cannot be read. ` : "") +
    `${count(images, "photo", "photos")} analysed, ${count(faces, "face", "faces")} found.`,
  cameraStarted: "The webcam is on.",
  cameraStopped: "The webcam is off.",
  cameraNow: (emotion) => `Largest face: ${emotion}.`,

  problemDecode: "this browser cannot read the file as an image",
  problemNoImages: "There is no image among these files.",
  problemEngine: (reason) => `The model cannot be used: ${reason}. Reload the page to try again.`,
  problemServer: (reason) => `The server does not answer: ${reason}`,
  problemToken: "The server needs an access token.",
  problemTokenWrong: "The server does not know this access token. Check it.",
  problemUnreachable: "The server cannot be reached. Try again later.",
  problemNotReady: "The model is not loaded yet.",
  problemCameraMissing: "This browser gives pages without https no webcam. Open the page with https or on localhost.",
  problemCamera: (reason) => `The webcam cannot be opened: ${reason}`,
  problemStream: "The connection to the server was closed; the webcam was stopped.",

  modelTitle: "About the model",
  modelName: "Model",
  modelHeads: "Answers",
  modelData: "Trained on",
  modelAccuracy: "Accuracy",
  modelAgreement: "Agreement with people",
  modelMeasured: (value, split, n) => `${(100 * value).toFixed(1)} % on ${count(n, "image", "images")} (${split})`,
  modelPrecision: "Precision",
  modelLicence: "Licence",
  modelCard: "Card of the model",
  licences: "Licences of the software",
};

/** Columns of the table; those of the emotions are between them in the csv file. */
export const COLUMNS = {
  source: "image",
  face: "face",
  box: "left, top, width × height",
  detected: "detected",
  emotion: "emotion",
  confidence: "confidence",
  flags: "notes",
};

/**
 * Return the name of an emotion on the page.
 * @param {string} label
 * @returns {string}
 */
export const nameOf = (label) => EMOTIONS[label] ?? label;
