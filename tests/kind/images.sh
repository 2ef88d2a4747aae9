#!/usr/bin/env bash
# Makes the images of Vault and PostgreSQL that the kind provider uses, on a machine that reaches no
# image registry: from the Vault that `alertstorm setup local` built and from Debian's PostgreSQL. For
# tests only; elsewhere Docker pulls the published images.
set -euo pipefail
vault=${ALERTSTORM_VAULT_IMAGE:-hashicorp/vault:1.21}
postgres=${ALERTSTORM_POSTGRES_IMAGE:-postgres:17}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

if ! docker image inspect "$vault" >/dev/null 2>&1; then
  binary=$(ls -t "${XDG_CACHE_HOME:-$HOME/.cache}"/alertstorm/servers/*/vault | head -1)
  mkdir -p "$work/vault/bin"
  cp "$binary" "$work/vault/bin/vault"
  tar -C "$work/vault" --owner=0 --group=0 -c . |
    docker import --change 'ENV PATH=/bin' --change 'EXPOSE 8200' - "$vault" >/dev/null
fi

if ! docker image inspect "$postgres" >/dev/null 2>&1; then
  packages=()
  command -v busybox >/dev/null || packages+=(busybox-static)
  ls /usr/lib/postgresql/*/bin/psql >/dev/null 2>&1 || packages+=(postgresql)
  if [ ${#packages[@]} -gt 0 ]; then
    { as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${packages[@]}"; } >&2
  fi
  root=$work/postgres
  bin=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
  mkdir -p "$root"/{bin,etc,tmp,usr/lib/postgresql,usr/share,lib64}
  chmod 1777 "$root/tmp"
  cp -a "$(dirname "$bin")" "$root/usr/lib/postgresql/"
  cp -a /usr/share/postgresql "$root/usr/share/"
  cp -a /usr/share/zoneinfo "$root/usr/share/" 2>/dev/null || true
  ldd "$bin/postgres" "$bin/initdb" "$bin/psql" "$(dirname "$bin")"/lib/*.so | grep -o '/[^ ]*\.so[^ ]*' | sort -u |
    while read -r library; do
      case $library in "$(dirname "$bin")"/*) continue ;; esac
      mkdir -p "$root$(dirname "$library")"
      cp -L "$library" "$root$library"
    done
  cp "$(command -v busybox)" "$root/bin/busybox"
  for name in sh cat echo printf mkdir id; do ln -s busybox "$root/bin/$name"; done
  echo 'postgres:x:999:999::/tmp:/bin/sh' > "$root/etc/passwd"
  echo 'postgres:x:999:' > "$root/etc/group"
  cat > "$root/bin/entrypoint" <<'S'
#!/bin/sh
# Does with these variables what the official image's entrypoint does.
set -e
export PGDATA=/tmp/data
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  printf %s "$POSTGRES_PASSWORD" > /tmp/password
  initdb --no-sync --username="$POSTGRES_USER" --pwfile=/tmp/password $POSTGRES_INITDB_ARGS >/dev/null
  echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
  : > /tmp/password
fi
unset POSTGRES_PASSWORD
exec "$@" -c unix_socket_directories=/tmp
S
  chmod 755 "$root/bin/entrypoint"
  tar -C "$root" --owner=0 --group=0 -c . |
    docker import --change "ENV PATH=$bin:/bin" --change 'USER 999' --change 'EXPOSE 5432' \
      --change 'ENTRYPOINT ["/bin/entrypoint"]' - "$postgres" >/dev/null
fi
