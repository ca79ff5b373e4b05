# One image per flavour: docker build --build-arg FLAVOUR=cpu|cuda --build-arg TORCH_INDEX=… .
# TORCH_INDEX: PyTorch's CPU wheel index, needed for FLAVOUR=cpu only. Where this repository is
# tested no container can be built: try a build before relying on it.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
ARG FLAVOUR=cpu
ARG TORCH_INDEX=
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv python3-dev g++ make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/inhouse
COPY Makefile pyproject.toml README.md LICENSE ./
COPY requirements requirements
COPY serve serve
COPY benchmarks benchmarks
COPY configs configs
RUN PIP_EXTRA_INDEX_URL="${TORCH_INDEX}" make setup FLAVOUR="${FLAVOUR}"

FROM ${BASE}
# A compiler and Python's headers stay: vLLM compiles a model for the machine it finds itself on.
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-dev g++ libtcmalloc-minimal4 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --create-home --uid 10001 inhouse
COPY --from=build /opt/inhouse /opt/inhouse
WORKDIR /srv/inhouse
RUN chown inhouse /srv/inhouse
USER inhouse
# The last two are what NVIDIA's container runtime reads; without a GPU they mean nothing.
ENV PATH=/opt/inhouse/.venv/bin:$PATH \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
EXPOSE 8000
VOLUME ["/srv/inhouse"]
HEALTHCHECK --start-period=15m CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health/live', timeout=3)"]
ENTRYPOINT ["inhouse"]
CMD ["serve", "--site", "/srv/inhouse/configs/sites/site.yaml"]
