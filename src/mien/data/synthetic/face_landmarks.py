"""Landmarks: where a face's actions put its brows, lids, nose and lips.

Coordinates are x to the image's right and y down, in half face heights, before the head is turned.
"""

from mien.data.synthetic.faces import Face

Point = tuple[float, float]


def landmarks(face: Face) -> dict[str, Point]:
    """Place the points that actions move.

    Returns:
        `left_` and `right_` (in the image) of `brow_inner`, `brow_middle`, `brow_outer`, `eye_inner`,
        `eye_outer`, `lid_upper`, `lid_lower`, `nostril`, `mouth`; and `lip_top`, `lip_upper`, `lip_lower`,
        `lip_bottom` down the middle of the mouth, `nose_tip`, `chin`.
    """
    head = face.head
    points: dict[str, Point] = {}
    for name, side in (("left", -1), ("right", 1)):
        for part, (x, y) in _half(face, side).items():
            points[f"{name}_{part}"] = (side * x, y)
    act = face.actions
    middle = head.mouth_down + 0.02 * act.au12 - 0.06 * act.au17 - 0.04 * act.au9 + 0.02 * act.au15
    thin = 1 - 0.45 * act.au23 - 0.45 * act.au24
    upper = middle - 0.03 * act.au25 - 0.09 * act.au10 - 0.05 * act.au26
    lower = middle + 0.09 * act.au25 + 0.30 * act.au26 + 0.03 * act.au12 * act.au25 - 0.02 * act.au10
    lower = max(lower, upper)
    full_upper = head.lips * (1 - 0.3 * act.au12 + 0.15 * act.au10)
    full_lower = head.lips * 1.25 * (1 - 0.2 * act.au12 + 0.25 * act.au17)
    points["lip_top"] = (0.0, upper - full_upper * max(0.15, thin))
    points["lip_upper"] = (0.0, upper)
    points["lip_lower"] = (0.0, lower)
    points["lip_bottom"] = (0.0, lower + full_lower * max(0.15, thin))
    points["nose_tip"] = (0.0, head.nose_tip - 0.03 * act.au9)
    points["chin"] = (0.0, head.chin + 0.20 * act.au26 - 0.03 * act.au17)
    return points


def _half(face: Face, side: int) -> dict[str, Point]:
    """Place one half's points as if it were the right one (x grows outward)."""
    head = face.head
    act = face.actions.scaled(1 + side * head.lopsided) if head.lopsided else face.actions
    eye_y = -0.12
    brow_y = eye_y - head.brow
    # The corrugator draws the brows together; where the frontalis lifts their inner ends, it loses.
    inner = -0.20 * act.au1 + 0.16 * act.au4 * (1 - 0.85 * act.au1) + 0.05 * act.au9
    bend = -0.10 * act.au1 * (1 - 0.7 * act.au4) - 0.11 * act.au2 + 0.10 * act.au4 + 0.06 * act.au9
    outer = -0.13 * act.au2 + 0.02 * act.au4 + 0.06 * act.au1 * act.au4 * (1 - act.au2)
    upper = head.eye_open * max(0.12, 1 + 0.95 * act.au5 - 0.45 * act.au7 - 0.3 * act.au6 - 0.3 * act.au9)
    lower = head.eye_open * (0.6 + 0.2 * act.au5 - 0.45 * act.au7 - 0.75 * act.au6 - 0.4 * act.au9)
    wide = 1 + 0.32 * act.au12 + 0.34 * act.au20 - 0.20 * act.au23 - 0.08 * act.au24
    wide -= 0.32 * act.au26 * (1 - act.au20) + 0.06 * act.au17
    corner = head.mouth_down + head.mouth_bow - 0.21 * act.au12 + 0.17 * act.au15 + 0.05 * act.au20
    return {
        "brow_inner": (head.eye_apart - 0.20 - 0.07 * act.au4, brow_y + 0.01 + inner),
        "brow_middle": (head.eye_apart + 0.02, brow_y - head.brow_arch + bend),
        "brow_outer": (head.eye_apart + 0.25, brow_y + 0.04 + outer),
        "eye_inner": (head.eye_apart - head.eye_width, eye_y + head.eye_tilt / 2),
        "eye_outer": (head.eye_apart + head.eye_width, eye_y - head.eye_tilt / 2),
        "lid_upper": (head.eye_apart, eye_y - upper),
        "lid_lower": (head.eye_apart, eye_y + max(lower, 0.02 - upper)),
        "nostril": (head.nose * (1 + 0.12 * act.au9 + 0.05 * act.au12), head.nose_tip - 0.05 * act.au9),
        "mouth": (head.mouth * wide, corner + 0.12 * act.au26 * (1 - act.au12)),
    }
