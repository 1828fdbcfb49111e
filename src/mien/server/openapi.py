"""The description of the routes in OpenAPI 3.1."""

from typing import Any

from mien import __version__
from mien.models.card import Card
from mien.server.settings import Settings
from mien.types import FLAGS

_JSON = "application/json"


def describe(card: Card, settings: Settings) -> dict[str, Any]:
    """Return the OpenAPI document of a server with this model."""
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "mien serve",
            "version": __version__,
            "description": "Finds faces in images and predicts what emotion they show. No image is stored.",
        },
        "servers": [{"url": settings.root_path or "/"}],
        "paths": {**_images(card, settings), **_others(), **_protocol(card, settings)},
        "components": {"schemas": _schemas(card)},
    }
    if settings.tokens:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def _images(card: Card, settings: Settings) -> dict[str, Any]:
    predictions = {"type": "array", "items": {"anyOf": [_ref("Prediction"), _ref("Problem")]}}
    return {
        "/v1/predict": {
            "post": {
                "operationId": "predict",
                "summary": "Predict the emotions of the faces in images.",
                "description": "The answer is the JSON that mien predict --json prints.",
                "parameters": _options(card),
                "requestBody": _body(card, settings.limits.images),
                "responses": _responses(
                    "A prediction for each image, or a problem if it cannot be read.",
                    {_JSON: {"schema": predictions}},
                    *(400, 401, 408, 413, 415, 422, 503),
                ),
            }
        },
        "/v1/annotate": {
            "post": {
                "operationId": "annotate",
                "summary": "Mark the faces of one image.",
                "parameters": [
                    *_options(card),
                    _parameter(
                        "format", {"enum": ["png", "jpeg", "jpg"]}, "Format of the answer; png by default."
                    ),
                ],
                "requestBody": _body(card, 1),
                "responses": _responses(
                    "The image with its faces marked.",
                    {
                        kind: {"schema": {"type": "string", "format": "binary"}}
                        for kind in ("image/png", "image/jpeg")
                    },
                    *(400, 401, 408, 413, 415, 422, 503),
                ),
            }
        },
    }


def _others() -> dict[str, Any]:
    text = {"text/plain": {"schema": {"type": "string"}}}
    document = {_JSON: {"schema": {"type": "object"}}}
    return {
        "/v1/model": {"get": _get("model", "The card of the model.", document, 401)},
        "/healthz": {"get": _get("health", "Whether the process answers.", text)},
        "/readyz": {"get": _get("readiness", "Whether the server takes requests.", text, 503)},
        "/metrics": {"get": _get("metrics", "Counters for Prometheus.", text, 401)},
        "/openapi.json": {"get": _get("openapi", "This description.", document)},
    }


def _protocol(card: Card, settings: Settings) -> dict[str, Any]:
    document = {_JSON: {"schema": {"type": "object"}}}
    named = [{"name": "model", "in": "path", "required": True, "schema": {"enum": [card.name]}}]
    named[0]["description"] = "The name of the model."
    size = card.size
    tensor = {
        "name": {"const": "images"},
        "datatype": {"const": "UINT8"},
        "shape": {
            "type": "array",
            "prefixItems": [
                {"type": "integer", "minimum": 1, "maximum": settings.limits.crops},
                *({"const": side} for side in (size, size, 1)),
            ],
            "minItems": 4,
            "maxItems": 4,
        },
        "data": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}},
    }
    output = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"enum": [head.output for head in card.heads.values()]}},
    }
    schema = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string", "maxLength": 200},
            "inputs": {"type": "array", "items": _object(tensor), "minItems": 1, "maxItems": 1},
            "outputs": {"type": "array", "items": output, "maxItems": len(card.heads)},
        },
    }
    infer = {
        "operationId": "infer",
        "summary": "Return the probabilities of crops by the Open Inference Protocol.",
        "description": "Numbers can be bytes behind the JSON (the binary tensor data extension).",
        "parameters": named,
        "requestBody": {"required": True, "content": {_JSON: {"schema": schema}}},
        "responses": _responses("The probabilities.", document, 400, 401, 404, 408, 413, 415, 503),
    }
    empty: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}
    about = _get("protocolModel", "The description of the model.", document, 401, 404)
    ready = _get("protocolModelReady", "Whether the model answers.", empty, 401, 404, 503)
    return {
        "/v2": {"get": _get("protocol", "The description of the server.", document, 401)},
        "/v2/health/live": {"get": _get("protocolLive", "Whether the process answers.", empty)},
        "/v2/health/ready": {"get": _get("protocolReady", "Whether the server takes requests.", empty, 503)},
        "/v2/models/{model}": {"get": about | {"parameters": named}},
        "/v2/models/{model}/ready": {"get": ready | {"parameters": named}},
        "/v2/models/{model}/infer": {"post": infer},
    }


def _get(name: str, summary: str, content: dict[str, Any], *errors: int) -> dict[str, Any]:
    return {"operationId": name, "summary": summary, "responses": _responses(summary, content, *errors)}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _option_schemas(card: Card) -> dict[str, tuple[dict[str, Any], str]]:
    """Return the schema and the meaning of each option."""
    return {
        "head": ({"enum": list(card.heads)}, "The model's output head."),
        "balance": (
            {"type": "number", "minimum": 0, "maximum": 1},
            "0: emotions as frequent as in training; 1: equally frequent; by default the model's value.",
        ),
        "min_face": ({"type": "integer", "minimum": 1}, "Smallest face width in pixels."),
        "whole_image": ({"type": "boolean"}, "Treat each image as one cropped face; detect no faces."),
    }


def _options(card: Card) -> list[dict[str, Any]]:
    return [_parameter(name, *found) for name, found in _option_schemas(card).items()]


def _parameter(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": description}


def _body(card: Card, images: int) -> dict[str, Any]:
    options = {name: schema for name, (schema, _) in _option_schemas(card).items()}
    binary, base64 = {"type": "string", "format": "binary"}, {"type": "string", "contentEncoding": "base64"}

    def form(image: dict[str, Any], name: str) -> dict[str, Any]:
        listed = {"type": "array", "items": image, "minItems": 1, "maxItems": images}
        return {"type": "object", "required": [name], "properties": {name: listed, **options}}

    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": form(binary, "image")},
            _JSON: {"schema": form(base64, "images")},
            **{kind: {"schema": binary} for kind in ("image/jpeg", "image/png", "image/webp")},
            "application/octet-stream": {"schema": binary},
        },
    }


#: What a status means.
_MEANINGS = {
    400: "The request is not valid.",
    401: "The request needs a token.",
    404: "The server does not have this model.",
    408: "The body took too long.",
    413: "The body is too large, or it has too many images.",
    415: "The content type or content encoding is not supported.",
    422: "No image can be read.",
    503: "The server is busy; try again after the seconds in Retry-After.",
}


def _responses(description: str, content: dict[str, Any], *errors: int) -> dict[str, Any]:
    failed = {_JSON: {"schema": _ref("Error")}}
    return {
        "200": {"description": description, "content": content},
        **{str(status): {"description": _MEANINGS[status], "content": failed} for status in errors},
    }


def _schemas(card: Card) -> dict[str, Any]:
    share = {"type": "number", "minimum": 0, "maximum": 1}
    count = {"type": "integer", "minimum": 0}
    box = {"left": count, "top": count, "width": count, "height": count}
    face = {
        "box": _object(box),
        "detected": {"type": ["number", "null"]},
        "emotion": {"enum": list(card.labels)},
        "confidence": share,
        "scores": _object(dict.fromkeys(card.labels, share)),
        "flags": {"type": "array", "items": {"enum": list(FLAGS)}},
    }
    prediction = {
        "schema": {"const": 1},
        "source": {"type": "string"},
        "width": count,
        "height": count,
        "rotation": {"enum": [0, 90, 180, 270]},
        "faces": {"type": "array", "items": _ref("Face")},
    }
    return {
        "Face": _object(face),
        "Prediction": _object(prediction),
        "Problem": _object({"source": {"type": "string"}, "problem": {"type": "string"}}),
        "Error": _object({"error": {"type": "string"}}),
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}
