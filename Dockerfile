# Moorline in a container: `make image`, or any builder; what it expects at run time: docs/container.md.
#
# The first stages have pip, a compiler and mypy; the last one is the base image with one directory and one user
# added. Nothing runs in it, so it can be made for another platform without emulating that. All packages come with the
# hashes of the two lock files (`make lock`). A release names its base by digest.
ARG BASE_IMAGE=python:3.13-slim

# --- The packages that the broker needs -----------------------------------------------------------------------------

FROM ${BASE_IMAGE} AS packages
COPY requirements-image.lock /src/
# `kubernetes` brings all of itself a second time, for asyncio: 68 MB that we don't use. The lock file leaves out the
# packages that only that needs (`make lock`).
RUN python3 -m venv /tools && \
    python3 -m venv --without-pip /opt/moorline && \
    /tools/bin/pip --python /opt/moorline/bin/python --disable-pip-version-check install \
      --no-cache-dir --require-hashes --no-deps --only-binary :all: -r /src/requirements-image.lock && \
    rm -r /opt/moorline/lib/python3*/site-packages/kubernetes/aio

# --- The broker, compiled -------------------------------------------------------------------------------------------

FROM ${BASE_IMAGE} AS compiled
# A Python of Debian needs `python3-dev` as well; that of the official images brings its headers.
ARG COMPILER_PACKAGES="gcc libc6-dev"
# They are not in the image, so their versions need not be pinned; and they are several words, hence no quotes.
# hadolint ignore=DL3008,SC2086
RUN apt-get update && apt-get install -y --no-install-recommends ${COMPILER_PACKAGES} && \
    rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements-build.lock ./
RUN python3 -m venv /tools && \
    /tools/bin/pip --disable-pip-version-check install \
      --no-cache-dir --require-hashes --no-deps --only-binary :all: -r requirements-build.lock
COPY pyproject.toml setup.py README.md LICENSE ./
COPY broker ./broker
COPY cluster ./cluster
COPY loadtest ./loadtest
RUN CFLAGS=-g0 /tools/bin/pip --disable-pip-version-check wheel \
      --no-cache-dir --no-deps --no-build-isolation --wheel-dir /dist .
# setup.py goes on in pure Python if it can't compile; an image must not. Here and above pip writes the bytecode too:
# the file system of a container is read-only. Many packages come with symbols for a debugger, up to 12 MB each.
COPY --from=packages /opt/moorline /opt/moorline
RUN /tools/bin/pip --python /opt/moorline/bin/python --disable-pip-version-check install \
      --no-cache-dir --no-index --no-deps /dist/moorline-*.whl && \
    find /opt/moorline -name '*.so' -exec strip --strip-unneeded {} + && \
    /opt/moorline/bin/python -P -c "import broker; assert broker.build_mode() == 'compiled', 'not compiled'"

# --- The image ------------------------------------------------------------------------------------------------------

FROM ${BASE_IMAGE}
ARG BASE_IMAGE
ARG VERSION=
ARG REVISION=
LABEL org.opencontainers.image.title="Moorline" \
      org.opencontainers.image.description="A clustered MQTT broker on a Redis/Valkey backbone" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}"
COPY --from=compiled /opt/moorline /opt/moorline
# TMPDIR: where the processes of `--workers` meet. /dev/shm is writable in every container, /tmp need not be.
ENV PATH=/opt/moorline/bin:$PATH \
    TMPDIR=/dev/shm \
    MOORLINE_NODE__LISTEN=0.0.0.0:1883 \
    MOORLINE_NODE__ADMIN=0.0.0.0:8080,127.0.0.1:8081 \
    MOORLINE_ADMIN_URL=http://127.0.0.1:8081
# Anybody who runs it may be anybody: nothing in the image is writable for this user, or needs to be.
USER 10001:10001
EXPOSE 1883 8080
# No HEALTHCHECK: it would start a Python each time, and Kubernetes, which asks /healthz and /readyz, ignores it.
# No init: `moorline` is one where it is process 1 (broker/init.py).
ENTRYPOINT ["moorline"]
CMD ["serve"]
