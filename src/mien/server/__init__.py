"""An HTTP server that predicts the emotions of faces: `mien serve`.

`app` has the routes, `service` the model and the threads that compute, `processes` runs the server. Every
request passes `admission`, which bounds how many are in the server. `connections` closes slow connections.

Needs the extra `serve` (Starlette, uvicorn, httptools and wsproto).
"""

from mien._lazy import submodules

_MODULES = (
    *("admission", "app", "batching", "connections", "metrics", "open_inference", "openapi"),
    *("pages", "payloads", "processes", "service", "settings", "streams"),
)

__getattr__, __dir__ = submodules(__name__, _MODULES)
