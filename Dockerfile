# The page in a container.
#
#   docker build --target cpu  -t inpainterz .        built-in engines, no network needed to run
#   docker build --target cuda -t inpainterz:cuda .   networks too; run with --gpus all
#   docker run -p 7860:7860 --tmpfs /tmp inpainterz
#
# Weights are kept in /weights: mount a volume there to fetch them once.

FROM python:3.12-slim AS base
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 \
    XDG_CACHE_HOME=/weights
RUN useradd --create-home --uid 1000 user && mkdir /weights && chown user /weights
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY inpainterz inpainterz
COPY third_party third_party
EXPOSE 7860
HEALTHCHECK --start-period=60s CMD \
    python -c "import urllib.request as u; u.urlopen('http://127.0.0.1:7860/robots.txt', timeout=5)"
ENTRYPOINT ["inpainterz", "serve", "--host", "0.0.0.0"]

FROM base AS cuda
# PyPI's torch brings the CUDA libraries along; the driver comes from the host
RUN pip install ".[ui,neural]"
USER user
CMD ["--engine-set", "auto"]

FROM base AS cpu
RUN pip install ".[ui]"
USER user
CMD []
