# The same lock file and entry point as the Makefile, as a non-root user.
FROM python:3.11-slim
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PORT=5006 DEEPFEATURES_HOME=/data DEEPFEATURES_LOG=info
RUN apt-get update \
 && apt-get install -y --no-install-recommends make \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 1000 deepfeatures \
 && mkdir /data /app \
 && chown deepfeatures:deepfeatures /data /app
WORKDIR /app
COPY --chown=deepfeatures:deepfeatures Makefile pyproject.toml requirements.lock README.md LICENSE ./
COPY --chown=deepfeatures:deepfeatures deepfeatures deepfeatures
COPY --chown=deepfeatures:deepfeatures app app
USER deepfeatures
RUN make env
VOLUME /data
EXPOSE 5006
HEALTHCHECK --interval=30s --timeout=5s --start-period=240s \
  CMD .venv/bin/python -c "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/healthz', timeout=4)"
# A container is reached from outside; whoever publishes the port decides who can. Names of the
# computer other than localhost go into DEEPFEATURES_HOSTS, sign-in into DEEPFEATURES_AUTH...
CMD ["sh", "-c", ".venv/bin/python -m deepfeatures demo && exec .venv/bin/python -m deepfeatures serve --host 0.0.0.0 --port $PORT"]
