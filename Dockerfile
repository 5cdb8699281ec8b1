# The image of every service: `docker run IMAGE api|generator|projector|up ...`, and nats-server.
FROM python:3.12-slim AS build
RUN pip install --no-cache-dir uv
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
WORKDIR /src
# Dependencies first: they change more seldom than the sources.
COPY requirements.lock ./
RUN uv venv /opt/millstream \
    && uv pip install --python /opt/millstream --no-cache --require-hashes -r requirements.lock
COPY . .
# Builds the page too, with Node from a wheel.
RUN uv build --wheel --out-dir /wheels \
    && uv pip install --python /opt/millstream --no-cache --no-deps /wheels/*.whl

FROM python:3.12-slim
RUN useradd --create-home --uid 10001 millstream \
    && install -d -o millstream -g millstream /data
COPY --from=build /opt/millstream /opt/millstream
ENV PATH=/opt/millstream/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MILLSTREAM_DATA_DIR=/data \
    MILLSTREAM_LOG_FORMAT=json
USER millstream
VOLUME /data
EXPOSE 5001
ENTRYPOINT ["millstream"]
CMD ["--help"]
