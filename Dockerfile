# The whole pipeline in one image: `docker run IMAGE run --period 2024-03`, or the services of docker-compose.yml.
FROM python:3.12-slim

ENV PYTHONUNBUFFERED=1 \
    GX_ANALYTICS_ENABLED=false \
    CREDITVILLAGE_HOME=/var/lib/creditvillage \
    AIRFLOW_HOME=/var/lib/creditvillage/airflow \
    PATH=/opt/creditvillage/.venv/bin:$PATH

# gpg opens OpenPGP packages of banks
RUN apt-get update \
    && apt-get install -y --no-install-recommends gnupg \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --system --uid 10001 --create-home creditvillage \
    && install -d -m 0700 -o creditvillage -g creditvillage /var/lib/creditvillage

WORKDIR /opt/creditvillage
COPY .ci .ci
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY etl etl
COPY simulator simulator
RUN UV_NO_CACHE=1 sh .ci/install
COPY config config
COPY dags dags
COPY expectations expectations
COPY sql sql

USER creditvillage
VOLUME /var/lib/creditvillage
ENTRYPOINT ["creditvillage"]
CMD ["--help"]
