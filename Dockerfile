# The image of worker, beat and web. Two stages: what builds stays behind.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build

# The environment holds no pip of its own: the base image's installs into it from outside.
RUN python -m venv --without-pip /opt/regrow && python -m venv /opt/build

# Dependencies change seldom, so they come first and stay cached. Wheels only: nothing is compiled here.
COPY requirements/image.txt requirements/build.txt requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/regrow/bin/python install --require-hashes --only-binary :all: -r requirements/image.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/build/bin/pip install --require-hashes --only-binary :all: -r requirements/build.txt

# The wheel is the library alone.
COPY pyproject.toml README.md LICENSE ./
COPY regrow regrow
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --no-index --wheel-dir dist . \
 && pip --python /opt/regrow/bin/python install --no-deps --no-index dist/*.whl \
 && pip --python /opt/regrow/bin/python check

# What runs: the Celery app and its tasks, beside the library. Compiled now, for the root is read-only later.
WORKDIR /app
COPY worker worker
COPY tasks tasks
COPY config config
RUN /opt/regrow/bin/python -m compileall -q worker tasks \
 && PYTHONDONTWRITEBYTECODE=1 REGROW_PROFILE=testing REGROW_REDIS_URL=redis://nowhere \
    /opt/regrow/bin/python -c 'import regrow, worker.celery'


FROM python:${PYTHON}-slim
# Numeric, so that a platform can see that it is not root. worker/container_secrets.py knows the number too.
RUN groupadd --gid 10001 regrow \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/regrow --shell /usr/sbin/nologin regrow \
 && install -d -o 10001 -g 10001 -m 0750 /var/lib/regrow /var/lib/regrow/run

COPY --from=builder /opt/regrow /opt/regrow
COPY --from=builder /app /app

ENV PATH=/opt/regrow/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    REGROW_HOME=/var/lib/regrow
WORKDIR /app
USER 10001:10001
STOPSIGNAL SIGTERM

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Regrow" \
      org.opencontainers.image.description="The reliability worker for Celery: worker, beat and web" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

CMD ["celery", "--quiet", "-A", "worker", "worker"]
