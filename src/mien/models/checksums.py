"""Hashes inside a model's file, by which one that stands alone is known to be whole.

`write` leaves three entries in the ONNX file's metadata: the card, the sha256 of the model, which is all of
the file but its metadata, and the sha256 of the card's own text. So what other programs note in the metadata
changes nothing. A file from before there were such hashes has the card alone, and is read without them.
"""

import hashlib

from mien.errors import ModelError
from mien.models import checks as onnx_file

#: Under what keys the card and the two hashes stand.
KEY, MODEL_KEY, CARD_KEY = "mien.card", "mien.sha256.model", "mien.sha256.card"


def write(model: bytes, card: bytes) -> bytes:
    """Return the file with `card` and the hashes inside, replacing those that it had.

    Raises:
        ModelError: The bytes are no protobuf message.
    """
    entries = {KEY: card, MODEL_KEY: _of_model(model), CARD_KEY: _of(card)}
    for key, value in entries.items():
        model = onnx_file.write_entry(model, key, value)
    return model


def read(model: bytes, name: str) -> bytes:
    """Return the card inside a file, once the file is known to be as it was written.

    Args:
        model: The file's bytes.
        name: Its name, for messages.

    Raises:
        ModelError: The bytes are no protobuf message, hold no card, or are not those that were written.
    """
    try:
        card, *kept = (onnx_file.read_entry(model, key) for key in (KEY, MODEL_KEY, CARD_KEY))
        own = _of_model(model)
    except ModelError as error:
        raise ModelError(f"{name!r} is no bundle: {error}") from None
    if kept != [None, None]:
        of_model, of_card = kept
        if of_model != own:
            raise _changed(name, "its model does not have the hash that it was written with")
        if card is None or of_card != _of(card):
            raise _changed(name, "its card does not have the hash that it was written with")
    if card is None:
        raise ModelError(f"{name!r} carries no card of mien's; export it with mien export")
    return card


def _of_model(model: bytes) -> bytes:
    return _of(*onnx_file.but_metadata(model))


def _of(*parts: bytes | memoryview) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest().encode()


def _changed(name: str, what: str) -> ModelError:
    return ModelError(f"{name!r} is damaged or was changed: {what}; get it anew, or export it again")
