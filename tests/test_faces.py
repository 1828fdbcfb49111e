"""What a prediction is made of."""

import json

from mien.types import FLAGS, SCHEMA, Box, Face, Prediction

FACE = Face(Box(3, 4, 50, 60), 0.9, {"angry": 0.25, "happy": 0.5, "sad": 0.25}, ("small", "cut"))


def test_the_likeliest_emotion_answers_and_of_equal_ones_the_first() -> None:
    assert (FACE.emotion, FACE.confidence) == ("happy", 0.5)
    assert Face(Box(0, 0, 1, 1), None, {"sad": 0.5, "happy": 0.5}).emotion == "sad"
    assert FACE.box.area == 3000


def test_json_holds_everything() -> None:
    document = json.loads(json.dumps(Prediction("a.jpg", 640, 480, (FACE,)).to_dict()))
    assert document["schema"] == SCHEMA
    assert (document["source"], document["width"], document["height"]) == ("a.jpg", 640, 480)
    (face,) = document["faces"]
    assert Face(Box(**face["box"]), face["detected"], face["scores"], tuple(face["flags"])) == FACE
    assert (face["emotion"], face["confidence"]) == ("happy", 0.5)


def test_a_row_for_each_face_and_one_for_an_image_without() -> None:
    (row,) = Prediction("a.jpg", 640, 480, (FACE,)).rows()
    assert row["source"] == "a.jpg"
    assert row["face"] == 1
    assert (row["left"], row["top"], row["width"], row["height"]) == (3, 4, 50, 60)
    assert (row["angry"], row["happy"], row["sad"], row["flags"]) == (0.25, 0.5, 0.25, "small cut")
    assert Prediction("b.jpg", 1, 1, ()).rows() == [{"source": "b.jpg"}]
    assert Prediction.columns(FACE.scores) == {
        "source": "string",
        "face": "int64",
        "left": "int64",
        "top": "int64",
        "width": "int64",
        "height": "int64",
        "detected": "float32",
        "emotion": "string",
        "confidence": "float32",
        **dict.fromkeys(FACE.scores, "float32"),
        "flags": "string",
    }


def test_flags_are_the_four_that_are_documented() -> None:
    assert FLAGS == ("uncertain", "small", "blurred", "cut")
