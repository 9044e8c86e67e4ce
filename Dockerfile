# Build: docker build -t fluxshard .     Run: docker run -v "$PWD:/data" fluxshard build videos out
FROM python:3.11.13-slim-bookworm

# A CPU build of torch by default; for GPUs: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

RUN useradd --create-home --uid 1000 fluxshard
WORKDIR /opt/fluxshard

# Dependencies first: this layer is kept while only our code changes.
COPY constraints.txt ./
RUN pip install --no-cache-dir -c constraints.txt torch --index-url "$TORCH_INDEX"

COPY pyproject.toml README.md LICENSE ./
COPY flow_cache flow_cache
COPY shards shards
COPY pipeline pipeline
COPY trainer trainer
COPY fluxshard fluxshard
RUN pip install --no-cache-dir -c constraints.txt .

USER fluxshard
WORKDIR /data
ENTRYPOINT ["fluxshard"]
CMD ["--help"]
