"""Model cards and datasheets: every figure from an evaluation, every name as its owner wrote it."""

import copy
import dataclasses
import functools
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt

from mien import cli
from mien.errors import InputError, ModelError, RunError
from mien.evaluation import calibration, evaluator
from mien.evaluation.evaluation import Agreement, Figures, Quantization, TrainingOverlap
from mien.evaluation.metrics import compute_metrics
from mien.labels import EMOTIONS
from mien.models import model_files
from mien.models.model_files import Base, Card, Data, Head, Parity, Part
from mien.release import model_cards
from mien.reports import rendering
from mien.training import recipes, runs

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "model-card.md"
LABELS = EMOTIONS
HOSTILE = "a|b <img src=x onerror=alert(1)> `*_[x](y)_*` $1$ & #"


def fingerprint(name: str) -> str:
    return (name.encode().hex() * 64)[:64]


@functools.cache
def report(
    head: str, seed: int, *, labels: tuple[str, ...] = LABELS, n: int = 613, votes: bool = True
) -> Any:
    """A report on made answers, right about half the time."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, len(labels), n)
    logits = random.normal(0, 1, (n, len(labels)))
    logits[np.arange(n), truth] += 1.2
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = compute_metrics(chances, truth, labels)
    people = random.multinomial(10, np.full(10, 0.1), n)
    return dataclasses.replace(
        found,
        agreement=evaluator.compute_agreement(chances, people, labels) if votes else None,
        head=head,
        model=fingerprint("file"),
        split="val",
        split_fingerprint=fingerprint("val"),
        data="fer2013.csv",
    ), calibration.measure(chances, truth, folds=7)


def evaluation(seed: int = 0, heads: tuple[str, ...] = ("fer2013", "ferplus")) -> dict[str, Any]:
    """What `mien ship` writes beside a file."""
    return json.loads(_evaluation(seed, heads))


@functools.cache
def _evaluation(seed: int, heads: tuple[str, ...]) -> str:
    found = []
    for place, name in enumerate(heads):
        scored, calibration = report(name, seed + place)
        new = Figures(
            n=450,
            accuracy=0.47113,
            accuracy_interval=(0.42531, 0.51747),
            macro_f1=0.43119,
            macro_f1_interval=(0.38173, 0.48391),
            ece=0.05153,
            agreement=Agreement(n=441, share=0.61131, interval=(0.56417, 0.65711), left_out=9, ece=0.05153),
        )
        quantization = Quantization(
            n=611, agreement=0.98765, accuracy_float32=0.51234, accuracy_int8=0.51111, accepted=True
        )
        overlap = TrainingOverlap(exact=21 + place, near=33, recrops=57, without_recrops=new)
        found.append(
            dataclasses.replace(
                scored, calibration=calibration, quantization=quantization, training_overlap=overlap
            )
        )
    first, *others = found
    first = dataclasses.replace(first, heads={each.head: each for each in others})
    whole = {"schema": 2, "name": "tried", "sha256": fingerprint("file"), "bytes": 616_895}
    return json.dumps(whole | {"precision": "int8", "evaluation": first.to_dict()})


def each_head(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The evaluation of each head in a document, to be changed in place."""
    first = document["evaluation"]
    return {first["head"]: first, **first.get("heads", {})}


def a_card(**changes: Any) -> Card:
    return dataclasses.replace(
        Card(
            name="tried",
            labels=LABELS,
            size=48,
            heads=model_files.TWO_HEADS,
            precision="int8",
            sha256=fingerprint("file"),
            recipe=recipes.to_dict(
                recipes.override(recipes.get("quick"), ["targets.ferplus=1", "epochs=33"])
            ),
            data=Data(
                name="fer2013.csv",
                fingerprint=fingerprint("all"),
                splits={
                    "train": Part(n=27_638, fingerprint=fingerprint("train")),
                    "val": Part(n=613, fingerprint=fingerprint("val")),
                },
            ),
            excluded={"blank": 19, "no face": 139},
            parity=Parity(images=997, largest_difference=5.7e-7, against="Keras in float32"),
            licence="Apache-2.0",
            versions={"mien": "0.1.0", "keras": "3.15.1"},
        ),
        **changes,
    )


def model(**changes: Any) -> model_files.Model:
    """A model as far as a card looks at it."""
    return model_files.Model(Path("models/tried.onnx"), a_card(**changes), None)


def html(text: str) -> str:
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(text.split("\n---\n", 1)[-1])


def numbers(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?:e-\d+)?", text))


def test_the_page_in_the_docs_is_what_the_package_models_give() -> None:
    if not list(model_files.MODELS.glob("*.onnx")):
        pytest.skip("the package holds no model yet, so docs/model-card.md has nothing to say")
    assert PAGE.read_text(encoding="utf-8") == model_cards.models(model_cards.shipped(model_files.MODELS)), (
        "docs/model-card.md is stale; run: mien card src/mien/models/weights --to docs/model-card.md"
    )


def moved(value: Any, by: float) -> Any:
    """Return the same document with every number another one."""
    if isinstance(value, dict):
        return {key: moved(item, by) for key, item in value.items()}
    if isinstance(value, list):
        return [moved(item, by) for item in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return value * 3 + round(10_000 * by) if isinstance(value, int) else by + value * 0.31


def test_no_figure_is_written_by_hand() -> None:
    """Models that have no number in common have cards with none in common but papers, laws and years."""
    texts = [model_cards.model(model(), evaluation())]
    for by, bins in ((0.0173, 13), (0.1171, 14)):
        document = moved(evaluation(), by) | {"schema": 2}
        document["evaluation"]["schema"] = 2
        for found in each_head(document).values():
            found["reliability"] = found["reliability"][:bins]
        whole = a_card()
        sizes = {
            name: Part(n=part.n + bins, fingerprint="0" * 64) for name, part in whole.data.splits.items()
        }
        shown = model(
            size=whole.size + bins,
            recipe=moved(whole.recipe, by),
            data=dataclasses.replace(whole.data, splits=sizes),
            excluded=moved(whole.excluded, by),
            parity=Parity(images=bins, largest_difference=by / 1e6, against="Keras in float32"),
            versions={"mien": f"0.{bins}.0"},
            licence=f"Own-{bins}.0",
        )
        texts.append(model_cards.model(shown, document))
    texts = [re.sub(r"[0-9a-f]{64}", "", text) for text in texts]  # they hold digits that are no numbers
    written = numbers((ROOT / "src/mien/reports/templates/statements.md.j2").read_text(encoding="utf-8"))
    assert set.intersection(*map(numbers, texts)) - written <= {"0", "255"}  # every model's range of pixels


@pytest.mark.parametrize(
    "where",
    [
        "evaluation.accuracy",
        "evaluation.macro_f1_interval.1",
        "evaluation.heads.ferplus.agreement.share",
        "evaluation.heads.ferplus.per_class.disgust.recall_interval.0",
        "evaluation.confusion.1.2",
        "evaluation.heads.ferplus.ece",
        "evaluation.calibration.ece_before",
        "evaluation.calibration.ece_after",
        "evaluation.heads.ferplus.calibration.threshold",
        "evaluation.heads.ferplus.calibration.answered",
        "evaluation.calibration.accuracy_answered_interval.0",
        "evaluation.quantization.agreement",
        "evaluation.training_overlap.without_recrops.n",
        "evaluation.training_overlap.near",
        "evaluation.heads.ferplus.training_overlap.recrops",
        "evaluation.heads.ferplus.training_overlap.without_recrops.macro_f1",
        "evaluation.heads.ferplus.training_overlap.without_recrops.agreement.ece",
        "evaluation.training_overlap.without_recrops.ece",
        "evaluation.training_overlap.without_recrops.agreement.share",
        "bytes",
    ],
)
def test_another_number_in_the_evaluation_is_another_number_in_the_text(where: str) -> None:
    document = evaluation()
    *way, last = (int(part) if part.isdecimal() else part for part in where.split("."))
    place: Any = document
    before = model_cards.model(model(), document)
    for part in way:
        place = place[part]
    place[last] += 1_000 if isinstance(place[last], int) else 0.05
    after = model_cards.model(model(), document)
    assert before != after
    assert len(before.splitlines()) == len(after.splitlines())


def test_every_statement_is_made_of_a_model_that_ships() -> None:
    document = evaluation()
    assert "PublicTest. On it" not in model_cards.model(
        model(), document
    )  # it has 613 images, PublicTest 3,589
    for found in each_head(document).values():
        found["n"] = 3589
    text = " ".join(model_cards.model(model(), document).split())
    for stated in (
        "No licence of the images' owners is known",
        "are under the MIT licence (microsoft/FERPlus",
        "It is FER2013's PublicTest. On it networks, recipes and their settings were compared",
        "temperatures, logit biases and thresholds were fitted",
        "measured on 48-pixel grey crops of images from the web",
        "`fer2013` (the default): FER2013's label",
        "use `ferplus`, which predicts what most people would say",
        "| blank | 19 | | no face | 139 | | **all of these** | 158 |",
        "Regulation 2024/1689 prohibits",
        "cross-fitted: each of 7 parts",
        "### Images that are not in training",
        "| 5.15 % | 54, 57 |",
    ):
        assert stated in text, stated
    titles = re.findall(r"^## (.*)$", model_cards.model(model(), evaluation()), re.MULTILINE)
    assert titles == [
        "Model details",
        "Intended use",
        "Factors",
        "Metrics",
        "Evaluation data",
        "Training data",
        "Quantitative analyses",
        "Ethical considerations",
        "Caveats and recommendations",
    ]


def test_both_heads_of_both_models_stand_in_every_table() -> None:
    fast = model_files.Model(Path("fast.onnx"), a_card(name="fast", excluded={"other": 5}), None)
    text = model_cards.models([(model(), evaluation()), (fast, evaluation(seed=9))])
    assert text.startswith("---\n")
    for name in ("tried", "fast"):
        for head in ("fer2013", "ferplus"):
            assert text.count(f"| `{name}` | `{head}` |") == 6
            assert f"### Each class: `{name}` with head `{head}` on val" in text
    assert "| left out because | `tried` | `fast` |" in text
    assert "| other | – | 5 |" in text
    assert text.count("FER2013 | train | 27,638") == 1


def test_the_header_says_what_the_hub_asks() -> None:
    text = model_cards.model(model(), evaluation())
    found = each_head(evaluation())["fer2013"]
    assert text.startswith(
        f"""---
license: "apache-2.0"
library_name: "mien"
pipeline_tag: "image-classification"
tags:
  - "facial-emotion-recognition"
  - "facial-expression-recognition"
  - "onnx"
datasets:
  - "fer2013"
  - "ferplus"
metrics:
  - "accuracy"
  - "f1"
model-index:
  - name: "tried"
    results:
      - task:
          type: "image-classification"
          name: "facial emotion recognition"
        dataset:
          type: "fer2013"
          name: "FER2013"
          split: "val"
        metrics:
          - type: "accuracy"
            name: "accuracy, head fer2013"
            value: {round(found["accuracy"], 4)}
"""
    )
    assert text.count("\n---\n") == 1
    assert 'license: "unknown"' in model_cards.model(model(licence=""), evaluation())
    own = model_cards.model(model(licence='ours: "1"'), evaluation())
    assert 'license: "other"\nlicense_name: "ours: \\"1\\""\n' in own


def test_what_a_name_holds_is_shown_and_never_obeyed() -> None:
    labels = (HOSTILE, "- 1. b", "\u202e\x7fü\x85" + "c" * 90, *LABELS[3:])
    scored, _ = report("labels", 3, labels=labels, votes=False)
    scored = dataclasses.replace(scored, data=HOSTILE)
    document = evaluation(heads=("labels",))
    document["evaluation"] = json.loads(json.dumps(scored.to_dict()))
    shown = model(
        labels=labels,
        name=HOSTILE.replace("/", ""),
        heads={"labels": Head(about=HOSTILE)},
        excluded={HOSTILE: 3, "x\n\n# y": 1},
        licence=HOSTILE,
        framing=f"<script>{HOSTILE}",
        recipe={},
        data=None,
    )
    text = model_cards.model(shown, document)
    page = html(text)
    assert not re.search(r"<(img|script|a|em|strong)\b[^>]*(onerror|href)|<script|<img|<em", page)
    assert page.count("<h1>") == 1
    assert "<h1>y" not in page
    assert page.count("a|b &lt;img src=x onerror=alert(1)&gt; `*_[x](y)_*` $1$ &amp; #") >= 6
    width = {row.count("<td>") + row.count("<th>") for row in re.findall(r"<tr>.*?</tr>", page, re.DOTALL)}
    assert max(width) <= 9
    header = text.split("\n---\n")[0]
    assert "\x85" not in header
    assert "\x7f" not in header
    quoted = re.search(r'license_name: (".*")$', header, re.MULTILINE)
    assert quoted
    assert json.loads(quoted[1]) == HOSTILE


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("1. first", "1\\. first"),
        ("- point", "\\- point"),
        ("+ point", "\\+ point"),
        ("=", "\\="),
        ("3.5 of 7-fold", "3.5 of 7-fold"),
        ("2013.", "2013\\."),
    ],
)
def test_no_line_of_prose_begins_a_list_or_a_heading(said: str, shown: str) -> None:
    assert rendering.paragraph(said) == f"{shown}\n"
    page = html(rendering.paragraph("word " * 22 + said))
    assert page.count("<p>") == 1
    assert not re.search(r"<(li|h\d|ol|ul)", page)


def test_teachers_of_what_a_model_was_made_from_are_told() -> None:
    whole = a_card()
    earlier = {
        name: Base(name=name, sha256=fingerprint(name), data=whole.data, teacher=said)
        for name, said in (("big", "an older one"), ("bare", ""))
    }
    shown = model(teacher="the mean of two", base=tuple(earlier.values()), averaged=(earlier["big"],))
    assert "| the mean of two; through `big` from an older one |" in " ".join(
        model_cards.model(shown, evaluation()).split()
    )
    assert "| teachers |" not in model_cards.model(model(teacher=""), evaluation())


def test_text_that_code_cannot_hold_is_plain() -> None:
    assert rendering.code("runs/a-1") == "`runs/a-1`"
    assert rendering.code("a`b|c") == r"a\`b\|c"
    assert rendering.code("a <b") == r"a \<b"
    assert rendering.code("") == ""
    assert rendering.plain("caf\udce9") == r"caf\\udce9"


def test_an_evaluation_of_another_file_is_refused() -> None:
    with pytest.raises(ModelError, match="belongs to another file"):
        model_cards.model(model(sha256="0" * 64), evaluation())
    with pytest.raises(ModelError, match="heads fer2013, its card fer2013, ferplus"):
        model_cards.model(model(), evaluation(heads=("fer2013",)))
    for change in ({"schema": 1}, {"bytes": "many"}, {"evaluation": {"fer2013": {}}}):
        with pytest.raises(ModelError, match=r"the evaluation of 'tried\.onnx'"):
            model_cards.model(model(), evaluation() | change)
    document = evaluation()
    each_head(document)["ferplus"]["head"] = "fer2013"
    with pytest.raises(ModelError, match="heads fer2013, fer2013, its card"):
        model_cards.model(model(), document)
    with pytest.raises(InputError, match="no model was given"):
        model_cards.models([])


def test_heads_of_ones_own_and_classes_without_images() -> None:
    document = evaluation(heads=("strict", "kind"))
    found = each_head(document)["strict"]
    found["per_class"]["fear"] |= {"n": 0, "recall": None, "recall_interval": None, "f1": None}
    heads = {"strict": Head(about="what one says"), "kind": Head(about="what another says")}
    text = model_cards.model(model(heads=heads), document)
    assert re.search(r"^\| fear \| 0 \| \S+ % \| – \| – \|$", text, re.MULTILINE)
    assert 'head="kind"' in text
    assert "- `strict` (the default): what one says." in text
    assert "deserves" not in text
    assert "Every head of every file is evaluated below." in " ".join(text.split())


TWO = model_files.TWO_HEADS
CHOSEN = {
    "`val` chose the model.",
    "`val` chose nothing that changes these figures.",
    "the epoch that ships was chosen",
    "the epoch that ships may have been chosen, which the card does not say",
    "the end of training could be chosen",
    "temperatures, logit biases and thresholds were fitted",
    "temperatures and thresholds were fitted",
    "int8 was judged against float32",
    "networks, recipes and their settings were compared",
    "The recipe keeps the last epoch",
    "The threshold below which a prediction counts as uncertain was fitted on it.",
    "The figures of calibration are cross-fitted",
    "so its figures are a little optimistic",
    "This page has no split that was kept out of every choice",
    "The same images selected the epoch that ships.",
    "No threshold was fitted either.",
    "No temperature was fitted",
}
FLATTERED = {"`val` chose the model.", "so its figures are a little optimistic", "This page has no split"}
RAW = {"No temperature was fitted", "No threshold was fitted either."}


def said_of(recipe: dict[str, Any], *, prior: float | None = None, threshold: float | None = None) -> str:
    document = evaluation(heads=("labels",))
    each_head(document)["labels"] |= {"agreement": None, "data": "mine"}
    if prior is None:
        each_head(document)["labels"] |= {"calibration": None, "quantization": None}
    else:
        each_head(document)["labels"]["calibration"]["prior"] = prior
    val = {"val": Part(n=613, fingerprint=fingerprint("val"))}
    own = Data(name="mine", fingerprint="0" * 64, splits=val)
    head = dataclasses.replace(model_files.ONE_HEAD["labels"], threshold=threshold)
    text = model_cards.model(model(heads={"labels": head}, data=own, recipe=recipe), document)
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("recipe", "options", "wanted"),
    [
        ({"select": "val_loss"}, {}, FLATTERED | RAW | {"the epoch that ships was chosen"}),
        ({"select": "val_accuracy"}, {}, FLATTERED | RAW | {"the epoch that ships was chosen"}),
        (
            {"select": "last"},
            {},
            RAW | {"`val` chose nothing that changes these figures.", "The recipe keeps the last epoch"},
        ),
        (
            {"select": "last", "stopping": {"patience": 3}},
            {},
            FLATTERED | RAW | {"the end of training could be chosen"},
        ),
        ({}, {}, FLATTERED | RAW | {"the epoch that ships may have been chosen"}),
        (
            {"select": "last"},
            {"threshold": 0.4},
            {
                "`val` chose nothing that changes these figures.",
                "The recipe keeps the last epoch",
                "The threshold below which a prediction counts as uncertain was fitted on it.",
                "No temperature was fitted",
            },
        ),
        (
            {"select": "val_loss"},
            {"threshold": 0.4},
            FLATTERED
            | {
                "the epoch that ships was chosen",
                "The threshold below which a prediction counts as uncertain was fitted on it.",
                "The same images selected the epoch that ships.",
                "No temperature was fitted",
            },
        ),
        (
            {"select": "last"},
            {"prior": 0.0, "threshold": 0.4},
            FLATTERED
            | {
                "temperatures, logit biases and thresholds were fitted",
                "int8 was judged against float32",
                "The figures of calibration are cross-fitted",
            },
        ),
        (
            {"select": "last"},
            {"prior": 20.0, "threshold": 0.4},
            FLATTERED
            | {
                "temperatures and thresholds were fitted",
                "int8 was judged against float32",
                "The figures of calibration are cross-fitted",
            },
        ),
    ],
)
def test_what_val_chose_follows_from_the_recipe(
    recipe: dict[str, Any], options: dict[str, float], wanted: set[str]
) -> None:
    text = said_of(recipe, **options)
    said = {each for each in CHOSEN if each in text}
    assert said == {each for each in CHOSEN if any(each.startswith(start) for start in wanted)}


@pytest.mark.parametrize(
    ("after", "says"), [(0.4, "is worse than"), (0.5, "is as good as"), (0.6, "is better than")]
)
def test_a_model_is_held_beside_the_one_it_began_from(after: float, says: str) -> None:
    began = model_files.Began(
        name="older",
        n=77,
        accuracy=0.5,
        accuracy_interval=(0.41, 0.59),
        learnt=after > 0.5,
        after=after,
        after_interval=(0.31, 0.69),
    )
    text = " ".join(model_cards.model(model(began=began), evaluation()).split())
    assert says in text
    assert ("older learnt from these images" in text) == (after > 0.5)
    assert began.worse == (after < 0.5)
    assert "it began from" not in model_cards.model(model(), evaluation())


def test_a_model_at_chance_says_so() -> None:
    assert "better than chance" not in model_cards.model(model(), evaluation())
    poor = {name: dataclasses.replace(each, at_chance=name == "ferplus") for name, each in TWO.items()}
    text = " ".join(model_cards.model(model(heads=poor), evaluation()).split())
    assert "`tried` with head `ferplus` is not significantly better than always predicting" in text
    assert "head `fer2013` is better than always" not in text


def test_a_calibration_on_few_images_says_so() -> None:
    document = evaluation()
    assert "Few images" not in model_cards.model(model(), document)
    each_head(document)["ferplus"]["calibration"]["prior"] = 20.0
    text = " ".join(model_cards.model(model(), document).split())
    n = each_head(document)["ferplus"]["calibration"]["n"]
    assert f"head `ferplus` was calibrated on {n:,} images, fewer than {calibration.FEW} per class" in text
    assert "head `fer2013` was calibrated on" not in text


def test_one_head_without_votes_or_calibration_says_so() -> None:
    document = evaluation(heads=("labels",))
    each_head(document)["labels"] |= {"calibration": None, "quantization": None}
    each_head(document)["labels"] |= {"agreement": None, "data": "mine"}
    own = Data(name="mine", fingerprint="0" * 64, splits={"val": Part(n=613, fingerprint=fingerprint("val"))})
    text = model_cards.model(
        model(heads=model_files.ONE_HEAD, data=own, excluded={}, parity=None, recipe={"select": "val_loss"}),
        document,
    )
    flat = " ".join(text.split())
    assert "The model has one output head: the data set's own labels." in flat
    assert "No temperature was fitted" in flat
    assert "No threshold was fitted either." in flat
    assert "No image was left out of training." in flat
    assert "the epoch that ships was chosen" in flat
    assert "If these images are those of FER2013, under any file name" in flat
    assert "What it was trained on is not recorded." in flat
    for absent in ("int8 beside float32", "PublicTest", "FER+", "ferplus", "| network |", "| exported |"):
        assert absent not in flat, absent


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., runs.Run]:
    """Make a run of two classes of one's own, with its bundle and the report on val."""
    onnx = pytest.importorskip("onnx", reason="making a model by hand needs mien[train]")
    assert onnx
    from test_model_files import LABELS as OWN
    from test_model_files import MODEL, SIZE

    def make(**changes: Any) -> runs.Run:
        known = Data(
            name="faces",
            fingerprint=fingerprint("all"),
            splits={
                "train": Part(n=90, fingerprint=fingerprint("train")),
                "val": Part(n=613, fingerprint=fingerprint("val")),
            },
        )
        data = {
            "name": "faces",
            "fingerprint": fingerprint("all"),
            "splits": {
                "train": {"n": 90, "fingerprint": fingerprint("train")},
                "val": {"n": 613, "fingerprint": fingerprint("val")},
            },
            "problems": [{"file": f"bad/{HOSTILE}-{n}.png", "reason": "it is empty"} for n in range(12)],
            "excluded": {"blank": 4},
            "notes": ["the source has no val"],
            "origin": {"source": "/somewhere/private/faces"},
        }
        facts = {"schema": 1, "data": data, "teacher": {"about": "three large ones", "sha256": "0"}} | changes
        new = runs.create(recipes.get("quick"), facts, out=tmp_path / "run")
        written = model_files.write(
            MODEL, Card(name="run", labels=OWN, size=SIZE, data=known, excluded={"blank": 4}), new.bundle
        )
        scored, _ = report("labels", 5, labels=OWN, votes=False)
        scored = dataclasses.replace(scored, data="faces", model=written.card.sha256)
        new.keep_report(scored.to_dict())
        return new

    return make


def test_a_run_on_own_data_has_both_pages(
    made: Callable[..., runs.Run], capsys: pytest.CaptureFixture[str]
) -> None:
    new = made()
    assert cli.run(["card", str(new.path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        str(new.path / "model-card.md"),
        str(new.path / "datasheet.md"),
    ]
    page = (new.path / "model-card.md").read_text(encoding="utf-8")
    assert page == model_cards.of_run(new)
    kept = json.loads(next(new.evaluation.glob("*.json")).read_text())
    assert f"{100 * kept['accuracy']:.1f} %" in page
    assert "| teachers | three large ones |" in page
    assert "This page has no split that was kept out of every choice" in " ".join(page.split())
    sheet = (new.path / "datasheet.md").read_text(encoding="utf-8")
    assert sheet == model_cards.datasheet(new)
    assert sheet.startswith("# Datasheet: faces\n")
    assert re.findall(r"^## (.*)$", sheet, re.MULTILINE) == [
        "Motivation",
        "Composition",
        "Collection process",
        "Preprocessing, cleaning and labelling",
        "Uses",
        "Distribution",
        "Maintenance",
        "Ethical considerations",
    ]
    assert "| it is empty | 12 |" in sheet
    assert "The first of them:" in sheet
    assert "*Under what licence" in sheet
    assert "| happy | " in sheet
    assert "<img" not in html(sheet)
    for text in (page, sheet):
        assert "/somewhere" not in text
        assert "private" not in text
        assert "FER2013 was" not in text


def test_a_datasheet_counts_the_training_images_of_each_class(made: Callable[..., runs.Run]) -> None:
    from test_model_files import LABELS as OWN

    new = made()
    before = model_cards.datasheet(new)
    assert "| class | val |" in before, "a run that did not count has what was scored"
    facts = new.facts()
    numbers = {"train": range(10, 10 + len(OWN)), "val": range(200, 200 + len(OWN))}
    counts = {split: dict(zip(OWN, which, strict=True)) for split, which in numbers.items()}
    facts["data"]["classes"] = counts
    new.update(data=facts["data"])
    sheet = model_cards.datasheet(new)
    assert "| class | train | val |" in sheet
    for label in OWN:
        assert f"| {label} | {counts['train'][label]} | {counts['val'][label]} |" in sheet
    total = [f"{sum(each.values()):,}" for each in counts.values()]
    assert f"| all | {total[0]} | {total[1]} |" in sheet


def test_a_run_on_fer2013_has_its_datasheet_filled_in(made: Callable[..., runs.Run]) -> None:
    new = made(
        data={
            "name": "fer2013.csv",
            "fingerprint": "0" * 64,
            "splits": {"val": {"n": 5, "fingerprint": "1" * 64}},
        },
        teacher=None,
    )
    shutil.rmtree(new.evaluation)
    whole = model_files.load(new.bundle)
    recipe = {"targets": {"votes": 0.3}}
    named = dataclasses.replace(
        whole.card, data=Data(name="fer2013.csv", fingerprint="0" * 64), recipe=recipe
    )
    model_files.write(whole.read(), named, new.bundle)
    sheet, page = model_cards.datasheet(new), model_cards.of_run(new)
    assert sheet.startswith("# Datasheet: FER2013\n")
    assert "gathered by web search" in sheet
    assert "microsoft/FERPlus" in sheet
    assert "No image was left out of training." in sheet
    assert not re.search(r"^- \*\w", sheet, re.MULTILINE)
    assert page.count("There is no evaluation yet") == 2
    assert "model-index" not in page


def test_reports_of_a_run_are_read_in_order_and_with_all_heads(made: Callable[..., runs.Run]) -> None:
    new = made()
    file = next(new.evaluation.glob("*.json"))
    kept = json.loads(file.read_text())
    (new.evaluation / "test.json").write_text(json.dumps(kept | {"split": "test", "n": 4_321}))
    elsewhere = kept | {"data": "others"}
    (new.evaluation / "other.json").write_text(json.dumps(elsewhere | {"heads": {"labels": elsewhere}}))
    text = model_cards.of_run(new)
    told = re.findall(r"^### Each class: .* on (.*)$", text, re.MULTILINE)
    assert told == ["val", "test", "val of others", "val of others"]
    assert "`test` is more reliable if nothing was chosen with it." in " ".join(text.split())


def test_groups_that_were_scored_stand_on_the_page(made: Callable[..., runs.Run]) -> None:
    new = made()
    assert "no figure is broken down by them" in " ".join(model_cards.of_run(new).split())
    file = next(new.evaluation.glob("*.json"))
    kept = json.loads(file.read_text())
    names = ("accuracy", "balanced_accuracy", "macro_f1")
    figures = dict.fromkeys(names, 0.4321) | {f"{name}_interval": [0.4, 0.5] for name in names}
    group = {"name": "ol|d", "n": 17, "few": True, **figures}
    groups = {"file": "ages.csv", "column": "age", "unlisted": 3, "groups": [group]}
    file.write_text(json.dumps(kept | {"groups": groups}))
    flat = " ".join(model_cards.of_run(new).split())
    assert "broken down by them" not in flat
    assert "and groups by age. No figure is broken down by another factor" in flat
    assert "17, too few images" in flat
    assert "43.2 %" in flat or "43.2%" in flat
    file.write_text(json.dumps(kept | {"groups": groups | {"groups": [group] * 25}}))
    assert "25 groups, too many for this page" in model_cards.of_run(new)
    file.write_text(json.dumps(kept | {"groups": {"file": 1}}))
    with pytest.raises(RunError, match="'groups"):
        model_cards.of_run(new)


def test_reports_that_do_not_belong_to_a_run_are_refused(
    made: Callable[..., runs.Run], capsys: pytest.CaptureFixture[str]
) -> None:
    new = made()
    file = next(new.evaluation.glob("*.json"))
    good = file.read_text()
    for text, says in (
        ("{", "is damaged"),
        ("[]", "is not a report"),
        (json.dumps(json.loads(good) | {"accuracy": "high"}), "'accuracy'"),
        (json.dumps(json.loads(good) | {"labels": ["a", "b"]}), "has the classes a, b, the model happy, sad"),
        (json.dumps(json.loads(good) | {"head": "mine"}), "has the head 'mine', the model labels"),
        (json.dumps(json.loads(good) | {"heads": [1]}), "'heads'"),
        (json.dumps(json.loads(good) | {"confusion": [[1]]}), "has a confusion"),
        (json.dumps(json.loads(good) | {"model": "0" * 64}), "is the evaluation of another model file"),
    ):
        file.write_text(text)
        with pytest.raises(RunError, match=says):
            model_cards.of_run(new)
    file.write_text(good)
    new.update(data={"name": "faces"})
    with pytest.raises(RunError, match=r"run\.json of 'run' is not valid at 'data\.fingerprint'"):
        model_cards.datasheet(new)
    shutil.rmtree(new.bundle)
    with pytest.raises(RunError, match=r"has no model yet.*mien train --resume"):
        model_cards.of_run(new)
    assert cli.run(["card", str(new.path)]) == 2
    assert not (new.path / "model-card.md").exists()
    assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of two shipped models, one of them named as the package names one."""
    pytest.importorskip("onnx", reason="making a model by hand needs mien[train]")
    from test_model_files import LABELS as OWN
    from test_model_files import MODEL, SIZE

    for name in ("another", "fast"):
        written = model_files.write(
            MODEL, Card(name=name, labels=OWN, size=SIZE), tmp_path / "models" / f"{name}.onnx"
        )
        scored, calibration = report("labels", 7, labels=OWN, votes=False)
        found = dataclasses.replace(scored, model=written.card.sha256, calibration=calibration)
        document = {"schema": 2, "sha256": written.card.sha256, "bytes": 1_234}
        document["evaluation"] = found.to_dict()
        (tmp_path / "models" / f"{name}.json").write_text(json.dumps(document))
    return tmp_path / "models"


def test_the_command_takes_a_file_or_a_folder_of_shipped_models(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(model_files, "SHIPPED", ("default", "fast"))
    pairs = model_cards.shipped(folder)
    assert [each.card.name for each, _ in pairs] == ["fast", "another"]
    whole = model_cards.models(pairs)
    assert cli.run(["card", str(folder)]) == 0
    assert capsys.readouterr().out == whole
    to = tmp_path / "docs" / "page.md"
    assert cli.run(["card", str(folder), "--to", str(to), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"models": ["fast", "another"], "model_card": str(to), "datasheet": None}
    assert to.read_text(encoding="utf-8") == whole
    assert cli.run(["card", str(folder / "another.onnx"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["text"] == model_cards.model(*pairs[1])
    assert not (folder / "model-card.md").exists()


def test_what_the_command_refuses(
    folder: Path, made: Callable[..., runs.Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken").write_text("")
    new = made()
    (folder / "another.json").write_text("[]")
    (folder / "third.onnx").write_bytes((folder / "fast.onnx").read_bytes())
    (folder / "fourth.onnx").write_bytes((folder / "fast.onnx").read_bytes())
    (folder / "fourth.json").write_text("{")
    for arguments, says in (
        ([tmp_path / "empty"], "neither a run nor a folder with models"),
        ([folder / "another.onnx"], "is not an evaluation"),
        ([folder / "third.onnx"], "has no evaluation 'third.json'"),
        ([folder / "fourth.onnx"], "cannot be read"),
        ([folder / "none.onnx"], "there is no"),
        ([folder / "fast.onnx", "--to", tmp_path / "taken" / "page.md"], "cannot be written"),
        ([new.path, "--to", tmp_path / "datasheet.md"], "datasheet.md"),
    ):
        assert cli.run(["card", *map(str, arguments)]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert says in captured.err
        assert captured.err.count("\n") == 1


def test_a_run_can_have_its_pages_elsewhere(
    made: Callable[..., runs.Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = made()
    to = tmp_path / "pages" / "card.md"
    assert cli.run(["card", str(new.path), "--to", str(to), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"models": ["run"], "model_card": str(to), "datasheet": str(to.parent / "datasheet.md")}
    assert to.read_text(encoding="utf-8") == model_cards.of_run(new)


def test_models_of_the_package_are_called_by_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(model_files, "MODELS", folder)
    monkeypatch.setattr(model_files, "SHIPPED", ("default", "fast"))
    assert cli.run(["card", "fast"]) == 0
    assert capsys.readouterr().out == model_cards.models(model_cards.shipped(folder / "fast.onnx"))


def test_a_card_changes_nothing_it_is_given() -> None:
    document = evaluation()
    before = copy.deepcopy(document)
    model_cards.model(model(), document)
    assert document == before
