"""The command for a server: `serve`."""

from pathlib import Path
from typing import Annotated

import typer

from mien.cli import common

_SECONDS = "SECONDS"


def serve(
    model: common.ModelOption = None,
    host: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="Listen on this address; 0.0.0.0 means all of this machine."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", help="Listen on this port; 0 means any free one.")] = 8000,
    detector: common.DetectorName = None,
    workers: Annotated[int, typer.Option(metavar="N", help="Number of processes.")] = 1,
    threads: Annotated[
        int | None,
        typer.Option(metavar="N", help="Threads of a process that detect faces; by default its cores."),
    ] = None,
    queue: Annotated[
        int, typer.Option(metavar="N", help="Requests in a process; more are refused with 503.")
    ] = 64,
    max_mib: Annotated[int, typer.Option(metavar="N", help="Largest body of a request in MiB.")] = 32,
    max_pixels: Annotated[int, typer.Option(metavar="N", help="Most pixels of an image.")] = 40_000_000,
    max_images: Annotated[int, typer.Option(metavar="N", help="Most images of a request.")] = 128,
    deadline: Annotated[
        float, typer.Option(metavar=_SECONDS, help="Longest time from a request to its answer.")
    ] = 30.0,
    drain: Annotated[
        float,
        typer.Option(metavar=_SECONDS, help="After a signal: longest time for requests that have begun."),
    ] = 20.0,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Answer only requests with a token of this file, one a line."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="Pages of this origin may use the server. Repeatable."),
    ] = None,
    root_path: Annotated[
        str, typer.Option(metavar="PATH", help="Path of the server behind a proxy, such as /faces.")
    ] = "",
    site: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of mien export --format web: the page can then analyse photos in the browser.",
        ),
    ] = None,
    forwarded_from: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS", help="Trust the forwarding headers of this proxy. Repeatable."),
    ] = None,
    json: common.Json = False,
) -> int:
    """Answer predictions over HTTP."""
    from mien.server import processes, settings

    chosen = settings.Settings(
        threads=threads,
        queue=queue,
        limits=settings.Limits(
            body=max_mib << 20,
            # A compressed body counts twice.
            bodies=max(settings.Limits.bodies, 2 * max_mib << 20),
            pixels=max_pixels,
            images=max_images,
        ),
        times=settings.Times(answer=deadline, drain=drain),
        tokens=() if token_file is None else settings.read_tokens(token_file),
        origins=settings.parts(allow_origin),
        root_path=root_path,
        site=site,
        forwarded_from=settings.parts(forwarded_from),
    )
    if not chosen.tokens and not settings.is_loopback(host):
        common.note(
            f"listening on {host} without a token: everyone who can reach it may use it; see --token-file"
        )

    def started(url: str) -> None:
        if json:
            common.emit({"url": url, "workers": workers, "threads": chosen.threads_of(workers)})
        else:
            common.out.print(f"mien serves on {url}{root_path} (Ctrl-C stops it)", markup=False)

    processes.serve(
        model, detector=detector, host=host, port=port, workers=workers, settings=chosen, on_start=started
    )
    processes.leave()
    return 0
