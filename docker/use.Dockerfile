# An image for using models: the server, and commands such as `mien predict`. docs/docker.md explains it.
#
#   docker build -f docker/use.Dockerfile -t mien .
#   docker run --rm --read-only -p 127.0.0.1:8000:8000 mien
#   docker run --rm --read-only --network none -v "$PWD":/work:ro mien predict photos/
#
# The base image has its tag, not its digest, because the digest changes with each security update. To fix it:
# --build-arg BASE=python:3.13-slim-trixie@sha256:...
ARG BASE=python:3.13-slim-trixie

FROM ${BASE} AS build
# More extras, such as EXTRAS=serve,parquet; the packages of video and heic hold code under the GPL.
ARG EXTRAS=serve
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /source
# pip stays in an environment of its own, which the image does not have.
RUN python -m venv /pip && python -m venv --without-pip /opt/mien
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /pip/bin/pip --python /opt/mien/bin/python install "mien[${EXTRAS}] @ file:///source"

FROM ${BASE}
COPY --from=build /opt/mien /opt/mien
COPY docker/healthy.py /opt/mien/healthy.py
# What is cached or temporary is in /tmp, so that the file system can be read-only. Any user id works.
ENV PATH=/opt/mien/bin:$PATH \
    HOME=/tmp \
    XDG_CACHE_HOME=/tmp/cache \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /work
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["python", "/opt/mien/healthy.py"]
ENTRYPOINT ["mien"]
CMD ["serve", "--host", "0.0.0.0"]
