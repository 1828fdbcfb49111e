"""The JSON documents of mien as types, and the JSON schemas that follow from them.

`tools/make_reference.py` writes the schemas to `docs/reference/schemas`. Evaluations, comparisons and cards
are the dataclasses of mien. The other documents are dictionaries, so their types are here, and
`tests/test_schemas.py` validates real output: it has no further keys.
"""

import inspect
import json
import re
from typing import Annotated, Any, Literal, NotRequired, Required

from pydantic import TypeAdapter, WithJsonSchema
from pydantic.json_schema import GenerateJsonSchema
from typing_extensions import TypedDict

from mien.evaluation.comparison import Comparison
from mien.evaluation.evaluation import SCHEMA, Evaluation
from mien.models.card import Card
from mien.release.exporters import Agreement
from mien.training.recipes import Recipe

#: An evaluation in another document.
Evaluated = Annotated[dict[str, Any], WithJsonSchema({"title": "evaluation.json"})]
DIALECT = "https://json-schema.org/draft/2020-12/schema"


class BoxDocument(TypedDict):
    """The box of a face, in pixels of the upright image.

    Args:
        left: Distance from the left edge; can be negative.
        top: Distance from the top edge; can be negative.
        width: Width of the box.
        height: Height of the box.
    """

    left: int
    top: int
    width: int
    height: int


class FaceDocument(TypedDict):
    """A face and its emotion.

    Args:
        box: Where the face is.
        detected: Confidence of the detector in [0, 1]; null for whole images.
        emotion: The most probable emotion.
        confidence: Its probability.
        scores: Probability of each emotion, in the order of the model; they sum to 1.
        flags: Reasons to trust the prediction less.
    """

    box: BoxDocument
    detected: float | None
    emotion: str
    confidence: float
    scores: dict[str, float]
    flags: list[Literal["uncertain", "small", "blurred", "cut"]]


class PredictionDocument(TypedDict):
    """The faces of one image: an item of `mien predict --json`, and a line of `--jsonl` and of a .jsonl file.

    Args:
        schema: Version of the document.
        source: The image, as it was named.
        width: Width of the upright image in pixels.
        height: Height of the upright image in pixels.
        rotation: Clockwise rotation in degrees that made the faces upright.
        faces: The faces, largest first.
    """

    schema: Literal[1]
    source: str
    width: int
    height: int
    rotation: Literal[0, 90, 180, 270]
    faces: list[FaceDocument]


class SmoothedDocument(TypedDict):
    """The smoothed prediction for a person.

    Args:
        emotion: The emotion with the highest smoothed probability.
        confidence: Its smoothed probability.
        scores: Smoothed probability of each emotion.
        uncertain: Whether the confidence is below the threshold.
    """

    emotion: str
    confidence: float
    scores: dict[str, float]
    uncertain: bool


class TrackedDocument(FaceDocument):
    """A face of a video with its track.

    Args:
        track: Number of the person, from 1.
        smoothed: The smoothed prediction.
    """

    track: int
    smoothed: SmoothedDocument


class VideoRowDocument(TrackedDocument):
    """A face in a frame: a line of `mien video --jsonl`, and of a .jsonl file.

    Args:
        schema: Version of the document.
        frame: Number of the frame, from 0.
        time: Time of the frame in seconds.
    """

    schema: Literal[1]
    frame: int
    time: float


class CameraDocument(TypedDict):
    """An analysed picture of a camera: a line of `mien webcam --headless`.

    Args:
        schema: Version of the document.
        source: Name of the camera.
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.
        rotation: Always 0.
        faces: The faces, with tracks.
        frame: Number of pictures that the camera sent before this one.
        time: Seconds from the first picture to this one.
        latency: Seconds from the capture to the prediction.
    """

    schema: Literal[1]
    source: str
    width: int
    height: int
    rotation: Literal[0, 90, 180, 270]
    faces: list[TrackedDocument]
    frame: int
    time: float
    latency: float


class Timed(TypedDict, total=False):
    """How long the command took.

    Args:
        seconds: Wall-clock time in seconds.
        cpu_seconds: CPU time in seconds.
    """

    seconds: float
    cpu_seconds: float


class CaseDocument(TypedDict):
    """One case of a finding.

    Args:
        files: The images.
        text: What is wrong with them.
    """

    files: list[str]
    text: str


class FindingDocument(TypedDict):
    """A notable property of a data set.

    Args:
        kind: A fixed name, such as `exact duplicates across splits`.
        severity: `error` makes scores wrong, `warning` costs accuracy or trust, `note` is good to know.
        evidence: The measurement in one sentence.
        advice: What to do.
        files: Every file of the cases once.
        cases: Every case, the worst first.
    """

    kind: str
    severity: Literal["error", "warning", "note"]
    evidence: str
    advice: str
    files: list[str]
    cases: list[CaseDocument]


class AuditDocument(Timed):
    """The output of `mien audit --json`.

    Args:
        schema: Version of the document.
        data: Name of the data set.
        fingerprint: SHA-256 hash of its images and labels.
        splits: Number of images in each split.
        classes: For each split, the number of images of each class.
        counts: Number of images with each problem.
        findings: The findings, the most severe first.
        exclusions: With `--exclusions`: number of lines of each reason.
        html: With `--html`: the page.
        fix: With `--fix`: `path`, and the number of each change.
    """

    schema: Required[Literal[1]]
    data: Required[str]
    fingerprint: Required[str]
    splits: Required[dict[str, int]]
    classes: Required[dict[str, Any]]
    counts: Required[dict[str, Any]]
    findings: Required[list[FindingDocument]]
    exclusions: NotRequired[dict[str, int]]
    html: NotRequired[str]
    fix: NotRequired[dict[str, str | int]]


class SquareDocument(TypedDict):
    """The crop of a face, in pixels of the upright image.

    Args:
        left: Distance from the left edge.
        top: Distance from the top edge.
        side: Side of the square.
    """

    left: float
    top: float
    side: float


class ExplainedFaceDocument(TypedDict):
    """The explanation of one face.

    Args:
        square: The crop that the model saw.
        emotion: The explained emotion.
        score: Its probability.
        answer: The most probable emotion.
        strength: The largest value of the map, before it is scaled for the picture.
        scores: Probability of each emotion.
        method: `cam` or `occlusion`.
        head: The output head.
        file: The picture.
    """

    square: SquareDocument
    emotion: str
    score: float
    answer: str
    strength: float
    scores: dict[str, float]
    method: str
    head: str
    file: str


class ExplanationDocument(Timed):
    """The output of `mien explain --json`.

    Args:
        schema: Version of the document.
        source: The image.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        rotation: Clockwise rotation in degrees that made the faces upright.
        faces: The explanation of each face, largest first.
        overlay: The picture of the whole image; null without a face.
    """

    schema: Required[Literal[1]]
    source: Required[str]
    height: Required[int]
    width: Required[int]
    rotation: Required[int]
    faces: Required[list[ExplainedFaceDocument]]
    overlay: Required[str | None]


class ExtractDocument(Timed):
    """The output of `mien extract --json`.

    Args:
        schema: Version of the document.
        root: The folder.
        files: Number of files.
        bytes: Their total size.
        found_done: Whether an earlier call had extracted the archive.
    """

    schema: Required[Literal[1]]
    root: Required[str]
    files: Required[int]
    bytes: Required[int]
    found_done: Required[bool]


class ExportDocument(Timed):
    """The output of `mien export --json`.

    Args:
        schema: Version of the document.
        format: The format.
        path: The file or folder.
        images: Number of images that were compared.
        largest_difference: The largest difference of a probability between the formats.
        int8: For an int8 model: how the float32 export agrees with it; else null.
        rounding: With `--int8`: how the int8 file agrees with the float32 network; else null.
    """

    schema: Required[Literal[1]]
    format: Required[str]
    path: Required[str]
    images: Required[int]
    largest_difference: Required[float]
    int8: Required[Agreement | None]
    rounding: Required[Agreement | None]


class CardFilesDocument(TypedDict):
    """The output of `mien card --json`.

    Args:
        schema: Version of the document.
        models: Names of the models.
        model_card: The file of the model card; null if it was not written.
        datasheet: The file of the datasheet, for a run.
        text: The model card in Markdown, if it was not written.
    """

    schema: Literal[1]
    models: list[str]
    model_card: str | None
    datasheet: str | None
    text: NotRequired[str]


class HashedDocument(TypedDict):
    """The file with hashes of the training images.

    Args:
        file: Its name.
        n: Number of images.
    """

    file: str
    n: int


class ShippedDocument(Timed):
    """The file NAME.json beside a shipped model; `mien ship --json` adds `path`, `weights` and the times.

    Args:
        schema: Version of the document.
        name: Name of the model.
        sha256: SHA-256 hash of the ONNX file.
        bytes: Size of the ONNX file.
        precision: `int8` or `float32`.
        training_hashes: The file with hashes of the training images.
        evaluation: The evaluation of the first head, and of the others in `heads`.
        path: The ONNX file.
        weights: The file of the float32 weights; null without one.
    """

    schema: Required[Literal[2]]
    name: Required[str]
    sha256: Required[str]
    bytes: Required[int]
    precision: Required[Literal["int8", "float32"]]
    training_hashes: Required[HashedDocument]
    evaluation: Required[Evaluated]
    path: NotRequired[str]
    weights: NotRequired[str | None]


class SplitFacts(TypedDict):
    """A split of the data.

    Args:
        n: Number of images.
        fingerprint: SHA-256 hash of its images and labels.
    """

    n: int
    fingerprint: str


class UnreadableFile(TypedDict):
    """An input that could not be used.

    Args:
        file: Its name.
        reason: Why.
    """

    file: str
    reason: str


class DataFacts(TypedDict):
    """The data of a run.

    Args:
        name: Name of the data set.
        fingerprint: SHA-256 hash of all splits.
        votes: SHA-256 hash of the annotator votes; null without votes.
        splits: Each split.
        classes: Number of images of each class in each split.
        problems: Inputs that could not be used.
        excluded: Number of excluded training images by reason.
        notes: What was noted while the data was read.
        origin: How to load the data again: the source and the options.
    """

    name: str
    fingerprint: str
    votes: str | None
    splits: dict[str, SplitFacts]
    classes: dict[str, dict[str, int]]
    problems: list[UnreadableFile]
    excluded: dict[str, int]
    notes: list[str]
    origin: dict[str, Any]


class SelectedEpoch(TypedDict):
    """The epoch in the model file.

    Args:
        epoch: Its number.
        of: Number of finished epochs.
        better_epoch: An epoch with a better score on val, if another one was selected; else null.
        at_chance: Heads that are not better than the most frequent class.
        sha256: SHA-256 hash of `model.onnx`.
    """

    epoch: int
    of: int
    better_epoch: int | None
    at_chance: list[str]
    sha256: str


class RunDocument(Timed):
    """The file `run.json` of a run; `mien train --json` adds `run`, `val`, `figures` and the times.

    Args:
        schema: Version of the document.
        status: `training`, also if it was stopped; `done`; `pruned` by a search; or `failed`.
        labels: The classes.
        precision: In which precision the network was trained.
        data: The data.
        teacher: `about` and `sha256` of the probabilities that it distilled from; null without a teacher.
        base: The models that the training started from.
        began: Accuracy of the first of them on val; null without one.
        environment: Versions and machine.
        recipe: All settings.
        shipped: The epoch in the model file, when the training has ended.
        run: The folder.
        val: The evaluation on val.
        figures: The plots.
    """

    schema: Required[Literal[1]]
    status: Required[str]
    labels: Required[list[str]]
    precision: Required[str]
    data: Required[DataFacts]
    teacher: Required[dict[str, Any] | None]
    base: Required[list[dict[str, Any]]]
    began: Required[dict[str, Any] | None]
    environment: Required[dict[str, str | int | None]]
    recipe: Required[Recipe]
    shipped: NotRequired[SelectedEpoch]
    run: NotRequired[str]
    val: NotRequired[Evaluated]
    figures: NotRequired[list[str]]


class TrialDocument(TypedDict):
    """A trial of a search.

    Args:
        number: Its number, from 1.
        state: Whether it has a model, was ended early, failed, or is being trained or was stopped.
        values: The settings that the search chose, by their names with dots.
        score: The metric of its model on val; null without a model.
        epochs: After each epoch, the metric of the model that the training would select then.
        epoch: The epoch of its model, or its last one.
        seconds: Duration of its epochs; 0 if it was copied.
        copied: The trial with the same settings, whose result it has.
        reason: Why it failed or diverged.
    """

    number: int
    state: Literal["complete", "pruned", "failed", "running"]
    values: dict[str, Any]
    score: float | None
    epochs: list[float]
    epoch: int | None
    seconds: float | None
    copied: int | None
    reason: str


class ConfirmationDocument(TypedDict):
    """The training of the best recipe with another seed.

    Args:
        seed: The seed.
        score: The metric of its model on val; null if it diverged.
    """

    seed: int
    score: float | None


class BestTrialDocument(TypedDict):
    """The best trial.

    Args:
        trial: Its number.
        score: The metric of its model on val.
        file: The file of its recipe.
        recipe: The recipe.
        confirmed: The recipe with other seeds.
        mean: Mean of their scores.
        standard_deviation: Standard deviation of their scores.
    """

    trial: int
    score: float
    file: str
    recipe: dict[str, Any]
    confirmed: list[ConfirmationDocument]
    mean: float | None
    standard_deviation: float | None


class StudyData(TypedDict):
    """The data of a search.

    Args:
        name: Name of the data set.
        train: Number of training images.
        val: Number of validation images.
    """

    name: str
    train: int
    val: int


class StudyDocument(Timed):
    """A search for hyperparameters.

    Args:
        schema: Version of the document.
        study: The folder.
        recipe: Name of the recipe that it started from.
        metric: What trials are compared by, on val.
        data: The data.
        space: Ranges and choices, in the form of the recipe.
        wanted: Number of trials that were asked for.
        trials: The trials.
        importance: Share of each setting in the difference between good and other trials; empty if few are
            complete.
        best: The best trial; null if none is complete.
        report: The page.
    """

    schema: Required[Literal[1]]
    study: Required[str]
    recipe: Required[str]
    metric: Required[Literal["val_accuracy", "val_loss"]]
    data: Required[StudyData]
    space: Required[dict[str, Any]]
    wanted: Required[int]
    trials: Required[list[TrialDocument]]
    importance: Required[dict[str, float]]
    best: Required[BestTrialDocument | None]
    report: Required[str]


#: Each schema: its name, its type, and keys that the document has beside the fields of a dataclass.
DOCUMENTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "prediction": (PredictionDocument, {}),
    "video-row": (VideoRowDocument, {}),
    "camera": (CameraDocument, {}),
    "audit": (AuditDocument, {}),
    "run": (RunDocument, {}),
    "study": (StudyDocument, {}),
    "evaluation": (
        Evaluation,
        {
            "schema": {"const": SCHEMA, "description": "Version of the document."},
            "table": {"type": "string", "description": "With `--table`: the figures for a paper."},
            "report": {
                "type": "array",
                "items": {"type": "string"},
                "description": "With `--report`: the files.",
            },
            "seconds": {"type": "number", "description": "Wall-clock time in seconds."},
            "cpu_seconds": {"type": "number", "description": "CPU time in seconds."},
        },
    ),
    "comparison": (
        Comparison,
        {
            "schema": {"const": 1, "description": "Version of the document."},
            "html": {"type": "string", "description": "With `--html`: the page."},
            "seconds": {"type": "number", "description": "Wall-clock time in seconds."},
            "cpu_seconds": {"type": "number", "description": "CPU time in seconds."},
        },
    ),
    "explanation": (ExplanationDocument, {}),
    "extract": (ExtractDocument, {}),
    "export": (ExportDocument, {}),
    "shipped": (ShippedDocument, {}),
    "card-files": (CardFilesDocument, {}),
    "model-card": (Card, {}),
}


def make_schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON schema of each document by its name."""
    return {name: _schema(name, *each) for name, each in DOCUMENTS.items()}


def _schema(name: str, kind: Any, further: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(TypeAdapter(kind).json_schema(schema_generator=_Generator))
    # pydantic cannot refer to another file.
    schema = json.loads(text.replace('{"title": "evaluation.json"}', '{"$ref": "evaluation.json"}'))
    definitions = schema.setdefault("$defs", {})
    if reference := schema.pop("$ref", ""):  # an evaluation has evaluations of other heads
        schema |= definitions[reference.rpartition("/")[2]]
    if name == "comparison":
        del definitions["Evaluation"]
        definitions["Side"]["properties"]["evaluation"] = {"$ref": "evaluation.json"}
    schema["properties"] = further | schema["properties"]
    if "schema" in further:
        schema["required"] = ["schema", *schema.get("required", ())]
    for each in (schema, *definitions.values()):
        _describe(each)
    used = set(re.findall(r"#/\$defs/(\w+)", json.dumps(schema)))
    schema["$defs"] = {key: value for key, value in definitions.items() if key in used}
    return {"$schema": DIALECT, **schema}


class _Generator(GenerateJsonSchema):
    """Leaves out titles that repeat the name of a key."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _describe(schema: dict[str, Any]) -> None:
    """Move the descriptions of arguments in a docstring to the properties."""
    text = inspect.cleandoc(schema.get("description", ""))
    first, _, arguments = text.partition("Args:\n")
    if first:
        schema["description"] = " ".join(first.split("\n\n")[0].split())
    found = re.findall(r"^    (\w+): (.+(?:\n {8,}.+)*)", arguments, re.MULTILINE)
    for name, meaning in found:
        if name in schema.get("properties", {}):
            schema["properties"][name].setdefault("description", " ".join(meaning.split()))
