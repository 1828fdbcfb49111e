# An image for training: everything of use.Dockerfile, with Keras, TensorFlow and the figures. docs/docker.md explains it.
#
#   docker build -f docker/train.Dockerfile -t mien-train .
#   docker run --rm --read-only --tmpfs /tmp --user "$(id -u):$(id -g)" -v "$PWD":/work mien-train train faces.zip
#
# For an NVIDIA GPU: --build-arg EXTRAS=nvidia,plot,parquet to build, and --gpus all to run.
# The base image has its tag, not its digest, because the digest changes with each security update. To fix it:
# --build-arg BASE=python:3.13-slim-trixie@sha256:...
ARG BASE=python:3.13-slim-trixie

FROM ${BASE} AS build
ARG EXTRAS=cpu,plot,parquet
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /source
# pip stays in an environment of its own, which the image does not have.
RUN python -m venv /pip && python -m venv --without-pip /opt/mien
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /pip/bin/pip --python /opt/mien/bin/python install "mien[${EXTRAS}] @ file:///source"

FROM ${BASE}
COPY --from=build /opt/mien /opt/mien
# What is cached or temporary is in /tmp, so that the file system can be read-only. Any user id works.
ENV PATH=/opt/mien/bin:$PATH \
    HOME=/tmp \
    KERAS_HOME=/tmp/keras \
    XDG_CACHE_HOME=/tmp/cache \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /work
# A training is not a service: its exit code says how it ended.
HEALTHCHECK NONE
ENTRYPOINT ["mien"]
CMD ["--help"]
