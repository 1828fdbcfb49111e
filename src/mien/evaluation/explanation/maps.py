"""The maps: what each pixel did for an answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from mien.errors import InputError
from mien.evaluation.explanation.onnx_graph import Dense, Graph, Grid
from mien.models.model import Bundle
from mien.models.priors import Adjustment, as_groups, as_prior

Method = Literal["cam", "occlusion"]
METHODS: tuple[Method, ...] = get_args(Method)

# The spot that occlusion hides, and how far it moves, in sides of the face (measured: docs/explain.md).
_SPOT, _STEP = 1 / 16, 1 / 16
# How far hidden pixels are blurred, in sides of the face: no feature of a face is left at that.
_BLUR = 1 / 6
#: Probability below which an emotion is close to nothing: hardly any of its map is painted.
NEAR_ZERO = 0.01
# A sum of probabilities is taken for this at least.
_LEAST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Explanation:
    """Why a model gave one of its answers to a face.

    Args:
        emotion: The answer that is explained.
        scores: Probability of each emotion, in the model's order; they sum to 1.
        map: `(size, size)` float32 in [0, 1]: what each pixel did for the answer, the most being 1; pixels
            that did nothing for it or spoke against it are 0. All 0 where nothing speaks for the answer.
        method: How the map was made.
        head: Which of the model's heads answered.
    """

    emotion: str
    scores: Mapping[str, float]
    map: NDArray[np.float32]
    method: Method
    head: str

    @property
    def score(self) -> float:
        """The probability of the emotion that is explained."""
        return self.scores[self.emotion]

    @property
    def answer(self) -> str:
        """The likeliest emotion; of equal ones the first."""
        return max(self.scores, key=self.scores.__getitem__)

    @property
    def strength(self) -> float:
        """The probability of the explained emotion over that of the answer, in [0, 1]; 1 for the answer.

        Pictures are painted with the map times this, because the map alone reaches 1 for every emotion, also
        for one that the model gives 0 %.
        """
        return self.score / max(self.scores[self.answer], _LEAST)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON holds of an explanation: all but the map."""
        return {
            "emotion": self.emotion,
            "score": self.score,
            "answer": self.answer,
            "strength": self.strength,
            "scores": dict(self.scores),
            "method": self.method,
            "head": self.head,
        }


def face(
    bundle: Bundle,
    image: NDArray[np.uint8],
    *,
    emotion: str | None = None,
    head: str | None = None,
    method: Method | None = None,
    progress: Callable[[int, int], None] | None = None,
    balance: float | None = None,
    prior: Mapping[str, float] | str | None = None,
    groups: Mapping[str, Sequence[str]] | str | None = None,
) -> Explanation:
    """Explain what a model says of one face.

    Args:
        bundle: The model as it ships.
        image: `(size, size, 1)` uint8 in [0, 255], as `images.fit` and `images.cut` make it.
        emotion: Which answer to explain; None for the likeliest.
        head: Which of the model's heads answers; None for the one that `mien predict` takes: `ferplus`
            where the model has it, else the first.
        method: One of `METHODS`; None for `cam` where the model's head allows it, else `occlusion`.
        progress: Called with (faces run, faces in all); `cam` runs one.
        balance: As `mien.inference.predictor.Predictor` takes it; None for the card's choice.
        prior: As `mien.inference.predictor.Predictor` takes it.
        groups: As `mien.inference.predictor.Predictor` takes it; then a group can be explained.

    Raises:
        InputError: There is no such emotion or method, the head does not allow `cam`, or balance, prior or
            groups cannot be used with the model.
        ModelError: The image is of another shape or type, or the model has no such head.

    Source: cam: Zhou et al. 2016, arXiv:1512.04150; occlusion: Zeiler and Fergus 2014, arXiv:1311.2901.
    """
    if method is not None and method not in METHODS:
        raise InputError(f"{method!r} is no way to explain; mien knows {', '.join(METHODS)}")
    head = bundle.card.photo_head(head)
    stated = bundle.card.head(head)
    output = stated.output
    prior, groups = as_prior(prior), as_groups(groups)
    balance = stated.balance_for(balance, prior)
    adjustment = Adjustment(balance=balance, prior=prior, groups=groups)
    adjustment.check(bundle.card.labels, stated.frequencies)
    names = adjustment.names(bundle.card.labels)
    single = bundle.run(image[np.newaxis], head=head, balance=balance, prior=prior)
    chances = adjustment.group(single, bundle.card.labels)[0]
    if emotion is not None and emotion not in names:
        raise InputError(f"the model has no answer {emotion!r}; it knows {', '.join(names)}")
    index = int(chances.argmax()) if emotion is None else names.index(emotion)
    dense, grid = None, None
    if method != "occlusion":
        graph = Graph(bundle.read())
        dense, grid = graph.dense(output), graph.grid()
    if method == "cam" and dense is None:
        raise InputError(
            f"the model {bundle.card.name!r} does not answer from the mean of its features; use occlusion"
        )
    if dense is not None:
        # How the logarithm of a sum of probabilities changes with each of their logits.
        share = single[0] * adjustment.members(bundle.card.labels)[:, index]
        evidence = _cam(bundle, image, dense, grid, share / max(float(share.sum()), _LEAST))
        if progress is not None:
            progress(1, 1)
    else:
        evidence = _occlusion(bundle, image, head, index, progress, adjustment)
    scores = {name: float(chance) for name, chance in zip(names, chances, strict=True)}
    return Explanation(names[index], scores, _normal(evidence), "occlusion" if dense is None else "cam", head)


def hide(image: NDArray[np.uint8], where: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Hide a part of a face behind its own strong blur, which leaves brightness but no features.

    Args:
        image: `(size, size, 1)` uint8 in [0, 255].
        where: `(size, size)` in [0, 1]; 1 hides a pixel, 0 leaves it as it is.

    Returns:
        `(size, size, 1)`, 0..255.

    Source: Fong and Vedaldi 2017, arXiv:1704.03296.
    """
    hidden: NDArray[np.uint8] = _hidden(image, where[np.newaxis])[0]
    return hidden


def _hidden(image: NDArray[np.uint8], spots: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    radius = image.shape[0] * _BLUR
    blurred = np.asarray(Image.fromarray(image[:, :, 0]).filter(ImageFilter.GaussianBlur(radius)), np.float32)
    mixed = image[:, :, 0] * (1 - spots) + blurred * spots
    whole: NDArray[np.uint8] = np.rint(mixed).astype(np.uint8)
    return whole[..., np.newaxis]


def _cam(
    bundle: Bundle,
    image: NDArray[np.uint8],
    dense: Dense,
    grid: Grid | None,
    share: NDArray[np.floating[Any]],
) -> NDArray[np.float32]:
    """Return what each pixel's feature cell adds to the answer's logit above the mean of all logits.

    The mean of all logits is taken off because a softmax does not see it. Of a group of emotions, the mean of
    their logits counts, by `share` `(k,)`, which sums to 1.
    """
    features = bundle.features(image[np.newaxis])[0]
    weights = dense.weights @ share - dense.weights.mean(axis=1)
    cells = features @ weights
    size = image.shape[0]
    if grid is None:
        step = (size / cells.shape[0], size / cells.shape[1])
        grid = Grid((step[0] / 2 - 0.5, step[1] / 2 - 0.5), step)
    down, right = (
        _spread(size, count, first, step)
        for count, first, step in zip(cells.shape, grid.first, grid.step, strict=True)
    )
    evidence: NDArray[np.float32] = (down @ cells @ right.T).astype(np.float32)
    return evidence


def _spread(size: int, cells: int, first: float, step: float) -> NDArray[np.float64]:
    """Return the share `(size, cells)` of each cell in each pixel: linear between middles, flat beyond."""
    middles = first + step * np.arange(cells)
    return np.stack([np.interp(np.arange(size), middles, each) for each in np.eye(cells)], axis=1)


def _occlusion(
    bundle: Bundle,
    image: NDArray[np.uint8],
    head: str,
    index: int,
    progress: Callable[[int, int], None] | None,
    adjustment: Adjustment,
) -> NDArray[np.float32]:
    """Return by how much hiding each pixel's surroundings lowers the log-odds of an answer."""
    size = image.shape[0]
    pixels = np.arange(size)
    middles = np.arange(round(size * _STEP) / 2 - 0.5, size, max(1, round(size * _STEP)))
    across = np.exp(-(((pixels - middles[:, np.newaxis]) / (size * _SPOT)) ** 2) / 2)
    spots = np.einsum("iy,jx->ijyx", across, across).reshape(-1, size, size)
    hidden = np.concatenate([image[np.newaxis], _hidden(image, spots)])
    single = bundle.run(
        hidden, head=head, progress=progress, balance=adjustment.balance, prior=adjustment.prior
    )
    odds = _log_odds(adjustment.group(single, bundle.card.labels), index)
    falls = odds[0] - odds[1:]
    shares = np.tensordot(falls, spots, axes=1) / spots.sum(axis=0)
    evidence: NDArray[np.float32] = shares.astype(np.float32)
    return evidence


def _log_odds(chances: NDArray[np.floating[Any]], index: int) -> NDArray[np.float64]:
    least = np.finfo(np.float32).tiny
    others = np.delete(chances, index, axis=1).sum(axis=1, dtype=np.float64)
    odds: NDArray[np.float64] = np.log(np.maximum(chances[:, index], least)) - np.log(
        np.maximum(others, least)
    )
    return odds


def _normal(evidence: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale what speaks for an answer to [0, 1]; what speaks against it becomes 0."""
    most = evidence.max()
    return np.zeros_like(evidence) if most <= 0 else np.clip(evidence / most, 0, 1)
